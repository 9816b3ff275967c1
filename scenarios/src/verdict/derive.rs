//! Blocks whose good and bad the verdict itself decides: slow answers and gauges against a limit that
//! the first half of the stream's own baseline sets.

use std::collections::BTreeMap;
use std::ops::Deref;

use crate::history::{Block, Counts, Stream};

/// A block as it was recorded, or as its stream's limit counts it. Small: an hour has a million.
#[derive(Clone, Debug)]
pub(super) enum Counted<'a> {
    Recorded(&'a Block),
    Derived(Box<Block>),
}

impl<'a> Counted<'a> {
    /// The block of the history, unless the verdict has made this one.
    pub fn recorded(&self) -> Option<&'a Block> {
        match self {
            Counted::Recorded(block) => Some(block),
            Counted::Derived(_) => None,
        }
    }
}

impl Deref for Counted<'_> {
    type Target = Block;

    fn deref(&self) -> &Block {
        match self {
            Counted::Recorded(block) => block,
            Counted::Derived(block) => block,
        }
    }
}

/// A slow answer takes longer than this many times the 90th percentile.
const SLOWER: f64 = 1.5;
const SLOW_QUANTILE: (u64, u64) = (90, 100);
/// Of n readings the r-th smallest, r = ceil(0.99 n): one more reading of the same gauge is above it
/// with a probability of at most (n + 1 - r) / (n + 1), whatever its distribution.
const GAUGE_QUANTILE: (usize, usize) = (99, 100);

/// Above this an observation is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Limit {
    /// Microseconds.
    Slow(f64),
    Gauge(f64),
}

impl Limit {
    /// The limit of a stream from the blocks of the first half of its baseline: of the stream of
    /// probes that it looks at again, or of the gauge itself. `None` if they hold nothing.
    pub fn of<'b>(stream: &Stream, half: impl Iterator<Item = &'b Block>) -> Option<Limit> {
        match &stream.basis.counts {
            Counts::Probes | Counts::Requests => None,
            Counts::Gauge { limit: Some(limit) } => Some(Limit::Gauge(*limit)),
            Counts::Gauge { limit: None } => gauge_limit(half),
            Counts::Slow { .. } => slow_limit(half),
        }
    }

    /// The block as the stream counts it.
    pub fn count(self, stream: &Stream, block: &Block) -> Block {
        let mut counted = Block {
            scheduled: block.scheduled,
            valid: block.valid,
            values: block.values.clone(),
            ..Block::empty(&stream.name, block.start_ms)
        };
        let good = match self {
            Limit::Slow(limit) => within(block, limit),
            Limit::Gauge(limit) => {
                let valid = u32::try_from(block.values.len()).unwrap_or(u32::MAX);
                counted.valid = valid.min(block.scheduled);
                // Asked this way round: what does not compare is not good.
                let good = block.values.iter().filter(|value| **value <= limit);
                u32::try_from(good.count()).unwrap_or(u32::MAX)
            }
        };
        counted.bad = counted.valid.saturating_sub(good);
        counted.slow = counted.bad;
        counted
    }
}

/// Answers of a block of probes that were not slower than `limit` microseconds.
fn within(block: &Block, limit: f64) -> u32 {
    let fast = block
        .latency_us
        .iter()
        .filter(|(us, _)| *us as f64 <= limit);
    fast.fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

pub(super) fn slow_limit<'b>(half: impl Iterator<Item = &'b Block>) -> Option<Limit> {
    let mut latencies: BTreeMap<u64, u64> = BTreeMap::new();
    let mut all = 0_u64;
    for block in half {
        all = all.saturating_add(u64::from(block.valid));
        for (us, count) in &block.latency_us {
            *latencies.entry(*us).or_default() += u64::from(*count);
        }
    }
    let (part, whole) = SLOW_QUANTILE;
    let rank = all.saturating_mul(part).div_ceil(whole);
    if rank == 0 {
        return None;
    }
    let mut seen = 0;
    let p90 = latencies.into_iter().find_map(|(us, count)| {
        seen += count;
        (seen >= rank).then_some(us as f64)
    });
    // Where even the 90th percentile was no answer, everything would be fast enough: that is no limit.
    p90.map(|p90| Limit::Slow(SLOWER * p90))
}

