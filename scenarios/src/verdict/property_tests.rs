//! What must hold of every verdict: more errors never help, names do not matter, the worst speaks.

use proptest::prelude::*;

use super::drill::{FIRE, RATE, history, sound};
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
            }
        }
        let outcome = judge(&records).outcome;
        let missing = f64::from(gone) * 20.0 / (f64::from(RATE) * 60.0);
        prop_assert!(missing <= 0.05 || outcome != Outcome::Pass, "{missing}");
    }
}
