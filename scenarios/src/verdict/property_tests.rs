//! What must hold of every verdict: more errors never help, names do not matter, the worst speaks.

use proptest::prelude::*;

use super::basis_tests::{self, LONG, QUEUE, REQUESTS, SLOW};
use super::drill::{FIRE, RATE, USUAL_US, header_mut, history, sound};
use super::{Class, Outcome, Verdict, Window, judge};
use crate::history::{Record, Role};

/// Cells that must not notice, of the example.
const OTHERS: [&str; 3] = ["tencent/checkout", "tencent/orders", "aws/checkout"];

/// Seconds after fire in which a stream errs, and how many probes are bad in each.
type Illness = Vec<(usize, i64, u32)>;

fn illness() -> impl Strategy<Value = Illness> {
    let bad = prop_oneof![4 => 1..3_u32, 1 => 1..=RATE];
    prop::collection::vec((0..OTHERS.len(), 0..130_i64, bad), 0..60)
}

fn ill(all: &[&Illness]) -> Vec<Record> {
    history(&|stream, second| {
        let of_this =
            |(which, when, _): &&(usize, i64, u32)| OTHERS[*which] == stream && *when == second;
        let more = all.iter().flat_map(|illness| illness.iter());
        let more: u32 = more.filter(of_this).map(|(_, _, bad)| bad).sum();
        (sound(stream, second) + more).min(RATE)
    })
}

fn isolated(verdict: &Verdict) -> Vec<(String, Window)> {
    let rows = verdict.rows.iter();
    rows.filter(|row| row.class == Class::Isolated)
        .map(|row| (row.stream.clone(), row.window))
        .collect()
}

/// Streams of the drill with limits from its baseline: a threshold, requests, a gauge, slow answers.
const BASED: [&str; 5] = [
    "tencent/checkout",
    "tencent/orders",
    "aws/checkout",
    REQUESTS,
    QUEUE,
];

/// The same of a drill with streams of every basis, and one that declares no slo.
fn based(all: &[&Illness]) -> Vec<Record> {
    let all: Illness = all
        .iter()
        .flat_map(|illness| illness.iter().copied())
        .collect();
    let mut records = basis_tests::drill(|block| {
        let long = [REQUESTS, QUEUE].contains(&block.stream.as_str());
        let lasts = if long { LONG as i64 } else { 1 };
        let start = (block.start_ms / 1_000) as i64 - basis_tests::FIRE as i64;
        let of_this = |(which, when, _): &&(usize, i64, u32)| {
            BASED[*which] == block.stream && (start..start + lasts).contains(when)
        };
        let more: u32 = all.iter().filter(of_this).map(|(_, _, bad)| bad).sum();
        if block.stream == QUEUE {
            let ill = block.values.iter_mut().take(more as usize);
            ill.for_each(|value| *value = 1e6);
        } else {
            block.bad = (block.bad + more).min(block.valid);
            block.timeouts = block.bad;
            if !block.latency_us.is_empty() {
                block.latency_us = spared(&block.latency_us, block.valid - block.bad);
            }
        }
    });
    let streams = header_mut(&mut records).streams.iter_mut();
    for stream in streams.filter(|stream| stream.name == BASED[0]) {
        stream.slo_ms = None;
    }
    records
}

/// The first `good` of the latencies.
fn spared(latency_us: &[(u64, u32)], good: u32) -> Vec<(u64, u32)> {
    let mut left = good;
    let mut taken = Vec::new();
    for (us, count) in latency_us {
        let some = left.min(*count);
        left -= some;
        taken.push((*us, some));
    }
    taken
}

fn illness_of_based() -> impl Strategy<Value = Illness> {
    let bad = prop_oneof![6 => 1..2_u32, 1 => 1..=RATE];
    prop::collection::vec((0..BASED.len(), 0..100_i64, bad), 0..20)
}

/// The same history, or verdict, with two cells' names exchanged.
fn exchanged<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).unwrap();
    let text = text.replace("tencent", "\u{1}").replace("aws", "tencent");
    serde_json::from_str(&text.replace('\u{1}', "aws")).unwrap()
}

fn sorted(mut verdict: Verdict) -> Verdict {
    verdict
        .rows
        .sort_by(|a, b| (&a.stream, a.window as u8).cmp(&(&b.stream, b.window as u8)));
    verdict
        .planes
        .sort_by(|a, b| (&a.cell, a.plane).cmp(&(&b.cell, b.plane)));
    verdict.reasons.sort();
    verdict
}

