//! How long the windows must be, computed before the drill (verdict.md section 5).

use statrs::function::factorial::ln_binomial;

use super::bet::Bet;
use super::interval::{Sample, combine_upper, floor_n0};

/// The whole drill passes with at least this probability when nothing is wrong.
const WHOLE_POWER: f64 = 0.95;
/// A window must suffice for this many whole seconds in a row: power is a saw-tooth.
const SAW_TOOTH_S: u64 = 5;
/// Not planned beyond: probes in one window, and seconds of one window.
const MAX_PROBES: u64 = 200_000;
const MAX_SECONDS: u64 = 86_400;

/// Probability that `U(alpha) < margin` when both windows truly have the bad rate `p`.
pub fn power(p: f64, n_f: u64, n_b: u64, margin: f64, alpha: f64) -> f64 {
    power_against(p, p, n_f, n_b, margin, alpha)
}

/// The same with a true rate of its own in each window; at `pf = pb + margin` it is the
/// probability of a false proof.
pub fn power_against(pf: f64, pb: f64, n_f: u64, n_b: u64, margin: f64, alpha: f64) -> f64 {
    if n_f == 0 || n_b == 0 {
        return 0.0;
    }
    let (fault, base) = (Binomial::new(n_f, pf), Binomial::new(n_b, pb));
    let faults: Vec<(f64, f64)> = fault
        .samples(n_f)
        .zip(upper_limits(&fault, n_f, alpha))
        .map(|(s, u)| (s.rate(), u))
        .collect();
    let bases = base.samples(n_b).zip(lower_limits(&base, n_b, alpha));
    let below: Vec<f64> = fault.cumulated();
    let mut sum = 0.0;
    for ((sample, low), mass) in bases.zip(&base.mass) {
        let rate = sample.rate();
        // U grows with the bad count of the fault window, so the accepted counts are a prefix.
        let accepted =
            faults.partition_point(|(pf, uf)| combine_upper(*pf, *uf, rate, low) < margin);
        if accepted > 0 {
            sum += mass * below[accepted - 1];
        }
    }
    sum.min(1.0)
}

/// Clopper-Pearson upper limits of neighbouring counts, in their order.
fn upper_limits(counts: &Binomial, n: u64, alpha: f64) -> Vec<f64> {
    interpolated(counts.samples(n).collect(), alpha)
}

/// The lower limit of x bad is 1 minus the upper limit of n - x bad.
fn lower_limits(counts: &Binomial, n: u64, alpha: f64) -> Vec<f64> {
    let good = counts.samples(n).rev().map(|s| Sample {
        bad: s.total - s.bad,
        ..s
    });
    let mut limits: Vec<f64> = interpolated(good.collect(), alpha)
        .into_iter()
        .map(|u| 1.0 - u)
        .collect();
    limits.reverse();
    limits
}

/// Upper limits of samples in ascending order. Of more than 128 some are computed, each one
/// bracketing the next, and the distance of limit and rate between them is taken as straight: off
/// by less than 1e-6, while the rates themselves are far more than that apart.
fn interpolated(samples: Vec<Sample>, alpha: f64) -> Vec<f64> {
    let stride = samples.len().div_ceil(128).max(1);
    let mut limits = vec![0.0; samples.len()];
    let mut known: Option<(usize, f64)> = None;
    for at in 0..samples.len() {
        if at % stride != 0 && at + 1 != samples.len() {
            continue;
        }
        let last = known.map_or(0.0, |(_, limit)| limit);
        limits[at] = samples[at].upper_above(alpha, last, (stride + 1) as f64);
        if let Some((from, _)) = known {
            let start = limits[from] - samples[from].rate();
            let slope = (limits[at] - samples[at].rate() - start) / (at - from) as f64;
            for between in from + 1..at {
                limits[between] = samples[between].rate() + start + slope * (between - from) as f64;
            }
        }
        known = Some((at, limits[at]));
    }
    limits
}

/// A binomial distribution where it is not negligible (1e-14).
struct Binomial {
    first: u64,
    mass: Vec<f64>,
}

