//! Histories of older formats still read, and are judged as they were then.

use scenarios::history::{self, History, Record};
use scenarios::verdict::{Class, Outcome, Verdict, judge};

/// Written by hand in the shapes of format 1, without any member that came later.
const FORMAT_1: &str = include_str!("golden/history-1.jsonl");

fn read(text: &str) -> History {
    history::read(text.as_bytes(), "history-1.jsonl").unwrap_or_else(|e| panic!("{e}"))
}

/// What the cellwall of format 1 said of it (commit 2d5cc93).
fn judged_then(verdict: &Verdict) {
    assert_eq!(verdict.outcome, Outcome::Pass, "{:#?}", verdict.reasons);
    let rows: Vec<(&str, Class, u64, u64)> = verdict
        .rows
        .iter()
        .map(|row| (row.stream.as_str(), row.class, row.bad, row.total))
        .collect();
    assert_eq!(
        rows,
        [
            ("ali/checkout", Class::Effective, 1000, 1000),
            ("ali/checkout", Class::Recovered, 0, 1200),
            ("aws/checkout", Class::Isolated, 1, 1200),
            ("aws/checkout", Class::Isolated, 0, 1200),
            ("control/loopback", Class::Sound, 0, 1200),
            ("control/loopback", Class::Sound, 0, 2200),
        ]
    );
    let u = |at: usize| (verdict.rows[at].u * 1e6).round() / 1e6;
    assert_eq!((u(2), u(3)), (GOLDEN_U.0, GOLDEN_U.1));
}

const GOLDEN_U: (f64, f64) = (0.004_758, 0.003_085);

#[test]
fn format_1_is_judged_as_it_was() {
    let history = read(FORMAT_1);
    assert!(!history.torn);
    judged_then(&judge(&history.records));
}

#[test]
fn the_same_records_as_format_2_say_the_same() {
    let mut records = read(FORMAT_1).records;
    let of_1 = judge(&records);
    let Some(Record::Header(header)) = records.first_mut() else {
        panic!("no header");
    };
    header.format = scenarios::history::HISTORY_FORMAT;
    assert_eq!(judge(&records), of_1);
    header_of_another_format(&mut records);
}

/// One that is not known is no evidence, even if its records could be read.
fn header_of_another_format(records: &mut [Record]) {
    for format in [0, 3, u32::MAX] {
        if let Some(Record::Header(header)) = records.first_mut() {
            header.format = format;
        }
        let verdict = judge(records);
        assert_eq!(verdict.outcome, Outcome::Inconclusive);
        assert!(
            verdict.reasons[0].contains("reads 1 and 2"),
            "{:?}",
            verdict.reasons
        );
    }
}

/// Reading and writing a line of format 1 adds nothing to it.
#[test]
fn absent_members_stay_absent() {
    for (line, record) in FORMAT_1.lines().zip(read(FORMAT_1).records) {
        let written: serde_json::Value = serde_json::to_value(&record).expect("JSON");
        let given: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(written, given);
    }
}