fn gauge_limit<'b>(half: impl Iterator<Item = &'b Block>) -> Option<Limit> {
    let mut values: Vec<f64> = half
        .flat_map(|block| block.values.iter().copied())
        .collect();
    values.sort_by(f64::total_cmp);
    let (part, whole) = GAUGE_QUANTILE;
    let rank = (values.len() * part).div_ceil(whole);
    values.get(rank.checked_sub(1)?).copied().map(Limit::Gauge)
}

/// The blocks as each stream counts them: `given` are what the history holds.
pub(super) fn count_all<'a>(
    streams: &'a [Stream],
    limits: &BTreeMap<&'a str, Limit>,
    given: &mut BTreeMap<&'a str, BTreeMap<u64, Counted<'a>>>,
) {
    for stream in streams {
        if let Counts::Probes | Counts::Requests = stream.basis.counts {
            continue;
        }
        let source = given.get(stream.counted_from());
        let counted = match (limits.get(stream.name.as_str()), source) {
            (Some(limit), Some(blocks)) => blocks
                .iter()
                .map(|(start, block)| {
                    (
                        *start,
                        Counted::Derived(Box::new(limit.count(stream, block))),
                    )
                })
                .collect(),
            _ => BTreeMap::new(),
        };
        given.insert(&stream.name, counted);
    }
}

#[cfg(test)]
mod tests {
    use super::super::drill::{block, stream};
    use super::*;
    use crate::history::{Basis, Role};

    fn counting(counts: Counts) -> Stream {
        Stream {
            basis: Basis {
                counts,
                ..Basis::default()
            },
            ..stream("aws/x", Role::Other)
        }
    }

    fn answered(latency_us: Vec<(u64, u32)>, valid: u32) -> Block {
        Block {
            valid,
            latency_us,
            ..block("aws/x", 0, 0)
        }
    }

    #[test]
    fn slow_is_half_as_long_again_as_the_ninetieth_of_a_hundred_and_silence_is_slow() {
        let slow = counting(Counts::Slow { of: "aws/y".into() });
        let limit = |half: &[Block]| Limit::of(&slow, half.iter());
        let half = [
            answered(vec![(1_000, 40), (2_000, 5)], 50),
            answered(vec![(1_000, 45), (2_000, 5)], 50),
        ];
        // 5 of 100 were no answer: ranks 86 to 95 are 2 ms.
        assert_eq!(limit(&half), Some(Limit::Slow(3_000.0)));
        assert_eq!(limit(&[answered(vec![(1, 8)], 10)]), None, "silence");
        assert_eq!(limit(&[]), None);
        let counted =
            Limit::Slow(3_000.0).count(&slow, &answered(vec![(3_000, 10), (3_010, 4)], 20));
        assert_eq!(
            (counted.valid, counted.bad),
            (20, 10),
            "6 unanswered, 4 slow"
        );
    }

    #[test]
    fn a_gauge_is_bad_above_the_high_quantile_and_unread_scrapes_are_no_evidence() {
        let gauge = counting(Counts::Gauge { limit: None });
        let values = |values: Vec<f64>| Block {
            values,
            ..block("aws/x", 0, 0)
        };
        let half = [values((1..=150).map(f64::from).collect())];
        let limit = Limit::of(&gauge, half.iter()).unwrap();
        assert_eq!(limit, Limit::Gauge(149.0), "rank 149 of 150");
        let counted = limit.count(&gauge, &values(vec![149.0, 150.0, f64::NAN]));
        assert_eq!((counted.scheduled, counted.valid, counted.bad), (20, 3, 2));
        assert_eq!(Limit::of(&gauge, [].iter()), None);
        let declared = counting(Counts::Gauge { limit: Some(7.0) });
        assert_eq!(Limit::of(&declared, half.iter()), Some(Limit::Gauge(7.0)));
    }
}
