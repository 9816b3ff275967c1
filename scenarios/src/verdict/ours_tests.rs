//! Requests of cellwall itself among those that a traffic counts: they prove nothing of users.

use std::collections::BTreeSet;

use super::basis_tests::{REQUESTS, drill, within};
use super::drill::*;
use super::evidence::{Evidence, Span};
use super::vantages_tests::{AWS, TENCENT, history_seen_by};
use super::{Class, Outcome, Window, ours};
use crate::effects::*;
use crate::history::*;

const SECOND: Span = Span {
    from: 20_000,
    to: 21_000,
};

fn asked_of(records: &[Record], cell: &str, span: Span) -> u64 {
    ours::requests(&Evidence::read(records).unwrap(), cell, span)
}

#[test]
fn everything_that_is_sent_to_a_cell_is_counted() {
    let mut records = history(&sound);
    // aws/checkout; tencent/checkout, tencent/orders and the users of shop@tencent.
    assert_eq!(asked_of(&records, "aws", SECOND), 20);
    assert_eq!(asked_of(&records, "tencent", SECOND), 60);
    let five = Span {
        to: 25_000,
        ..SECOND
    };
    assert_eq!(asked_of(&records, "aws", five), 100);
    // A journey of four requests, and a probe that makes none.
    for stream in &mut header_mut(&mut records).streams {
        stream.basis.requests = match stream.name.as_str() {
            "tencent/checkout" => Some(4.0),
            "tencent/orders" => Some(0.0),
            _ => None,
        };
    }
    assert_eq!(asked_of(&records, "tencent", SECOND), 100);
    // Users of an entrypoint who try again do so anywhere.
    for record in &mut records {
        if let Record::Block(block) = record
            && block.stream == "shop/dns"
        {
            let count = |requests| UserCount { requests, bad: 0 };
            let kinds = [
                (ClientKind::Retries, count(3)),
                (ClientKind::Pinned, count(9)),
            ];
            block.users = Some(UsersSeen {
                ttl_s: 1,
                kinds: kinds.into(),
            });
        }
    }
    assert_eq!(asked_of(&records, "tencent", SECOND), 103);
    assert_eq!(asked_of(&records, "aws", SECOND), 23);
    let load = |cell: &str, start_ms| {
        Record::Load(LoadSecond {
            cell: cell.into(),
            start_ms,
            due: 50,
            sent: 40,
            answered: 1,
        })
    };
    records.extend([
        load("aws", 20_000),
        load("aws", 21_000),
        load("tencent", 20_000),
    ]);
    assert_eq!(asked_of(&records, "aws", SECOND), 63);
}

#[test]
fn vantages_ask_too() {
    let records = history_seen_by(&[TENCENT, AWS], &|_, stream, second| sound(stream, second));
    // The conductor and two more; shop@tencent is the conductor's alone.
    assert_eq!(asked_of(&records, "aws", SECOND), 60);
    assert_eq!(asked_of(&records, "tencent", SECOND), 140);
}

/// Blocks of 2 s of both cells with so many requests, of which so many are covered; cellwall itself asked 40
/// times in aws and 120 times in tencent.
fn counted(aws: (u64, u64), tencent: (u64, u64)) -> Vec<Record> {
    let mut records = drill(|_| {});
    header_mut(&mut records).judgement.users_only = BTreeSet::new();
    for record in &mut records {
        if let Record::Volume(volume) = record {
            (volume.requests, volume.covered) = match volume.cell.as_str() {
                "aws" => aws,
                _ => tencent,
            };
        }
    }
    records
}

#[test]
fn probes_of_ours_are_no_users_who_are_covered() {
    let passes = counted((140, 130), (220, 210));
    expect(
        &passes,
        Outcome::Pass,
        &["users' requests", "at least 90.0 %"],
    );
    // 89 of 100, although 92.1 % of all that was counted.
    let unseen = counted((140, 129), (220, 210));
    expect(
        &unseen,
        Outcome::Inconclusive,
        &["coverage", "89.0 %", "aws"],
    );
    // The probes are all that asks.
    let words = [
        "none of the",
        "requests in tencent",
        "cellwall may have sent them all",
    ];
    for alone in [120, 119] {
        let alone = counted((140, 140), (alone, alone));
        expect(&alone, Outcome::Inconclusive, &words);
    }
}

#[test]
fn probes_of_ours_are_no_load() {
    // 100 requests in a block of 2 s, of which cellwall sent 40 itself: 30/s are of users.
    let carried = |peak: f64, users_only: bool| {
        let mut records = drill(|_| {});
        let judgement = &mut header_mut(&mut records).judgement;
        if !users_only {
            (judgement.users_only, judgement.coverage) = (BTreeSet::new(), [].into());
        }
        judgement.effects.load = Some(LoadClaim {
            by: LoadSource::Traffic("requests".into()),
            cells: vec!["aws".into()],
            peak,
            share: 1.0 / 3.0,
            needed: peak * 1.5,
        });
        records
    };
    let words = "they answered aws 30.0/s of the 30.0/s needed";
    expect(&carried(20.0, false), Outcome::Pass, &[words]);
    let words = [
        "capacity of aws untested",
        "only 30.0/s are known to be of users",
    ];
    expect(&carried(20.1, false), Outcome::Inconclusive, &words);
    expect(
        &carried(33.0, true),
        Outcome::Pass,
        &["50.0/s of the 49.5/s"],
    );
}

