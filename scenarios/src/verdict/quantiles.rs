//! Quantiles of latency with their rank intervals: information beside the verdict, never part of it.

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Span};
use crate::history::Stream;

/// Two-sided error bound of an interval.
const ERROR: f64 = 0.01;
const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// One quantile of the latencies of a window. A probe without an answer is infinitely slow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// 0.5, 0.95 or 0.99.
    pub q: f64,
    /// Microseconds; `None`: beyond every answer.
    pub us: Option<u64>,
    /// The true quantile lies between these with a probability of 99 %, for independent probes.
    /// 0 where the window is too short to say more.
    pub low_us: Option<u64>,
    pub high_us: Option<u64>,
}

/// p50, p95 and p99 of one stream in one span, as the conductor saw it: what is far from one place is
/// near to another. Empty where the stream has no latencies.
pub(super) fn of(evidence: &Evidence<'_>, stream: &Stream, span: Span) -> Vec<Quantile> {
    let mut answers: Vec<(u64, u64)> = Vec::new();
    let mut all = 0_u64;
    let blocks = evidence.series(None, &stream.name);
    let span = span.from..span.to.max(span.from);
    for (_, block) in blocks
        .into_iter()
        .flat_map(|blocks| blocks.range(span.clone()))
    {
        all = all.saturating_add(u64::from(block.valid));
        let counted = block.latency_us.iter();
        answers.extend(counted.map(|(us, count)| (*us, u64::from(*count))));
    }
    if answers.is_empty() {
        return Vec::new();
    }
    // Each block's are in order already, which this sort makes use of.
    answers.sort_by_key(|(us, _)| *us);
    QUANTILES.map(|q| quantile(&answers, all, q)).to_vec()
}

/// `answers`: latency and count, ascending by latency.
fn quantile(answers: &[(u64, u64)], all: u64, q: f64) -> Quantile {
    let (low, high) = ranks(all, q);
    let at = |rank: u64| {
        if rank == 0 {
            return Some(0);
        }
        let mut seen = 0_u64;
        answers.iter().find_map(|(us, count)| {
            seen = seen.saturating_add(*count);
            (seen >= rank).then_some(*us)
        })
    };
    Quantile {
        q,
        us: at(((all as f64 * q).ceil() as u64).clamp(1, all.max(1))),
        low_us: at(low),
        high_us: at(high),
    }
}

/// Ranks, from 1, between which the quantile lies: `BinInv(0.005; n, q)` and `BinInv(0.995; n, q) + 1`.
fn ranks(n: u64, q: f64) -> (u64, u64) {
    let below = binomial_quantile(ERROR / 2.0, n, q);
    let above = binomial_quantile(1.0 - ERROR / 2.0, n, q);
    (below, above.saturating_add(1))
}

/// The least k with P(X <= k) >= p.
fn binomial_quantile(p: f64, n: u64, q: f64) -> u64 {
    use statrs::distribution::{Binomial, DiscreteCDF};
    let Ok(binomial) = Binomial::new(q, n) else {
        return n;
    };
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if binomial.cdf(middle) >= p {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::super::drill::{block, history, sound};
    use super::super::{Window, judge};
    use super::*;
    use crate::history::{Block, Record};

    #[test]
    fn rank_vectors() {
        for (n, p50, p95, p99) in [
            (1200, (555, 646), (1120, 1160), (1178, 1197)),
            (600, (268, 333), (555, 584), (587, 600)),
            (2400, (1137, 1264), (2252, 2308), (2363, 2389)),
        ] {
            assert_eq!(ranks(n, 0.5), p50, "{n}");
            assert_eq!(ranks(n, 0.95), p95, "{n}");
            assert_eq!(ranks(n, 0.99), p99, "{n}");
        }
        assert_eq!(ranks(0, 0.5), (0, 1));
    }

    #[test]
    fn silence_is_infinitely_slow_and_short_windows_say_little() {
        let answers = [(10, 50), (20, 45)];
        let of = |all, q| quantile(&answers, all, q);
        assert_eq!(of(100, 0.5).us, Some(10));
        assert_eq!(of(100, 0.95).us, Some(20));
        assert_eq!(of(100, 0.95).high_us, None, "5 of 100 never answered");
        assert_eq!(of(100, 0.99).us, None);
        let few = quantile(&[(10, 3)], 3, 0.5);
        assert_eq!((few.low_us, few.us, few.high_us), (Some(0), Some(10), None));
    }

    #[test]
    fn rows_tell_the_quantiles_of_window_and_baseline() {
        let mut records = history(&sound);
        for record in &mut records {
            if let Record::Block(block) = record
                && block.stream == "aws/checkout"
            {
                let us = if block.start_ms < super::super::drill::FIRE * 1000 {
                    5_000
                } else {
                    9_000
                };
                block.latency_us = vec![(us, block.valid)];
            }
        }
        let verdict = judge(&records);
        let mut rows = verdict.rows.iter();
        let row = rows
            .rfind(|row| row.stream == "aws/checkout" && row.window == Window::Fault)
            .unwrap();
        let told = |quantiles: &[Quantile]| quantiles.iter().map(|q| q.us).collect::<Vec<_>>();
        assert_eq!(told(&row.latency), [Some(9_000); 3]);
        assert_eq!(told(&row.base_latency), [Some(5_000); 3]);
        let silent = Block {
            latency_us: Vec::new(),
            ..block("aws/checkout", 0, 20)
        };
        assert!(silent.latency_us.is_empty());
        let target = verdict.rows.iter().find(|row| row.stream == "ali/checkout");
        assert!(
            target.unwrap().latency.is_empty(),
            "no latencies, no quantiles"
        );
    }
}
