//! A limit is worth no more than the half of a baseline that sets it.

use super::basis_tests::{BEGIN, FIRE, LONG, QUEUE, SLOW, WINDOW, drill, within};
use super::drill::*;
use super::{NotReady, Outcome, Watch, judge};
use crate::history::*;

const HALF: i64 = -(WINDOW);

/// The streams that get a limit from the first half, spoilt: a gauge whose only outlier is in the first block and
/// which is worse than all else ever after, and answers that are three times as slow.
fn worse() -> Vec<Record> {
    drill(|block| {
        if block.stream == QUEUE {
            let first = block.start_ms == BEGIN * 1000;
            if first {
                block.values[0] = 100.0;
            }
            if within(block, 0..200) {
                block.values = vec![50.0; 10];
            }
        }
    })
}

fn first_half(block: &Block) -> bool {
    within(block, -100..HALF)
}

#[test]
fn a_first_half_with_holes_sets_no_limit() {
    let is_hole = |record: &Record| {
        matches!(record, Record::Block(b) if b.stream == QUEUE
        && first_half(b) && b.start_ms > BEGIN * 1000)
    };
    for holes in [3, 14] {
        let mut left = holes;
        let mut records = worse();
        records.retain(|record| {
            let dropped = left > 0 && is_hole(record);
            left -= usize::from(dropped);
            !dropped
        });
        assert_eq!(left, 0);
        let words = [
            QUEUE,
            "first half",
            &format!("{holes} of its blocks are missing"),
        ];
        expect(&records, Outcome::Inconclusive, &words);
    }
}

#[test]
fn a_first_half_that_nobody_could_read_sets_no_limit() {
    let blind = drill(|block| {
        if block.stream == QUEUE && first_half(block) && block.start_ms > (BEGIN + LONG) * 1000 {
            (block.valid, block.values) = (0, Vec::new());
        }
    });
    expect(
        &blind,
        Outcome::Inconclusive,
        &[QUEUE, "first half", "blind"],
    );
    let thin = drill(|block| {
        if block.stream == QUEUE && first_half(block) {
            block.valid = 9;
            block.values.truncate(9);
        }
    });
    expect(&thin, Outcome::Inconclusive, &["first half", "only 90.0 %"]);
}

#[test]
fn a_first_half_of_silence_makes_nothing_fast_enough() {
    let ill = |silent: u32| {
        drill(move |block| {
            if block.stream == "aws/checkout" {
                if first_half(block) {
                    (block.bad, block.timeouts) = (silent, silent);
                    block.latency_us = vec![(USUAL_US, block.valid - silent)];
                }
                if within(block, 0..200) {
                    block.latency_us = vec![(90 * USUAL_US, block.valid)];
                }
            }
        })
    };
    let verdict = expect(
        &ill(3),
        Outcome::Inconclusive,
        &["fired although not ready"],
    );
    let isolated = |row: &super::Row| row.stream == SLOW && row.class == super::Class::Isolated;
    assert!(
        !verdict.rows.iter().any(isolated),
        "no limit is no baseline"
    );
    expect(&ill(0), Outcome::Fail, &["aws fell"]);
}

/// A drill of which one stream declares no slo.
fn undeclared(spoil: impl Fn(&mut Block)) -> Vec<Record> {
    let mut records = history(&|stream, second| match second < 30 {
        true => sound(stream, second),
        false => 0,
    });
    let header = header_mut(&mut records);
    for step in &mut header.plan.steps {
        step.duration_ms = 30_000;
    }
    let stream = header.streams.iter_mut();
    for stream in stream.filter(|stream| stream.name == "aws/checkout") {
        stream.slo_ms = None;
    }
    records.insert(2, mark(Phase::Thresholds, 35));
    for record in &mut records {
        if let Record::Block(block) = record {
            spoil(block);
        }
    }
    records
}

fn is_early(block: &Block) -> bool {
    block.stream == "aws/checkout" && block.start_ms < 35_000
}

#[test]
fn a_threshold_needs_a_first_half_that_was_well() {
    expect(&undeclared(|_| {}), Outcome::Pass, &[]);
    let mut holes = undeclared(|_| {});
    holes.retain(|r| !matches!(r, Record::Block(b) if is_early(b) && b.start_ms > 20_000));
    let words = ["aws/checkout", "first half", "14 of its blocks are missing"];
    expect(&holes, Outcome::Inconclusive, &words);
    let dead = undeclared(|block| {
        if is_early(block) {
            (block.bad, block.timeouts) = (RATE, RATE);
            block.latency_us.clear();
        }
    });
    expect(
        &dead,
        Outcome::Inconclusive,
        &["first half", "600 of its 600"],
    );
    let a_twentieth = undeclared(|block| {
        if is_early(block) {
            (block.bad, block.timeouts) = (1, 1);
        }
    });
    expect(
        &a_twentieth,
        Outcome::Inconclusive,
        &["first half", "30 of its 600"],
    );
    let mut short = undeclared(|_| {});
    for record in &mut short {
        if let Record::Phase(mark) = record
            && mark.phase == Phase::Thresholds
        {
            mark.at_ms = 7_000;
        }
    }
    expect(
        &short,
        Outcome::Inconclusive,
        &["it has 40 of the 228 probes"],
    );
}

/// Such a drill is not begun.
#[test]
fn the_gate_before_fire_looks_at_the_first_half() {
    let begun = |mut records: Vec<Record>| {
        let fire = records.iter();
        let mut fire = fire.enumerate().filter_map(|(at, record)| match record {
            Record::Phase(mark) if mark.phase == Phase::Fire => Some((at, mark.at_ms)),
            _ => None,
        });
        let (_, fire_ms) = fire.next().unwrap();
        records.retain(|r| match r {
            Record::Header(_) => true,
            Record::Block(b) => b.start_ms < fire_ms,
            Record::Volume(v) => v.start_ms < fire_ms,
            Record::Phase(mark) => mark.at_ms < fire_ms,
            _ => false,
        });
        Watch::new(&records).err()
    };
    assert_eq!(begun(drill(|_| {})), None);
    assert_eq!(begun(undeclared(|_| {})), None);
    let mut holes = drill(|_| {});
    let mut at = 0;
    holes.retain(|r| {
        let own = matches!(r, Record::Block(b) if b.stream == QUEUE);
        at += usize::from(own);
        !own || at != 3
    });
    let refused = begun(holes);
    assert!(
        matches!(&refused, Some(NotReady::NoLimit { stream, .. }) if stream == QUEUE),
        "{refused:?}"
    );
    let late = drill(|block| {
        if block.stream == "aws/checkout" && block.start_ms < (FIRE - WINDOW as u64) * 1000 {
            (block.bad, block.timeouts) = (3, 3);
            block.latency_us = vec![(USUAL_US, 17)];
        }
    });
    assert!(begun(late).is_some());
}

/// Whatever is left out of the half that sets a limit, and be it good: what fails with it fails without.
#[test]
fn every_block_of_the_first_half_is_missed() {
    let records = drill(|_| {});
    assert_eq!(judge(&records).outcome, Outcome::Pass);
    let early = records
        .iter()
        .enumerate()
        .filter(|(_, record)| match record {
            Record::Block(b) => {
                first_half(b) && [QUEUE, "aws/checkout"].contains(&b.stream.as_str())
            }
            _ => false,
        });
    let early: Vec<usize> = early.map(|(at, _)| at).collect();
    for at in early.into_iter().step_by(7) {
        let mut fewer = records.clone();
        fewer.remove(at);
        assert_ne!(judge(&fewer).outcome, Outcome::Pass, "without {at}");
    }
}