impl Binomial {
    fn new(n: u64, p: f64) -> Binomial {
        let p = if p.is_nan() { 1.0 } else { p.clamp(0.0, 1.0) };
        let mode = (((n + 1) as f64 * p).floor() as u64).min(n);
        if p == 0.0 || p == 1.0 {
            return Binomial {
                first: mode,
                mass: vec![1.0],
            };
        }
        let ln = ln_binomial(n, mode) + mode as f64 * p.ln() + (n - mode) as f64 * (1.0 - p).ln();
        let (top, odds) = (ln.exp(), p / (1.0 - p));
        let (mut down, mut x, mut mass) = (Vec::new(), mode, top);
        while x > 0 && mass > 1e-14 {
            mass *= x as f64 / ((n - x + 1) as f64 * odds);
            x -= 1;
            down.push(mass);
        }
        let first = x;
        down.reverse();
        down.push(top);
        let (mut x, mut mass) = (mode, top);
        while x < n && mass > 1e-14 {
            mass *= (n - x) as f64 * odds / (x + 1) as f64;
            x += 1;
            down.push(mass);
        }
        Binomial { first, mass: down }
    }

    fn counts(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.first..self.first + self.mass.len() as u64
    }

    fn samples(&self, n: u64) -> impl DoubleEndedIterator<Item = Sample> {
        self.counts().map(move |x| Sample::new(x, n))
    }

    fn cumulated(&self) -> Vec<f64> {
        let sums = self.mass.iter().scan(0.0, |sum, mass| {
            *sum += mass;
            Some(*sum)
        });
        sums.collect()
    }

    /// The largest count x with P(X >= x) at least `tail`.
    fn upper_quantile(&self, tail: f64) -> u64 {
        let mut sum = 0.0;
        for (index, mass) in self.mass.iter().enumerate().rev() {
            sum += mass;
            if sum >= tail {
                return self.first + index as u64;
            }
        }
        self.first
    }
}

/// What a window is asked to prove.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Question {
    /// Bad rate expected of a healthy stream.
    pub p: f64,
    pub margin: f64,
    pub alpha: f64,
    /// Streams that must not notice (M).
    pub others: usize,
    /// The most that bad rate and margin together may be, or the abort is too slow.
    pub p0_max: f64,
}

impl Question {
    /// Smallest whole number of seconds, for the fault window and as much baseline, with which a
    /// stream of `rate` probes/s is proved isolated often enough; `None` beyond a day or 200,000
    /// probes, or if the stream would not be healthy (`p0_max`). Of the statistics alone; see
    /// [`Self::drill_seconds`].
    pub fn needed_seconds(&self, rate: f64) -> Option<u64> {
        if !(rate > 0.0 && rate.is_finite() && self.p < self.p0_max && self.margin > 0.0) {
            return None;
        }
        let zero_error = (floor_n0(self.alpha, self.margin) as f64 / rate).ceil() as u64;
        // The count saturates for a rate near 0: not plannable, and no number to go on with.
        if !self.is_plannable(zero_error, rate) {
            return None;
        }
        let mut second = self.first_try(zero_error.max(1), rate);
        let mut run = 0;
        while self.is_plannable(second, rate) {
            run = if self.suffices(second, rate) {
                run + 1
            } else {
                0
            };
            if run == SAW_TOOTH_S {
                return Some(second + 1 - SAW_TOOTH_S);
            }
            second += 1;
        }
        None
    }

    /// [`Self::needed_seconds`], and a baseline long enough that the online abort is quick.
    pub fn drill_seconds(&self, rate: f64) -> Option<u64> {
        let needed = self.needed_seconds(rate)?;
        if self.p + self.margin >= self.p0_max {
            return None; // no baseline is long enough
        }
        (needed..)
            .take_while(|seconds| self.is_plannable(*seconds, rate))
            .find(|seconds| self.suffices_from(*seconds, rate))
    }

    /// Whether windows of exactly `seconds`, and of up to four more, would do for a drill.
    pub fn suffices_from(&self, seconds: u64, rate: f64) -> bool {
        self.is_plannable(seconds, rate)
            && (seconds..seconds + SAW_TOOTH_S)
                .all(|s| self.passes_the_gate(probes(s, rate)) && self.suffices(s, rate))
    }

