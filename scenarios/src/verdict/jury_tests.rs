//! Slow answers where several ask for them.

use super::drill::{RATE, USUAL_US, expect, header_mut, mark, stream};
use super::vantages_tests::{AWS, TENCENT, history_seen_by};
use super::{Class, NotReady, Outcome, Watch, Window};
use crate::history::{Basis, Block, Counts, Phase, Record, Role, Stream};

const SLOW: &str = "aws/checkout:slow";
/// Seconds of the fault, as long as the half of the baseline that counts.
const WINDOW: i64 = 30;
const FIRE: u64 = super::drill::FIRE;

/// A sound drill with slow answers, spoilt by who looks (`None`: the conductor) in a second after fire.
fn drill(spoil: impl Fn(Option<&str>, i64, &mut Block)) -> Vec<Record> {
    let mut records = history_seen_by(&[TENCENT, AWS], &|_, stream, second| match stream
        .contains("ali")
        && (0..WINDOW).contains(&second)
    {
        true => RATE,
        false => 0,
    });
    let header = header_mut(&mut records);
    for step in &mut header.plan.steps {
        step.duration_ms = WINDOW as u64 * 1000;
    }
    header.streams.push(Stream {
        slo_ms: None,
        probe: "checkout".into(),
        basis: Basis {
            counts: Counts::Slow {
                of: "aws/checkout".into(),
            },
            margin: Some(0.1),
            ..Basis::default()
        },
        ..stream(SLOW, Role::Other)
    });
    records.insert(2, mark(Phase::Thresholds, 33));
    for record in &mut records {
        if let Record::Block(block) = record
            && block.stream == "aws/checkout"
        {
            let second = (block.start_ms / 1000) as i64 - FIRE as i64;
            // From elsewhere the way is longer.
            let far = if block.vantage.is_some() { 8 } else { 1 };
            block.latency_us = vec![(far * USUAL_US, block.valid)];
            let by = block.vantage.clone();
            spoil(by.as_deref(), second, block);
        }
    }
    records
}

fn silent(block: &mut Block) {
    (block.bad, block.timeouts) = (RATE, RATE);
    block.latency_us.clear();
}

fn three_times_as_slow(block: &mut Block) {
    block.latency_us.iter_mut().for_each(|(us, _)| *us *= 3);
}

fn is_degraded(verdict: &super::Verdict) -> bool {
    let mut rows = verdict.rows.iter();
    rows.any(|row| row.stream == SLOW && row.class == Class::Degraded)
}

#[test]
fn what_nobody_sees_slow_is_isolated() {
    let verdict = expect(&drill(|_, _, _| {}), Outcome::Pass, &["seen alike"]);
    let isolated = super::drill::class(&verdict, SLOW, Window::Fault);
    assert_eq!(isolated, Class::Isolated);
}

/// The conductor's way to the cell is dead, or long, and vantages reach it as before.
#[test]
fn a_path_problem_makes_no_cell_slow() {
    for spoil in [silent, three_times_as_slow] {
        let records = drill(|by, second, block| {
            if by.is_none() && (5..25).contains(&second) {
                spoil(block);
            }
        });
        let words = ["path problem", "aws", "as seen from the conductor", SLOW];
        let verdict = expect(&records, Outcome::Inconclusive, &words);
        assert!(!is_degraded(&verdict), "{:?}", verdict.reasons);
    }
}

#[test]
fn what_most_see_slow_is_slow() {
    for witness in [TENCENT, AWS] {
        let records = drill(|by, second, block| {
            if by.is_none_or(|by| by == witness) && (5..25).contains(&second) {
                three_times_as_slow(block);
            }
        });
        let verdict = expect(&records, Outcome::Fail, &["aws fell", SLOW]);
        assert!(is_degraded(&verdict));
    }
}

#[test]
fn a_vantage_needs_a_first_half_for_its_own_limit() {
    let mut records = drill(|_, _, _| {});
    let hole = |record: &Record| {
        matches!(record, Record::Block(b) if b.vantage.as_deref() == Some(AWS)
            && b.stream == "aws/checkout" && b.start_ms == 9_000)
    };
    records.retain(|record| !hole(record));
    let refused = Watch::new(&records).err();
    assert!(
        matches!(&refused, Some(NotReady::Vantage { vantage, .. }) if vantage == AWS),
        "{refused:?}"
    );
}
