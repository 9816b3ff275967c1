//! Histories of older formats still read, and are judged as they were then.

use scenarios::history::{self, History, Record};
use scenarios::verdict::{Class, Outcome, Verdict, judge};

/// Written by hand in the shapes of format 1, without any member that came later.
const FORMAT_1: &str = include_str!("golden/history-1.jsonl");
/// Written by hand in the shapes of format 2, with every kind of stream and of record that a sound drill
/// may have.
const FORMAT_2: &str = include_str!("golden/history-2.jsonl");
/// The same in the shapes of format 3: more requests, of which cellwall's own are taken away; and how every
/// probe that was under way has ended.
const FORMAT_3: &str = include_str!("golden/history-3.jsonl");

fn read(text: &str) -> History {
    history::read(text.as_bytes(), "a golden history").unwrap_or_else(|e| panic!("{e}"))
}

/// What the cellwall of format 1 said of it (commit 2d5cc93).
fn judged_then(verdict: &Verdict) {
    assert_eq!(verdict.outcome, Outcome::Pass, "{:#?}", verdict.reasons);
    assert_eq!(
        rows(verdict),
        [
            ("ali/checkout", Class::Effective, 1000, 1000),
            ("ali/checkout", Class::Recovered, 0, 1200),
            ("aws/checkout", Class::Isolated, 1, 1200),
            ("aws/checkout", Class::Isolated, 0, 1200),
            ("control/loopback", Class::Sound, 0, 1200),
            ("control/loopback", Class::Sound, 0, 2200),
        ]
    );
    assert_eq!([2, 3].map(|at| u(verdict, at)), [0.004_758, 0.003_085]);
}

fn rows(verdict: &Verdict) -> Vec<(&str, Class, u64, u64)> {
    let rows = verdict.rows.iter();
    rows.map(|row| (row.stream.as_str(), row.class, row.bad, row.total))
        .collect()
}

/// Rounded to a millionth.
fn u(verdict: &Verdict, row: usize) -> f64 {
    (verdict.rows[row].u * 1e6).round() / 1e6
}

#[test]
fn format_1_is_judged_as_it_was() {
    let history = read(FORMAT_1);
    assert!(!history.torn);
    judged_then(&judge(&history.records));
}

#[test]
fn the_same_records_as_a_later_format_say_the_same() {
    let mut records = read(FORMAT_1).records;
    let of_1 = judge(&records);
    let Some(Record::Header(header)) = records.first_mut() else {
        panic!("no header");
    };
    header.format = 2;
    assert_eq!(judge(&records), of_1);
    header_of_another_format(&mut records);
}

/// One that is not known is no evidence, even if its records could be read.
fn header_of_another_format(records: &mut [Record]) {
    for format in [0, 4, u32::MAX] {
        if let Some(Record::Header(header)) = records.first_mut() {
            header.format = format;
        }
        let verdict = judge(records);
        assert_eq!(verdict.outcome, Outcome::Inconclusive);
        assert!(
            verdict.reasons[0].contains("reads 1 to 3"),
            "{:?}",
            verdict.reasons
        );
    }
}

/// What the cellwall that wrote format 2 first said of it.
#[test]
fn format_2_is_judged_as_it_was() {
    judged_as_format_2(&judge(&read(FORMAT_2).records), "4060 real requests");
}

/// Of 70,000 requests in 35 s cellwall itself can have sent 429 a second.
#[test]
fn format_3_is_judged_as_it_was() {
    let verdict = judge(&read(FORMAT_3).records);
    judged_as_format_2(&verdict, "54990 users' requests");
}

