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
///
/// More errors can make blocks more alike, and both limits smaller. So the greatest limit counts that any part of
/// these errors has: of so many errors the part that lies in the fewest blocks, and as many as [`parts`] says.
/// Nothing of this is asked where all of them are not below `margin` already.
pub fn upper_difference(now: &[(u32, u32)], base: &[(u32, u32)], a: f64, margin: f64) -> f64 {
    let plain = upper_difference_of(now, base, a);
    // Asked this way round: whatever does not compare must not pass.
    let is_below = plain < margin;
    if !is_below {
        return plain;
    }
    let worst_first = worst_first(now);
    let all = now.iter().map(|block| u64::from(block.0)).sum();
    let limits = parts(all).map(|errors| {
        let now = only(&worst_first, errors);
        upper_difference_of(&now, base, a)
    });
    limits.fold(plain, f64::max)
}

/// Fewer than all errors: each number up to 256, then 128 in each octave.
fn parts(all: u64) -> impl Iterator<Item = u64> {
    let next = |errors: &u64| Some(errors + (1 << (errors / 128).max(1).ilog2()));
    let some = std::iter::successors(Some(0_u64), next);
    some.take_while(move |errors| *errors < all)
}

fn worst_first(blocks: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let share = |block: &(u32, u32)| f64::from(block.0) / f64::from(block.1.max(1));
    let mut blocks = blocks.to_vec();
    blocks.sort_by(|one, other| share(other).total_cmp(&share(one)));
    blocks
}

/// The blocks with their first `errors` errors alone.
fn only(blocks: &[(u32, u32)], errors: u64) -> Vec<(u32, u32)> {
    let mut left = errors;
    let cut = blocks.iter().map(|(bad, valid)| {
        let kept = u64::from(*bad).min(left);
        left -= kept;
        (u32::try_from(kept).unwrap_or(*bad), *valid)
    });
    cut.collect()
}

fn upper_difference_of(now: &[(u32, u32)], base: &[(u32, u32)], a: f64) -> f64 {
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

    /// Five errors in one block and one in each of two others say less than the five alone.
    #[test]
    fn errors_that_make_blocks_more_alike_prove_nothing() {
        let base = [(0, 100); 15];
        let window = |bad: &[u32]| {
            let mut blocks = base;
            blocks
                .iter_mut()
                .zip(bad)
                .for_each(|(block, bad)| block.0 = *bad);
            blocks
        };
        let (few, more) = (window(&[5]), window(&[5, 1, 1]));
        let plain = |now: &[(u32, u32)]| upper_difference_of(now, &base, 0.01);
        assert!(plain(&more) < plain(&few), "else this tests nothing");
        let upper = |now: &[(u32, u32)]| upper_difference(now, &base, 0.01, 0.9);
        assert!(upper(&more) >= upper(&few));
        assert!(upper(&few) >= plain(&few));
        assert_eq!(upper_difference(&more, &base, 0.01, 0.0), plain(&more));
        let counts = |all| parts(all).collect::<Vec<u64>>();
        assert_eq!(counts(0), Vec::<u64>::new());
        assert_eq!(counts(3), [0, 1, 2]);
        assert_eq!(counts(262)[254..], [254, 255, 256, 258, 260]);
        assert!(counts(1_000_000).len() < 2_000);
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
