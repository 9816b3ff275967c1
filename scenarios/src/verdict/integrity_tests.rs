//! The ways in which the history itself denies a pass: gaps, residue, lost writes, a fault cut short.

use super::drill::{
    END, FIRE, RATE, alter, class, expect, header, header_mut, history, history_of, lose, mark,
    sound, spoilt, stream, without,
};
use super::{Class, Outcome, Window};
use crate::history::{Alarm, AlarmCause, Block, Interrupted, Phase, Record, Role};

#[test]
fn gaps_and_damage_deny_a_pass() {
    for (name, second) in [
        ("aws/checkout", 30),
        ("ali/checkout", 30),
        ("shop@ali", 100),
        ("aws/checkout", -20),
    ] {
        let at = (FIRE as i64 + second) as u64 * 1000;
        let records =
            without(|r| !matches!(r, Record::Block(b) if b.stream == name && b.start_ms == at));
        expect(&records, Outcome::Inconclusive, &[]);
    }
    let silent = without(|r| !matches!(r, Record::Block(b) if b.stream == "aws/checkout"));
    expect(
        &silent,
        Outcome::Inconclusive,
        &["aws/checkout: no baseline"],
    );
    let records = spoilt(|r| alter(r, "aws/checkout", 5..6, |b| b.bad = 30));
    expect(&records, Outcome::Inconclusive, &["impossible counts"]);
    let records = spoilt(|r| alter(r, "aws/checkout", 5..6, |b| b.start_ms += 1));
    expect(&records, Outcome::Inconclusive, &["not on the block grid"]);
    let records = spoilt(|r| alter(r, "aws/checkout", 5..6, |b| b.start_ms += 1000));
    expect(&records, Outcome::Inconclusive, &["is there twice"]);
    let records = spoilt(|r| {
        alter(r, "aws/checkout", 5..6, |b| {
            b.stream = "gcp/checkout".into()
        })
    });
    expect(
        &records,
        Outcome::Inconclusive,
        &["gcp/checkout: blocks of a stream not in the header"],
    );
    let records = spoilt(|r| r.push(mark(Phase::End, END)));
    expect(&records, Outcome::Inconclusive, &["End is there twice"]);
    let records = spoilt(|r| header_mut(r).format = 4);
    expect(&records, Outcome::Inconclusive, &["format 4"]);
    expect(
        &[],
        Outcome::Inconclusive,
        &["does not begin with a header"],
    );
}

#[test]
fn why_an_interrupted_drill_has_no_end_is_told_once() {
    let mut records = without(|r| !matches!(r, Record::Phase(m) if m.phase == Phase::End));
    records.push(Record::Interrupted(Interrupted {
        at_ms: (FIRE + 8) * 1000,
        why: "Ctrl-C".into(),
    }));
    let verdict = expect(&records, Outcome::Aborted, &["8 s after fire: Ctrl-C"]);
    let twice = verdict.reasons.iter().any(|r| r.contains("breaks off"));
    assert!(!twice, "{:?}", verdict.reasons);
}

#[test]
fn a_drill_that_did_not_go_its_whole_way() {
    let phase = |p: Phase| move |r: &Record| !matches!(r, Record::Phase(m) if m.phase == p);
    expect(
        &without(phase(Phase::End)),
        Outcome::Inconclusive,
        &["breaks off"],
    );
    expect(
        &without(phase(Phase::Reverted)),
        Outcome::Inconclusive,
        &["reverted"],
    );
    expect(
        &without(phase(Phase::Before)),
        Outcome::Inconclusive,
        &["no baseline"],
    );
    let unfired = without(phase(Phase::Fire));
    assert_eq!(
        expect(&unfired, Outcome::Aborted, &["never fired"])
            .outcome
            .exit_code(),
        3
    );
    let interrupted = spoilt(|r| {
        let why = "Ctrl-C".into();
        r.push(Record::Interrupted(Interrupted {
            at_ms: (FIRE + 8) * 1000,
            why,
        }));
    });
    let verdict = expect(&interrupted, Outcome::Aborted, &["8 s after fire: Ctrl-C"]);
    assert_eq!(
        class(&verdict, "aws/checkout", Window::Fault),
        Class::Inconclusive
    );
    let cut = spoilt(|r| {
        r.retain(|r| !matches!(r, Record::Block(b) if b.start_ms >= (FIRE + 30) * 1000));
        r.retain(phase(Phase::End));
        r.retain(phase(Phase::Reverted));
        r.push(mark(Phase::End, FIRE + 30));
    });
    expect(
        &cut,
        Outcome::Inconclusive,
        &["aws/checkout", "blocks of the window are missing"],
    );
    let early = spoilt(|r| {
        r.retain(phase(Phase::Reverted));
        r.push(mark(Phase::Reverted, FIRE + 30));
        for name in ["ali/checkout", "ali/orders"] {
            alter(r, name, 30..60, |b| b.bad = 0);
        }
    });
    expect(
        &early,
        Outcome::Inconclusive,
        &["the fault ended 30 s after fire, planned were 60 s"],
    );
}