#[test]
fn what_is_no_number_of_requests_is_no_history() {
    for requests in [-1.0, f64::NAN, f64::INFINITY] {
        let mut records = history(&sound);
        header_mut(&mut records).streams[2].basis.requests = Some(requests);
        expect(
            &records,
            Outcome::Inconclusive,
            &["tencent/checkout", "out of range"],
        );
    }
}

/// The users of `requests` bring 50/s to aws; 20/s are its peak and a third of all users the target's.
fn carried_by_users(peak: f64, spoil: impl Fn(&mut Block)) -> Vec<Record> {
    let mut records = drill(spoil);
    header_mut(&mut records).judgement.effects.load = Some(LoadClaim {
        by: LoadSource::Traffic("requests".into()),
        cells: vec!["aws".into()],
        peak,
        share: 1.0 / 3.0,
        needed: peak * 1.5,
    });
    records
}

#[test]
fn users_who_bring_the_load_test_the_capacity() {
    let of = |peak, spoil: &dyn Fn(&mut Block)| carried_by_users(peak, spoil);
    expect(
        &of(33.0, &|_| {}),
        Outcome::Pass,
        &[
            "tested by users' requests that requests counts, they answered aws 50.0/s of the 49.5/s needed",
        ],
    );
    let untested = |records: &[Record], words: &[&str]| {
        let verdict = expect(records, Outcome::Inconclusive, words);
        assert!(verdict.reasons.iter().any(|r| r.contains("untested")));
    };
    untested(
        &of(34.0, &|_| {}),
        &["only 50.0/s are known to be of users"],
    );
    // Blocks of two seconds that nobody could read: one of fifteen is too many, and none stands for them.
    let unread = of(20.0, &|block| {
        if block.stream == REQUESTS && within(block, 4..6) {
            (block.valid, block.latency_us) = (0, Vec::new());
        }
    });
    untested(&unread, &["2 s of its load are not recorded"]);
    let quiet = of(20.0, &|block| {
        if block.stream == REQUESTS && within(block, 4..6) {
            (block.scheduled, block.valid) = (10, 10);
        }
    });
    untested(&quiet, &["for a while it answered only 5/s"]);
    let mut elsewhere = of(20.0, &|_| {});
    let effects = &mut header_mut(&mut elsewhere).judgement.effects;
    effects.load.as_mut().unwrap().by = LoadSource::Traffic("scraped".into());
    untested(&elsewhere, &["nobody counts scraped in aws"]);
}

/// A load of which some seconds are not recorded was sent all the same.
#[test]
fn a_load_that_nobody_recorded_counts_in_full() {
    let mut records = history(&sound);
    header_mut(&mut records).judgement.effects.load = Some(LoadClaim {
        by: LoadSource::Probe("checkout".into()),
        cells: vec!["aws".into()],
        peak: 40.0,
        share: 1.0 / 3.0,
        needed: 60.0,
    });
    let five = Span {
        to: 25_000,
        ..SECOND
    };
    assert_eq!(asked_of(&records, "aws", five), 100 + 5 * 63);
    records.push(Record::Load(LoadSecond {
        cell: "aws".into(),
        start_ms: 22_000,
        due: 50,
        sent: 40,
        answered: 40,
    }));
    assert_eq!(asked_of(&records, "aws", five), 100 + 4 * 63 + 40);
    assert_eq!(
        asked_of(&records, "tencent", SECOND),
        60,
        "of the claim's cells"
    );
}

#[test]
fn blocks_that_nobody_could_read_are_no_blocks() {
    // Two of three unread, and never three in a row.
    let unread = drill(|block| {
        if block.stream == REQUESTS
            && within(block, 0..200)
            && !block.start_ms.is_multiple_of(6_000)
        {
            (block.scheduled, block.valid, block.latency_us) = (2, 0, Vec::new());
        }
    });
    let verdict = expect(
        &unread,
        Outcome::Inconclusive,
        &[REQUESTS, "too few blocks: 5"],
    );
    assert_eq!(
        class(&verdict, REQUESTS, Window::Fault),
        Class::Inconclusive
    );
    let told = verdict
        .reasons
        .iter()
        .any(|reason| reason.contains("probes count"));
    assert!(told, "{:#?}", verdict.reasons);
}

#[test]
fn a_volume_is_of_a_block_of_its_traffic_and_of_a_cell_that_is_watched() {
    let with = |cell: &str, start_ms: u64| {
        let mut records = drill(|_| {});
        records.push(Record::Volume(Volume {
            traffic: "requests".into(),
            cell: cell.into(),
            start_ms,
            requests: 900,
            covered: 900,
        }));
        records
    };
    for (cell, start_ms, words) in [
        ("aws", 71_000, "is not on the block grid of its traffic"),
        ("mars", 70_000, "is of no cell of the drill"),
        ("aws", 700_000, "is behind the end of the watch"),
    ] {
        expect(&with(cell, start_ms), Outcome::Inconclusive, &[words]);
    }
}