    fn is_plannable(&self, seconds: u64, rate: f64) -> bool {
        seconds <= MAX_SECONDS && seconds as f64 * rate <= MAX_PROBES as f64
    }

    fn shortfall(&self) -> f64 {
        (1.0 - WHOLE_POWER) / self.others.max(1) as f64
    }

    fn suffices(&self, seconds: u64, rate: f64) -> bool {
        let n = probes(seconds, rate);
        n >= floor_n0(self.alpha, self.margin)
            && !self.is_hopeless(seconds, rate)
            && power(self.p, n, n, self.margin, self.alpha) >= 1.0 - self.shortfall()
    }

    /// Whether a baseline of `n` probes, as bad as expected, lets the online abort be quick enough.
    fn passes_the_gate(&self, n: u64) -> bool {
        let bad = Binomial::new(n, self.p).upper_quantile(0.5);
        let base = Sample::new(bad, n);
        Bet::on_other(base, self.others, self.alpha, self.margin, 1).p0() <= self.p0_max
    }

    /// A cheap bound: outcomes more likely than the allowed shortfall would not be proved.
    fn is_hopeless(&self, seconds: u64, rate: f64) -> bool {
        let n = probes(seconds, rate);
        let counts = Binomial::new(n, self.p);
        let worse = Sample::new(counts.upper_quantile(1.1 * self.shortfall()), n);
        let better = Sample::new(counts.upper_quantile(0.05), n);
        let (pf, uf) = (worse.rate(), worse.upper(self.alpha));
        combine_upper(pf, uf, better.rate(), better.lower(self.alpha)) >= self.margin
    }

    /// Where to begin trying: near the turning point of the power, found by halving; up to five
    /// minutes far enough before it that no tooth of the saw is jumped over.
    fn first_try(&self, from: u64, rate: f64) -> u64 {
        let (mut low, mut high) = (from, from);
        while self.is_plannable(high, rate) && !self.suffices(high, rate) {
            low = high;
            high *= 2;
        }
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if self.is_plannable(middle, rate) && !self.suffices(middle, rate) {
                low = middle;
            } else {
                high = middle;
            }
        }
        if high > 300 {
            high
        } else {
            from.max((high * 4 / 5).saturating_sub(SAW_TOOTH_S))
        }
    }
}

fn probes(seconds: u64, rate: f64) -> u64 {
    (seconds as f64 * rate).floor() as u64
}

/// The bad rate to plan with, from a baseline: Clopper-Pearson's upper limit at 50 %.
pub fn planning_rate(bad: u64, total: u64) -> f64 {
    Sample::new(bad, total).upper(0.5)
}

/// Blocks after which the abort speaks when a quiet stream turns bad by `y` (share of its probes)
/// half way through `planned` blocks; `None`: not before the end.
pub fn abort_preview(question: &Question, n_b: u64, planned: u32, y: f64) -> Option<u32> {
    let Question {
        alpha,
        margin,
        others,
        ..
    } = *question;
    let mut bet = Bet::on_other(Sample::new(0, n_b), others, alpha, margin, planned);
    for _ in 0..planned / 2 {
        bet.block(0.0);
    }
    (1..=planned.div_ceil(2)).find(|_| {
        bet.block(y);
        bet.is_over()
    })
}