#[test]
fn residue_outranks_everything() {
    let residue = |change: &dyn Fn(&mut crate::history::Residue)| {
        let mut records = history(&|_, _| RATE);
        for record in &mut records {
            if let Record::Residue(scan) = record {
                change(scan);
            }
        }
        records
    };
    let left = residue(&|r| r.left.push("table inet cellwall".into()));
    let verdict = expect(&left, Outcome::Residue, &["ali/n1: table inet cellwall"]);
    assert_eq!(verdict.outcome.exit_code(), 4);
    expect(
        &residue(&|r| r.verified = false),
        Outcome::Residue,
        &["its scan failed"],
    );
    let unscanned = without(|r| !matches!(r, Record::Residue(scan) if scan.cell == "tencent"));
    expect(&unscanned, Outcome::Residue, &["tencent/n1", "not scanned"]);
}

#[test]
fn acknowledged_writes_are_evidence() {
    let ledger = |change: &dyn Fn(&mut crate::history::Ledger)| {
        spoilt(|records| {
            for record in records {
                if let Record::Ledger(ledger) = record
                    && ledger.cell == "ali"
                {
                    change(ledger);
                }
            }
        })
    };
    expect(
        &ledger(&|l| l.lost = 2),
        Outcome::Fail,
        &["ali/orders: 2 of 300", "lost"],
    );
    expect(
        &ledger(&|l| l.duplicated = 1),
        Outcome::Fail,
        &["there twice"],
    );
    expect(
        &ledger(&|l| l.unread = 1),
        Outcome::Inconclusive,
        &["could not be read back"],
    );
    expect(
        &ledger(&|l| l.acknowledged = 0),
        Outcome::Inconclusive,
        &["no write was acknowledged"],
    );
    let mut records = ledger(&|l| lose(l, 2));
    header_mut(&mut records).judgement.lost_max = Some(2);
    expect(
        &records,
        Outcome::Pass,
        &["600 acknowledged writes read back, 2 lost"],
    );
    let none = without(|r| !matches!(r, Record::Ledger(_)));
    expect(
        &none,
        Outcome::Inconclusive,
        &["no acknowledged write was read back"],
    );
    let mut header = header();
    header.streams.push(stream("aws/orders", Role::Other));
    expect(
        &history_of(header, &sound),
        Outcome::Inconclusive,
        &["aws/orders", "not read back"],
    );
}

