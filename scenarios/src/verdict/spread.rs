//! Limits from the spread of blocks: they hold however the errors inside a block depend on each other.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::interval::{self, Difference, Sample};

/// The shares of bad in the blocks of one window, for limits that need no independence inside a
/// block: only that blocks do not depend on each other, and that there are several.
#[derive(Clone, Copy, Debug)]
struct Spread {
    mean: f64,
    /// Variance of the mean.
    variance: f64,
    freedom: f64,
}

impl Spread {
    fn of(blocks: &[(u32, u32)]) -> Option<Spread> {
        let shares: Vec<f64> = blocks
            .iter()
            .filter(|block| block.1 > 0)
            .map(|block| f64::from(block.0) / f64::from(block.1))
            .collect();
        if shares.len() < 2 {
            return None;
        }
        let count = shares.len() as f64;
        let mean = shares.iter().sum::<f64>() / count;
        let squares: f64 = shares.iter().map(|share| (share - mean).powi(2)).sum();
        Some(Spread {
            mean,
            variance: squares / (count - 1.0) / count,
            freedom: count - 1.0,
        })
    }
}

/// Limits of the difference of two windows from the spread of their blocks (Welch), each side at level
/// `a`; with fewer than two blocks on a side nothing is known.
pub fn difference(now: &[(u32, u32)], base: &[(u32, u32)], a: f64) -> Difference {
    let (Some(now), Some(base)) = (Spread::of(now), Spread::of(base)) else {
        return Difference {
            d: 0.0,
            l: -1.0,
            u: 1.0,
        };
    };
    let d = now.mean - base.mean;
    let variance = now.variance + base.variance;
    let parts = now.variance.powi(2) / now.freedom + base.variance.powi(2) / base.freedom;
    if variance <= 0.0 || parts <= 0.0 {
        return Difference { d, l: d, u: d };
    }
    let reach = t_quantile(a, variance.powi(2) / parts) * variance.sqrt();
    Difference {
        d,
        l: (d - reach).max(-1.0),
        u: (d + reach).min(1.0),
    }
}

/// Upper limit of the difference at level `a`: by the spread of the blocks, and by the count as if it
/// were of fewer requests, as many fewer as the more clumped of the two windows says. The first alone
/// is too sure of a window in which the clumps happened to be few: there the spread is small as well.
pub fn upper_difference(now: &[(u32, u32)], base: &[(u32, u32)], a: f64) -> f64 {
    let phi = interval::dispersion(now).max(interval::dispersion(base));
    let deflated = |blocks: &[(u32, u32)]| {
        let sum = |part: fn(&(u32, u32)) -> u32| blocks.iter().map(|b| u64::from(part(b))).sum();
        Sample::new(sum(|block| block.0), sum(|block| block.1)).deflated(phi)
    };
    let (now_few, base_few) = (deflated(now), deflated(base));
    let by_count = interval::upper(now_few.at_most(base_few.total), base_few, a);
    by_count.max(difference(now, base, a).u)
}

/// Upper limit of a bad rate from the spread of its blocks, at one-sided level `a`.
pub fn upper(blocks: &[(u32, u32)], a: f64) -> f64 {
    Spread::of(blocks).map_or(1.0, |spread| {
        let reach = match spread.variance > 0.0 {
            true => t_quantile(a, spread.freedom) * spread.variance.sqrt(),
            false => 0.0,
        };
        (spread.mean + reach).min(1.0)
    })
}

/// The upper `a` quantile of Student's t, by bisection as in `interval`.
fn t_quantile(a: f64, freedom: f64) -> f64 {
    let Ok(t) = StudentsT::new(0.0, 1.0, freedom) else {
        return f64::INFINITY;
    };
    let (mut low, mut high) = (0.0, 1e9);
    for _ in 0..100 {
        let middle = low + (high - low) / 2.0;
        if t.sf(middle) > a {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
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
    fn students_t_vectors() {
        // Any table of the distribution.
        for (a, freedom, t) in [
            (0.01, 12.0, 2.681),
            (0.05, 4.0, 2.132),
            (0.001, 30.0, 3.385),
        ] {
            near(t_quantile(a, freedom), t, 3);
        }
    }

    #[test]
    fn blocks_that_differ_widen_the_limits_and_one_block_proves_nothing() {
        let even = [(1, 20); 12];
        let clumped = [(0, 20), (0, 20), (0, 20), (0, 20), (0, 20), (12, 20)];
        let clumped = [clumped, clumped].concat();
        let u = |now: &[(u32, u32)]| difference(now, &even, 0.01).u;
        near(u(&even), 0.0, 9);
        // Mean 0.1, variance of the mean 0.6^2 * (1/6)(5/6) * 12/11 / 12 = 0.004545.
        near(u(&clumped), 0.05 + 2.718_08 * 0.004_545_45_f64.sqrt(), 4);
        assert_eq!(u(&clumped[..1]), 1.0);
        assert_eq!(difference(&clumped, &[], 0.01).l, -1.0);
        assert_eq!(upper(&clumped[..1], 0.01), 1.0);
        near(
            upper(&clumped, 0.01),
            0.1 + 2.718_08 * 0.004_545_45_f64.sqrt(),
            4,
        );
    }
}