#[cfg(test)]
mod tests {
    use super::super::bet::P0_MAX;
    use super::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() <= 0.6e-6, "got {got}, want {want}");
    }

    #[test]
    fn power_vectors() {
        for (p, n, want) in [
            (0.0, 227, 0.0),
            (0.0, 228, 1.0),
            (0.001, 330, 0.957959),
            (0.001, 600, 0.999654),
            (0.005, 600, 0.929848),
            (0.005, 940, 0.996563),
            (0.01, 940, 0.943329),
            (0.01, 1200, 0.983925),
        ] {
            near(power(p, n, n, 0.02, 0.01), want);
        }
    }

    #[test]
    fn false_proof_at_the_margin_is_rare() {
        near(power_against(0.021, 0.001, 600, 600, 0.02, 0.01), 0.006136);
        near(
            power_against(0.025, 0.005, 1200, 1200, 0.02, 0.01),
            0.008490,
        );
    }

    /// A fault window with twice the probes of its baseline counts only as many; that must not
    /// make a false proof more likely than alpha.
    #[test]
    fn giving_away_a_surplus_keeps_the_error_bound() {
        for (pb, n_b) in [(0.0, 300u64), (0.001, 400), (0.005, 600), (0.01, 900)] {
            let n_f = 2 * n_b;
            let (fault, base) = (Binomial::new(n_f, pb + 0.02), Binomial::new(n_b, pb));
            let mut false_proofs = 0.0;
            for (xb, mass_b) in base.counts().zip(&base.mass) {
                for (xf, mass_f) in fault.counts().zip(&fault.mass) {
                    let now = Sample::new(xf, n_f).at_most(n_b as f64);
                    if now.rate() > pb + 0.02 {
                        break; // never below the margin from here on
                    }
                    if mass_b * mass_f < 1e-9 {
                        continue;
                    }
                    if super::super::interval::upper(now, Sample::new(xb, n_b), 0.01) < 0.02 {
                        false_proofs += mass_b * mass_f;
                    }
                }
            }
            assert!(false_proofs < 0.01, "pb {pb}: {false_proofs}");
        }
    }

    #[test]
    fn needed_seconds_table() {
        let table: [(f64, f64, [u64; 4]); 12] = [
            (0.01, 0.0, [23; 4]),
            (0.01, 0.001, [46, 54, 58, 66]),
            (0.01, 0.005, [99, 126, 142, 156]),
            (0.01, 0.01, [171, 223, 251, 277]),
            (0.02, 0.0, [12; 4]),
            (0.02, 0.001, [17, 21, 25, 25]),
            (0.02, 0.005, [32, 41, 45, 49]),
            (0.02, 0.01, [50, 63, 70, 78]),
            (0.05, 0.0, [5; 4]),
            (0.05, 0.001, [7, 7, 9, 9]),
            (0.05, 0.005, [9, 11, 12, 13]),
            (0.05, 0.01, [12, 14, 16, 18]),
        ];
        for (margin, p, row) in table {
            for (others, want) in [1, 4, 9, 19].into_iter().zip(row) {
                let question = Question {
                    p,
                    margin,
                    alpha: 0.01,
                    others,
                    p0_max: P0_MAX,
                };
                assert_eq!(question.needed_seconds(20.0), Some(want), "{question:?}");
            }
        }
        for (margin, row) in [(0.02, [3, 5, 9, 14]), (0.01, [5, 12, 29, 51])] {
            for (p, want) in [0.0, 0.001, 0.005, 0.01].into_iter().zip(row) {
                let question = Question {
                    p,
                    margin,
                    alpha: 0.01,
                    others: 9,
                    p0_max: P0_MAX,
                };
                assert_eq!(question.needed_seconds(100.0), Some(want), "{question:?}");
            }
        }
    }

    #[test]
    fn abort_preview_vectors() {
        for (others, blocks) in [(9, [4, 5, 7, 11]), (1, [3, 4, 6, 9]), (29, [4, 5, 8, 12])] {
            let question = Question {
                p: 0.0,
                margin: 0.02,
                alpha: 0.01,
                others,
                p0_max: P0_MAX,
            };
            for (y, want) in [1.0, 0.5, 0.2, 0.1].into_iter().zip(blocks) {
                assert_eq!(
                    abort_preview(&question, 1200, 60, y),
                    Some(want),
                    "M {others}, y {y}"
                );
            }
            assert_eq!(abort_preview(&question, 1200, 60, 0.02), None);
        }
    }

    #[test]
    fn the_impossible_is_said_to_be_so() {
        let question = Question {
            p: 0.05,
            margin: 0.002,
            alpha: 0.01,
            others: 9,
            p0_max: P0_MAX,
        };
        assert_eq!(question.needed_seconds(20.0), None);
        let ill = Question {
            p: 1.0,
            margin: 0.02,
            ..question
        };
        assert_eq!(ill.needed_seconds(20.0), None);
        for rate in [0.0, -1.0, 1e-300, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(question.needed_seconds(rate), None, "{rate}");
        }
    }
}
