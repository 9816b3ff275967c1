//! Limits for bad rates and their differences: Clopper-Pearson, MOVER, dispersion, Holm, e-BH.
//!
//! Formulas and vectors: verdict.md sections 3, 4 and 7. Every function is total: an impossible
//! count, or arithmetic that fails, gives the limit that proves nothing.

use statrs::distribution::{Beta, ContinuousCDF};

/// Bad probes out of all valid ones; real numbers, because dispersion divides them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub bad: f64,
    pub total: f64,
}

impl Sample {
    pub fn new(bad: u64, total: u64) -> Sample {
        Sample {
            bad: bad as f64,
            total: total as f64,
        }
    }

    /// The bad rate; 0 of an empty sample (whose limits are 0 and 1).
    pub fn rate(self) -> f64 {
        if self.total > 0.0 {
            (self.bad / self.total).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The same rate from at most `total` probes: a longer sample gives away its surplus.
    pub fn at_most(self, total: f64) -> Sample {
        if self.total > total {
            Sample {
                bad: self.rate() * total,
                total,
            }
        } else {
            self
        }
    }

    /// The same rate, worth `phi` times fewer probes.
    pub fn deflated(self, phi: f64) -> Sample {
        Sample {
            bad: self.bad / phi,
            total: self.total / phi,
        }
    }

    /// Clopper-Pearson lower limit at one-sided level `a`.
    pub fn lower(self, a: f64) -> f64 {
        let Sample { bad, total } = self;
        if !(total > 0.0 && bad > 0.0) {
            return 0.0;
        }
        let bad = bad.min(total);
        beta_quantile(a, bad, total - bad + 1.0).unwrap_or(0.0)
    }

    /// Clopper-Pearson upper limit at one-sided level `a`.
    pub fn upper(self, a: f64) -> f64 {
        let Sample { bad, total } = self;
        if !(total > 0.0 && bad < total) {
            return 1.0;
        }
        if bad <= 0.0 {
            return 1.0 - a.powf(1.0 / total);
        }
        beta_quantile(1.0 - a, bad + 1.0, total - bad).unwrap_or(1.0)
    }

    /// `upper`, given that the limit is not below `known` and hardly more than `probes` above it:
    /// for tables of neighbouring counts.
    pub(super) fn upper_above(self, a: f64, known: f64, probes: f64) -> f64 {
        let Sample { bad, total } = self;
        if !(known > 0.0 && bad > 0.0 && bad < total) {
            return self.upper(a);
        }
        let Ok(beta) = Beta::new(bad + 1.0, total - bad) else {
            return 1.0;
        };
        secant(&beta, 1.0 - a, known, probes / total).unwrap_or_else(|| self.upper(a))
    }
}

/// Regula falsi (Illinois) from `low` upwards, to a relative width of 1e-10; `None` if it does not
/// get there soon, for the caller to bisect.
fn secant(beta: &Beta, p: f64, low: f64, step: f64) -> Option<f64> {
    let error = |x: f64| beta.cdf(x) - p;
    let (mut low, mut high) = (low, (low + step).min(1.0));
    let (mut below, mut above) = (error(low), error(high));
    while above < 0.0 && high < 1.0 {
        (low, below) = (high, above);
        high = (high + step).min(1.0);
        above = error(high);
    }
    for _ in 0..60 {
        if !(below <= 0.0 && above >= 0.0) {
            return None;
        }
        let middle = (low * above - high * below) / (above - below);
        // 0 / 0 where the levels at both ends cannot be told apart.
        if !middle.is_finite() {
            return None;
        }
        let here = error(middle);
        if here.abs() < 1e-13 || high - low < 1e-10 * high {
            return Some(middle);
        }
        if here < 0.0 {
            (low, below) = (middle, here);
            above /= 2.0;
        } else {
            (high, above) = (middle, here);
            below /= 2.0;
        }
    }
    None
}

/// At most 100 halvings on the distribution function; statrs' own inverse may not return for
/// extreme tails (its issue 435).
fn beta_quantile(p: f64, a: f64, b: f64) -> Option<f64> {
    let beta = Beta::new(a, b).ok()?;
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..100 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        let below = beta.cdf(middle);
        if below.is_nan() {
            return None;
        }
        if below < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

/// Difference of two bad rates with its one-sided limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub d: f64,
    pub l: f64,
    pub u: f64,
}

/// MOVER (Newcombe's square-and-add) with Clopper-Pearson limits, each side at level `a`.
/// Without probes on one side nothing is known: d 0, l -1, u 1.
pub fn difference(now: Sample, base: Sample, a: f64) -> Difference {
    Difference {
        d: rate_excess(now, base),
        l: lower(now, base, a),
        u: upper(now, base, a),
    }
}

fn rate_excess(now: Sample, base: Sample) -> f64 {
    if now.total > 0.0 && base.total > 0.0 {
        now.rate() - base.rate()
    } else {
        0.0
    }
}

/// The side of `difference` that proves degradation.
pub fn lower(now: Sample, base: Sample, a: f64) -> f64 {
    if !(now.total > 0.0 && base.total > 0.0) {
        return -1.0;
    }
    let (pf, pb) = (now.rate(), base.rate());
    combine_lower(pf, now.lower(a), pb, base.upper(a))
}

/// The side of `difference` that proves isolation.
pub fn upper(now: Sample, base: Sample, a: f64) -> f64 {
    if !(now.total > 0.0 && base.total > 0.0) {
        return 1.0;
    }
    let (pf, pb) = (now.rate(), base.rate());
    combine_upper(pf, now.upper(a), pb, base.lower(a))
}

fn combine_lower(pf: f64, lf: f64, pb: f64, ub: f64) -> f64 {
    (pf - pb - (pf - lf).hypot(ub - pb)).max(-1.0)
}

/// `U` from the rates and the limits that it needs; the planner calls it with cached limits.
pub(super) fn combine_upper(pf: f64, uf: f64, pb: f64, lb: f64) -> f64 {
    (pf - pb + (uf - pf).hypot(pb - lb)).min(1.0)
}

/// The fewest probes that can prove an excess below `margin`: `ceil(ln alpha / ln(1 - margin))`.
pub fn floor_n0(alpha: f64, margin: f64) -> u64 {
    let n0 = (alpha.ln() / (1.0 - margin).ln()).ceil();
    // A cast saturates; NaN becomes 0.
    (n0 as u64).max(1)
}

/// Dispersion of block counts `(bad, total)` against the binomial, at least 1 (Pearson's form,
/// which is section 4's for blocks of equal size).
pub fn dispersion(blocks: &[(u32, u32)]) -> f64 {
    let blocks: Vec<(f64, f64)> = blocks
        .iter()
        .filter(|b| b.1 > 0)
        .map(|b| (f64::from(b.0), f64::from(b.1)))
        .collect();
    let total: f64 = blocks.iter().map(|b| b.1).sum();
    let p = blocks.iter().map(|b| b.0).sum::<f64>() / total;
    // Also leaves on the NaN of an empty window.
    if blocks.len() < 2 || !(p > 0.0 && p < 1.0) {
        return 1.0;
    }
    let chi2: f64 = blocks
        .iter()
        .map(|(x, n)| (x - n * p).powi(2) / (n * p * (1.0 - p)))
        .sum();
    (chi2 / (blocks.len() - 1) as f64).max(1.0)
}

/// Holm's step-down over `claims` claims: `proved(i, level)` says whether claim i holds at a
/// level, and must be monotone in it. Returns which ones hold at `alpha` together.
pub fn holm(claims: usize, alpha: f64, proved: impl Fn(usize, f64) -> bool) -> Vec<bool> {
    let mut held = vec![false; claims];
    loop {
        let open = held.iter().filter(|h| !**h).count();
        if open == 0 {
            return held;
        }
        let level = alpha / open as f64;
        let found: Vec<usize> = (0..claims)
            .filter(|&i| !held[i] && proved(i, level))
            .collect();
        if found.is_empty() {
            return held;
        }
        for i in found {
            held[i] = true;
        }
    }
}

/// e-BH (Wang and Ramdas 2022): indices of the rejected e-values. Only for e-values at a planned
/// end; on running maxima it does not control the false discovery rate.
pub fn e_bh(e_values: &[f64], alpha: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..e_values.len()).collect();
    order.sort_by(|&a, &b| e_values[b].total_cmp(&e_values[a]));
    let count = e_values.len() as f64;
    let last = (1..=order.len())
        .rev()
        .find(|&i| e_values[order[i - 1]] >= count / (i as f64 * alpha))
        .unwrap_or(0);
    order.truncate(last);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64, digits: i32) {
        assert!(
            (got - want).abs() <= 0.51 * 10f64.powi(-digits),
            "got {got}, want {want}"
        );
    }