/// What denies a pass below is what was done to it.
#[test]
fn a_drill_of_every_basis_passes() {
    let verdict = judge(&based(&[]));
    assert_eq!(verdict.outcome, Outcome::Pass, "{:?}", verdict.reasons);
    let slow = isolated(&verdict);
    assert!(slow.iter().any(|(stream, _)| stream == SLOW));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Errors after fire never make a row isolated that was not, nor a drill pass that did not.
    #[test]
    fn more_bad_probes_never_help(first in illness(), more in illness()) {
        let (less, all) = (judge(&ill(&[&first])), judge(&ill(&[&first, &more])));
        let before = isolated(&less);
        for row in isolated(&all) {
            prop_assert!(before.contains(&row), "{row:?} became isolated");
        }
        prop_assert!(all.outcome != Outcome::Pass || less.outcome == Outcome::Pass);
    }

    /// The same where the verdict itself says what is bad.
    #[test]
    fn more_bad_readings_never_help(first in illness_of_based(), more in illness_of_based()) {
        let (less, all) = (judge(&based(&[&first])), judge(&based(&[&first, &more])));
        let before = isolated(&less);
        for row in isolated(&all) {
            prop_assert!(before.contains(&row), "{row:?} became isolated");
        }
        prop_assert!(all.outcome != Outcome::Pass || less.outcome == Outcome::Pass);
    }

    /// Nor may a limit come from what is not there.
    #[test]
    fn dropping_readings_never_yields_a_pass(
        illness in illness_of_based(),
        outlier in any::<bool>(),
        holes in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
        early in any::<bool>(),
    ) {
        let mut records = based(&[&illness]);
        for record in &mut records {
            if let Record::Block(block) = record
                && block.stream == QUEUE && outlier
                && block.start_ms == basis_tests::BEGIN * 1_000
            {
                block.values[0] = 1e9;
            }
        }
        let half_ms = (basis_tests::BEGIN + basis_tests::FIRE) / 2 * 1_000;
        for hole in holes {
            let blocks: Vec<usize> = (0..records.len())
                .filter(|at| match &records[*at] {
                    Record::Block(b) if early => {
                        b.start_ms < half_ms && [QUEUE, BASED[0], BASED[2]].contains(&b.stream.as_str())
                    }
                    Record::Block(_) => true,
                    _ => false,
                })
                .collect();
            records.remove(blocks[hole.index(blocks.len())]);
        }
        prop_assert_ne!(judge(&records).outcome, Outcome::Pass);
    }

    /// Which cell has which name decides nothing.
    #[test]
    fn exchanging_two_cells_exchanges_their_verdicts(illness in illness()) {
        let records = ill(&[&illness]);
        let there = exchanged(&sorted(judge(&records)));
        let back: Vec<Record> = records.iter().map(exchanged).collect();
        prop_assert_eq!(sorted(there), sorted(judge(&back)));
    }

    /// A cell is as well on a plane as its worst stream, and a drill as its worst cell.
    #[test]
    fn the_worst_speaks(illness in illness()) {
        let records = ill(&[&illness]);
        let verdict = judge(&records);
        let Record::Header(header) = &records[0] else { unreachable!() };
        for seen in verdict.planes.iter().filter(|seen| seen.role == Role::Other) {
            let streams = header.streams.iter();
            let streams = streams.filter(|stream| {
                stream.cell.as_deref() == Some(&seen.cell) && stream.plane == seen.plane
            });
            let names: Vec<&str> = streams.map(|stream| stream.name.as_str()).collect();
            let rows = verdict.rows.iter().filter(|row| names.contains(&row.stream.as_str()));
            let rank = |class: Class| match class {
                Class::Degraded => 0,
                Class::Isolated => 2,
                _ => 1,
            };
            let worst = rows.map(|row| rank(row.class)).min();
            prop_assert_eq!(Some(rank(seen.class)), worst, "{}", seen.cell);
        }
        let all = verdict.planes.iter().filter(|seen| seen.role == Role::Other);
        let all: Vec<Class> = all.map(|seen| seen.class).collect();
        if all.contains(&Class::Degraded) {
            prop_assert_eq!(verdict.outcome, Outcome::Fail);
        } else if all.iter().any(|class| *class != Class::Isolated) {
            prop_assert_ne!(verdict.outcome, Outcome::Pass);
        }
    }

    /// A history with holes is never a pass, whatever is left of it.
    #[test]
    fn dropping_samples_never_yields_a_pass(
        illness in illness(),
        holes in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let mut records = ill(&[&illness]);
        for hole in holes {
            let blocks: Vec<usize> = (0..records.len())
                .filter(|at| matches!(&records[*at], Record::Block(_)))
                .collect();
            records.remove(blocks[hole.index(blocks.len())]);
        }
        prop_assert_ne!(judge(&records).outcome, Outcome::Pass);
    }

    /// Probes that count for nothing are no good probes: a window of which more than a twentieth is
    /// missing proves nothing about its stream.
    #[test]
    fn invalid_samples_are_not_good_ones(
        which in 0..OTHERS.len(),
        from in 0..40_i64,
        gone in 2..=RATE,
    ) {
        let mut records = history(&sound);
        for record in &mut records {
            if let Record::Block(block) = record
                && block.stream == OTHERS[which]
                && (from..from + 20).contains(&((block.start_ms / 1_000) as i64 - FIRE as i64))
            {
                block.valid -= gone;
                block.latency_us = vec![(USUAL_US, block.valid)];
            }
        }
        let outcome = judge(&records).outcome;
        let missing = f64::from(gone) * 20.0 / (f64::from(RATE) * 60.0);
        prop_assert!(missing <= 0.05 || outcome != Outcome::Pass, "{missing}");
    }
}
