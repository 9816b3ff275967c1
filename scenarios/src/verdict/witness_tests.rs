//! Everything at once, where nothing shows the prober's own network.

use super::drill::*;
use super::{Class, Outcome, Watch, judge};
use crate::history::*;

const REFERENCE: &str = "control/reference-1";

/// The uplink of the prober is cut in these seconds: all but its loopback is bad, `share` of `RATE`.
fn cut(seconds: std::ops::Range<i64>, share: u32, more: &[Stream]) -> Vec<Record> {
    let mut header = header();
    header.streams.extend_from_slice(more);
    history_of(header, &|stream, second| {
        let beyond = !stream.starts_with("control/");
        match beyond && seconds.contains(&second) {
            true => share.max(sound(stream, second)),
            false => sound(stream, second),
        }
    })
}

#[test]
fn a_prober_without_its_network_accuses_nobody() {
    // Ended by the abort; seen at the end only; after the fault.
    for (seconds, share) in [(10..30, RATE), (10..12, RATE), (70..90, RATE), (5..60, 1)] {
        let records = cut(seconds.clone(), share, &[]);
        let words = ["the prober cannot be trusted", "without a reference"];
        let verdict = judge(&records);
        let fell = verdict.rows.iter().any(|row| row.class == Class::Degraded);
        assert!(!fell, "{seconds:?}: {:#?}", verdict.reasons);
        assert_eq!(verdict.outcome, Outcome::Inconclusive, "{seconds:?}");
        if (seconds.clone(), share) != (10..12, RATE) {
            expect(&records, Outcome::Inconclusive, &words);
        }
    }
}

#[test]
fn a_reference_that_is_well_is_a_witness() {
    let records = cut(10..30, RATE, &[stream(REFERENCE, Role::Control)]);
    expect(&records, Outcome::Fail, &["common cause"]);
}

#[test]
fn one_stream_that_is_well_is_a_witness() {
    let records = history(&|stream, second| {
        let well = stream.starts_with("control/") || stream == "tencent/orders";
        match !well && (10..30).contains(&second) {
            true => RATE,
            false => sound(stream, second),
        }
    });
    expect(&records, Outcome::Fail, &["aws fell"]);
    // The target itself, where it is not down any more.
    let records = history(&|stream, second| {
        let well = stream.starts_with("control/") || stream.starts_with("ali/");
        match !well && (80..100).contains(&second) {
            true => RATE,
            false => sound(stream, second),
        }
    });
    expect(&records, Outcome::Fail, &["aws fell", "after fire"]);
}

/// The fault is ended all the same, by the cause `prober`.
#[test]
fn the_abort_ends_the_fault_and_blames_the_prober() {
    let records = cut(10..40, RATE, &[]);
    let mut watch = Watch::new(&records).unwrap();
    let mut alarms = Vec::new();
    for second in FIRE..FAULT_END {
        let blocks = records.iter().filter_map(|record| match record {
            Record::Block(block) if block.start_ms == second * 1000 => Some(block),
            _ => None,
        });
        alarms.extend(watch.second(second * 1000, blocks));
    }
    let causes: Vec<AlarmCause> = alarms.iter().map(|alarm| alarm.cause).collect();
    assert_eq!(causes, [AlarmCause::Prober], "{alarms:?}");
    assert!(alarms[0].at_ms <= (FIRE + 16) * 1000, "{alarms:?}");
}