    #[test]
    fn clopper_pearson_vectors() {
        for (x, n, a, l, u) in [
            (0, 1200, 0.01, 0.0, 0.003830),
            (1, 1200, 0.01, 0.000008, 0.005519),
            (3, 1200, 0.01, 0.000364, 0.008346),
            (12, 600, 0.01, 0.009089, 0.037692),
            (600, 600, 0.01, 0.992354, 1.0),
            (0, 600, 0.001 / 9.0, 0.0, 0.015060),
            (0, 1200, 0.001 / 9.0, 0.0, 0.007559),
            (6, 1200, 0.001 / 9.0, 0.000608, 0.017511),
            (2, 2400, 0.001 / 3.0, 0.000011, 0.005209),
        ] {
            near(Sample::new(x, n).lower(a), l, 6);
            near(Sample::new(x, n).upper(a), u, 6);
        }
    }

    #[test]
    fn mover_vectors() {
        for (xf, nf, xb, nb, d, l, u) in [
            (0, 1200, 0, 1200, 0.000000, -0.003830, 0.003830),
            (0, 227, 0, 227, 0.000000, -0.020083, 0.020083),
            (0, 228, 0, 228, 0.000000, -0.019995, 0.019995),
            (1, 330, 0, 330, 0.003030, -0.011149, 0.019945),
            (6, 1200, 6, 1200, 0.000000, -0.007919, 0.007919),
            (24, 1200, 1, 1200, 0.019167, 0.009709, 0.030741),
            (40, 1200, 1, 1200, 0.032500, 0.020626, 0.046634),
            (60, 1200, 1, 1200, 0.049167, 0.034836, 0.065793),
            (120, 1200, 0, 1200, 0.100000, 0.080410, 0.121908),
            (1200, 1200, 0, 1200, 1.000000, 0.994583, 1.000000),
            (0, 150, 3, 150, -0.020000, -0.065412, 0.014724),
            (5, 200, 0, 200, 0.025000, -0.004371, 0.064224),
            (12, 1200, 12, 600, -0.010000, -0.028517, 0.004100),
            (30, 1200, 24, 1200, 0.005000, -0.009833, 0.020034),
            (0, 1200, 24, 1200, -0.020000, -0.031545, -0.010935),
        ] {
            let got = difference(Sample::new(xf, nf), Sample::new(xb, nb), 0.01);
            near(got.d, d, 6);
            near(got.l, l, 6);
            near(got.u, u, 6);
        }
        for (xf, l) in [
            (150, 0.102304),
            (180, 0.125494),
            (60, 0.034836),
            (1200, 0.993115),
        ] {
            near(
                lower(Sample::new(xf, 1200), Sample::new(1, 1200), 0.01),
                l,
                6,
            );
        }
    }