/// Two cells; `checkout` reads, `orders` and whatever `more` says write.
fn fleet(more: &str) -> String {
    format!(
        "apiVersion: cellwall.dev/v1
kind: Fleet
metadata: {{ name: two }}
spec:
  operator: {{ addresses: [203.0.113.10] }}
  clouds:
    aliyun: {{ prefixes: [198.51.100.0/26] }}
    tencent: {{ prefixes: [198.51.100.64/26] }}
  cells:
    ali:
      cloud: aliyun
      region: guangdong
      addresses: [198.51.100.2]
      prefixes: [10.1.0.0/16]
      nodes: [{{ name: n1, address: 198.51.100.5 }}]
    tencent:
      cloud: tencent
      region: guangdong
      addresses: [198.51.100.66]
      prefixes: [10.2.0.0/16]
      nodes: [{{ name: n1, address: 198.51.100.69 }}]
  probes:
    checkout: {{ plane: data, http: {{ url: \"http://{{cell}}/\" }} }}
    orders: {WRITES}
{more}"
    )
}

const WRITES: &str = "{ plane: data, http: { url: \"http://{cell}/w/{id}\", method: POST }, \
    readBack: \"http://{cell}/w/{id}\" }";

#[test]
fn every_probe_that_writes_is_read_back_in_every_cell() {
    crate::read_fleet(&fleet(""), "fleet.yaml").unwrap();
    let of = |text: String| spoilt(|r| header_mut(r).fleet = text.clone());
    expect(&of(fleet("")), Outcome::Pass, &[]);
    let carts = of(fleet(&format!("    carts: {WRITES}\n")));
    for cell in ["ali", "tencent"] {
        let words = format!("{cell}/carts: acknowledged writes not read back");
        expect(&carts, Outcome::Inconclusive, &[&words]);
    }
    let mut unasked = carts;
    header_mut(&mut unasked).judgement.lost_max = None;
    unasked.retain(|record| !matches!(record, Record::Ledger(_)));
    expect(
        &unasked,
        Outcome::Inconclusive,
        &["no acknowledged write was read back"],
    );
    header_mut(&mut unasked).format = 2;
    expect(&unasked, Outcome::Pass, &[]);
    // A fleet that cannot be read does not tell which ledgers should be there.
    let unread = of("kind: Fleet".into());
    expect(&unread, Outcome::Inconclusive, &["cannot be read"]);
}

#[test]
fn an_endpoint_left_connected_is_named() {
    let records = spoilt(|r| header_mut(r).plan.endpoints[0].cut = false);
    expect(
        &records,
        Outcome::Inconclusive,
        &["tencent uses orders-db (198.51.100.40:5432)"],
    );
}

#[test]
fn nothing_to_judge_by_or_nobody_to_judge() {
    let drop_streams = |gone: &dyn Fn(&str) -> bool| {
        spoilt(|r| {
            header_mut(r).streams.retain(|s| !gone(&s.name));
            r.retain(|r| !matches!(r, Record::Block(b) if gone(&b.stream)));
        })
    };
    let lone = drop_streams(&|s| s.starts_with("control"));
    expect(&lone, Outcome::Inconclusive, &["no control stream"]);
    let others = [
        "tencent/checkout",
        "tencent/orders",
        "aws/checkout",
        "shop/dns",
        "shop@tencent",
    ];
    let alone = drop_streams(&|s| others.contains(&s));
    expect(
        &alone,
        Outcome::Inconclusive,
        &["no stream must stay unharmed"],
    );
    expect(
        &alone,
        Outcome::Inconclusive,
        &["tencent must not notice, and nothing of it was judged"],
    );
    let blindfold = drop_streams(&|s| s == "ali/checkout");
    expect(
        &blindfold,
        Outcome::Inconclusive,
        &["no probe checkout of target cell ali"],
    );
}

#[test]
fn a_recorded_alarm_without_evidence_stops_but_proves_nothing() {
    let records = spoilt(|r| {
        let stream = "aws/checkout".into();
        r.push(Record::Alarm(Alarm {
            at_ms: (FIRE + 4) * 1000,
            stream,
            cause: AlarmCause::Degraded,
        }));
    });
    expect(
        &records,
        Outcome::Inconclusive,
        &["aws/checkout", "do not bear out"],
    );
}

#[test]
fn firing_an_ill_fleet_proves_nothing() {
    let records = spoilt(|r| alter(r, "aws/checkout", -60..0, |b| b.bad = 1));
    expect(
        &records,
        Outcome::Inconclusive,
        &["fired although not ready", "aws/checkout"],
    );
}

#[test]
fn users_of_whom_dns_tells_too_seldom_prove_nothing() {
    let silent = |step: usize| {
        spoilt(|records| {
            for first in (0..60).step_by(step) {
                let none = |b: &mut Block| (b.scheduled, b.valid, b.bad) = (0, 0, 0);
                alter(records, "shop@tencent", first..first + 1, none);
            }
        })
    };
    let verdict = expect(
        &silent(3),
        Outcome::Inconclusive,
        &[
            "shop@tencent",
            "20 of the window's 60 blocks have fewer probes",
        ],
    );
    assert_eq!(
        class(&verdict, "shop@tencent", Window::Fault),
        Class::Inconclusive
    );
    expect(&silent(20), Outcome::Pass, &[]);
}