fn judged_as_format_2(verdict: &Verdict, requests: &str) {
    assert_eq!(verdict.outcome, Outcome::Pass, "{:#?}", verdict.reasons);
    assert_eq!(
        rows(verdict),
        [
            ("ali/checkout", Class::Effective, 1000, 1000),
            ("shop@ali", Class::Reported, 500, 500),
            ("ali/checkout", Class::Recovered, 0, 1300),
            ("aws/checkout", Class::Isolated, 0, 1200),
            ("aws/checkout", Class::Isolated, 0, 2300),
            ("aws/checkout:slow", Class::Isolated, 49, 1200),
            ("aws/checkout:slow", Class::Isolated, 48, 1200),
            ("aws/requests.checkout", Class::Isolated, 6, 1320),
            ("aws/requests.checkout", Class::Isolated, 12, 2530),
            ("aws/queue", Class::Isolated, 0, 120),
            ("aws/queue", Class::Isolated, 0, 120),
            ("shop/dns", Class::Isolated, 0, 1200),
            ("shop/dns", Class::Isolated, 0, 2300),
            ("shop@aws", Class::Isolated, 0, 600),
            ("shop@aws", Class::Isolated, 0, 1150),
            ("shop", Class::Reported, 600, 1200),
            ("control/loopback", Class::Sound, 0, 1200),
            ("control/loopback", Class::Sound, 0, 2300),
        ]
    );
    let limits = [3, 5, 7, 9].map(|at| u(verdict, at));
    assert_eq!(limits, [0.005_519, 0.020_304, 0.006_920, 0.037_649]);
    for words in [
        "980 acknowledged writes read back, 1 lost",
        "seen alike from the conductor and aws/n1",
        requests,
        "timeouts 99.9 %, slow answers 0.1 %",
        "aws 104.0/s of the 100.0/s needed",
        "worst case 48.4 %",
    ] {
        let told = verdict.reasons.iter().any(|reason| reason.contains(words));
        assert!(told, "{words}: {:#?}", verdict.reasons);
    }
}

/// Whatever kind of evidence is taken out of it, it is no pass any more; what is for people may go.
#[test]
fn they_pass_by_all_of_their_evidence() {
    for text in [FORMAT_2, FORMAT_3] {
        passes_by_all_of_its_evidence(&read(text).records, text == FORMAT_3);
    }
}

/// Since format 3 how the probes ended that were under way is evidence, too.
fn passes_by_all_of_its_evidence(records: &[Record], late: bool) {
    type Kind = fn(&Record) -> bool;
    let kinds: [(&str, Kind); 10] = [
        ("blocks", |r| matches!(r, Record::Block(_))),
        (
            "vantages",
            |r| matches!(r, Record::Block(b) if b.vantage.is_some()),
        ),
        ("volumes", |r| matches!(r, Record::Volume(_))),
        ("load", |r| matches!(r, Record::Load(_))),
        ("ledgers", |r| matches!(r, Record::Ledger(_))),
        ("residue", |r| matches!(r, Record::Residue(_))),
        ("agents", |r| matches!(r, Record::Agent(_))),
        ("marks", |r| matches!(r, Record::Phase(_))),
        ("late ends", |r| matches!(r, Record::Late(_))),
        ("samples", |r| matches!(r, Record::Sample(_))),
    ];
    for (name, is_such) in kinds {
        let mut fewer = records.to_vec();
        fewer.retain(|record| !is_such(record));
        assert!(fewer.len() < records.len(), "it has {name}");
        let outcome = judge(&fewer).outcome;
        let passes = outcome == Outcome::Pass;
        let may_go = name == "samples" || name == "late ends" && !late;
        assert_eq!(passes, may_go, "without {name}: {outcome:?}");
    }
}

/// Reading and writing a line of an older cellwall adds nothing to it.
#[test]
fn absent_members_stay_absent() {
    let of_1 = FORMAT_1.lines().zip(read(FORMAT_1).records);
    let of_2 = FORMAT_2.lines().zip(read(FORMAT_2).records);
    let of_3 = FORMAT_3.lines().zip(read(FORMAT_3).records);
    for (line, record) in of_1.chain(of_2).chain(of_3) {
        let written: serde_json::Value = serde_json::to_value(&record).expect("JSON");
        let given: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(written, given);
    }
}