    #[test]
    fn nothing_is_proved_by_nothing() {
        for (now, base) in [
            (Sample::new(0, 0), Sample::new(0, 1200)),
            (Sample::new(0, 1200), Sample::new(0, 0)),
            (
                Sample {
                    bad: f64::NAN,
                    total: f64::NAN,
                },
                Sample::new(0, 10),
            ),
        ] {
            assert_eq!(
                difference(now, base, 0.01),
                Difference {
                    d: 0.0,
                    l: -1.0,
                    u: 1.0
                }
            );
        }
        // More bad than valid cannot be, and must not read as a good rate.
        assert_eq!(Sample::new(7, 5).upper(0.01), 1.0);
    }

    #[test]
    fn floors() {
        for (alpha, margin, n0) in [
            (0.01, 0.01, 459),
            (0.01, 0.02, 228),
            (0.01, 0.05, 90),
            (0.05, 0.01, 299),
            (0.05, 0.02, 149),
            (0.05, 0.05, 59),
        ] {
            assert_eq!(floor_n0(alpha, margin), n0);
        }
        assert_eq!(floor_n0(0.01, 1.0), 1);
    }

    #[test]
    fn dispersion_vectors() {
        let blocks = |xs: [u32; 10]| xs.map(|x| (x, 20));
        near(
            dispersion(&blocks([0, 0, 1, 0, 0, 0, 0, 20, 0, 0])),
            21.0990,
            4,
        );
        assert_eq!(dispersion(&blocks([1, 0, 0, 1, 0, 0, 1, 0, 0, 0])), 1.0);
        assert_eq!(dispersion(&[]), 1.0);
        assert_eq!(dispersion(&blocks([20; 10])), 1.0);
    }

    #[test]
    fn holm_steps_down() {
        let p = [0.004, 0.03, 0.012, 0.2];
        // 0.05/4, /3, /2: 0.004, 0.012 hold, 0.03 > 0.025 does not.
        assert_eq!(
            holm(4, 0.05, |i, level| p[i] <= level),
            [true, false, true, false]
        );
        // Bonferroni alone would refuse the second one here.
        let p = [0.001, 0.02, 0.9];
        assert_eq!(holm(3, 0.05, |i, level| p[i] <= level), [true, true, false]);
        assert!(holm(0, 0.05, |_, _| true).is_empty());
    }

    #[test]
    fn e_bh_vectors() {
        let e = [40.0, 5000.0, 0.2, 1500.0, 12.0, 3.0, 1.0, 0.9, 0.5];
        for (alpha, count) in [(0.01, 2), (0.05, 2), (0.2, 4)] {
            assert_eq!(e_bh(&e, alpha).len(), count);
        }
        assert_eq!(e_bh(&e, 0.2), [1, 3, 0, 4]);
    }
}
