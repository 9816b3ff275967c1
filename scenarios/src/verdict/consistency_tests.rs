//! Histories that contradict themselves, or their plan: none of them passes.

use super::drill::*;
use super::{Class, Outcome, Window, judge, settled};
use crate::effects::{ClientKind, UserCount, UsersSeen};
use crate::fleet::Plane;
use crate::history::*;

fn denied(spoil: impl Fn(&mut Vec<Record>), words: &[&str]) {
    expect(&spoilt(spoil), Outcome::Inconclusive, words);
}

fn named<'a>(records: &'a mut [Record], name: &str) -> &'a mut Stream {
    let streams = &mut header_mut(records).streams;
    streams.iter_mut().find(|s| s.name == name).unwrap()
}

#[test]
fn a_dead_survivor_is_no_target_and_a_target_no_survivor() {
    let dead = |r: &mut Vec<Record>| {
        named(r, "aws/checkout").role = Role::Target;
        alter(r, "aws/checkout", 0..FAULT as i64, |b| {
            (b.bad, b.timeouts) = (RATE, RATE);
        });
    };
    denied(dead, &["aws/checkout", "no target of the plan"]);
    // That it fell stays told.
    let survivor = spoilt(|r| named(r, "ali/orders").role = Role::Other);
    let words = ["ali/orders", "a target of the plan"];
    expect(&survivor, Outcome::Fail, &words);
    denied(
        |r| header_mut(r).plan.target.cells.clear(),
        &["no target cell"],
    );
}

#[test]
fn names_say_whose_a_stream_is() {
    let words = "not that of its cell and its probe";
    denied(
        |r| named(r, "aws/checkout").cell = Some("tencent".into()),
        &["aws/checkout", words],
    );
    denied(|r| named(r, "shop/dns").probe = "x".into(), &[words]);
    denied(
        |r| named(r, "tencent/orders").cell = None,
        &["tencent/orders", words],
    );
    // What DNS draws may be without probes for a while: no probe may call itself so.
    denied(
        |r| named(r, "shop@tencent").plane = Plane::Data,
        &["shop@tencent", words],
    );
    let control = |r: &mut Vec<Record>| {
        named(r, "control/loopback").cell = Some("aws".into());
    };
    denied(control, &["a control is of no cell"]);
}

#[test]
fn guard_times_are_no_longer_than_probes_explain() {
    let guard = |ms: u64| spoilt(|r| header_mut(r).judgement.guard_ms = ms);
    expect(&guard(1_500), Outcome::Pass, &[]);
    let words = ["guard times are 1501 ms", "1500 ms"];
    expect(&guard(1_501), Outcome::Inconclusive, &words);
    // Without a limit a probe may take its timeout.
    let mut slow = guard(2_000);
    named(&mut slow, "shop@ali").slo_ms = None;
    named(&mut slow, "shop@ali").timeout_ms = 1_000;
    assert!(!judge(&slow).reasons.iter().any(|r| r.contains("guard")));
}

#[test]
fn a_promise_that_is_weaker_than_ours_is_no_pass() {
    let of = |alpha: f64| spoilt(|r| header_mut(r).judgement.alpha = alpha);
    expect(&of(0.001), Outcome::Pass, &[]);
    expect(
        &of(0.010_1),
        Outcome::Inconclusive,
        &["out of range (alpha"],
    );
}

#[test]
fn a_fault_that_acts_on_nobody_is_not_one() {
    let words = "no step of the plan acts on a node of ali";
    let no_nodes = spoilt(|r| {
        let steps = &mut header_mut(r).plan.steps;
        steps[0].cells.get_mut("ali").unwrap().nodes.clear();
    });
    expect(&no_nodes, Outcome::Ineffective, &[words]);
    let others = spoilt(|r| drop(header_mut(r).plan.steps.remove(0)));
    expect(&others, Outcome::Ineffective, &[words]);
}

#[test]
fn a_target_that_fell_before_the_fault_is_not_its_victim() {
    let fell = |seconds: i64| {
        history(&move |stream, second| match stream {
            "ali/checkout" if (-seconds..0).contains(&second) => RATE,
            _ => sound(stream, second),
        })
    };
    let words = ["ali/checkout", "it fell before the fault"];
    expect(&fell(2), Outcome::Inconclusive, &words);
    // Probes of the last block are under way when the fault begins.
    expect(&fell(1), Outcome::Pass, &[]);
}

#[test]
fn the_watch_is_as_long_as_it_was_planned() {
    let cut = |seconds: u64| {
        let mut records = history(&sound);
        let end = END - seconds;
        records.retain(|r| !matches!(r, Record::Block(b) if b.start_ms >= end * 1000));
        for record in &mut records {
            if let Record::Phase(mark) = record
                && mark.phase == Phase::End
            {
                mark.at_ms = end * 1000;
            }
        }
        records
    };
    // It settles ten seconds after the fault, and the drill's end has two to spare.
    expect(&cut(2), Outcome::Pass, &[]);
    expect(&cut(3), Outcome::Pass, &[]);
    let words = ["truncated", "57 s", "60 s"];
    expect(&cut(5), Outcome::Inconclusive, &words);
}

#[test]
fn longer_blocks_settle_by_their_own_length_and_margin() {
    let mut records = history(&sound);
    named(&mut records, "ali/checkout").basis = Basis {
        block_ms: Some(5_000),
        margin: Some(0.3),
        ..Basis::default()
    };
    records.retain(|r| {
        !matches!(r, Record::Block(b) if b.stream == "ali/checkout" && !b.start_ms.is_multiple_of(5_000))
    });
    // A fifth is bad from then on: less than its own margin, more than the judgement's.
    alter(&mut records, "ali/checkout", -60..132, |b| {
        (b.scheduled, b.valid) = (5 * RATE, 5 * RATE);
    });
    alter(&mut records, "ali/checkout", 60..132, |b| {
        (b.bad, b.timeouts) = (RATE, RATE);
    });
    let at = settled(&records, "ali/checkout");
    assert_eq!(at, Some((FAULT_END + 50) * 1000));
}

#[test]
fn a_probe_is_bad_in_one_way_and_answered_once() {
    let fault = 0..FAULT as i64;
    let spoil = |change: fn(&mut Block)| {
        let fault = fault.clone();
        move |r: &mut Vec<Record>| alter(r, "ali/checkout", fault.clone(), change)
    };
    let kinds = "not of one kind each";
    denied(spoil(|b| b.timeouts = 0), &["ali/checkout", kinds]);
    denied(spoil(|b| b.resets = 1), &[kinds]);
    denied(
        spoil(|b| b.server_errors = 1),
        &["has more 5xx than errors"],
    );
    let answers = |r: &mut Vec<Record>| {
        alter(r, "aws/checkout", 3..4, |b| {
            b.latency_us = vec![(1, RATE), (2, 1)];
        });
    };
    denied(answers, &["aws/checkout", "more answers than probes"]);
    let readings = |r: &mut Vec<Record>| {
        let gauge = &mut named(r, "aws/checkout").basis;
        gauge.counts = Counts::Gauge { limit: Some(1.0) };
        alter(r, "aws/checkout", -60..132, |b| {
            b.values = vec![0.5; RATE as usize];
        });
        alter(r, "aws/checkout", 3..4, |b| b.values.push(0.5));
    };
    denied(readings, &["aws/checkout", "another number of readings"]);
}

#[test]
fn what_a_node_holds_before_the_fault_is_no_residue_scan() {
    let early = |r: &mut Vec<Record>| {
        let (scans, mut rest): (Vec<_>, Vec<_>) = r
            .drain(..)
            .partition(|record| matches!(record, Record::Residue(_)));
        rest.splice(1..1, scans);
        *r = rest;
    };
    denied(early, &["ali/n1", "recorded before the fault"]);
}

/// A step that acts later, or for less time, is all that the target can have fallen by.
#[test]
fn the_target_falls_by_what_is_done_to_it() {
    let step = |at_s: u64, duration_s: u64| {
        move |r: &mut Vec<Record>| {
            let step = &mut header_mut(r).plan.steps[0];
            (step.at_ms, step.duration_ms) = (at_s * 1000, duration_s * 1000);
        }
    };
    let early = "fell before its part of the fault";
    denied(step(30, 30), &["ali/checkout", early]);
    denied(step(0, 1), &["ali/checkout", "no probe inside"]);
    let and_well = |r: &mut Vec<Record>| {
        step(30, 30)(r);
        for stream in ["ali/checkout", "ali/orders", "shop@ali"] {
            alter(r, stream, 0..30, |b| (b.bad, b.timeouts) = (0, 0));
        }
    };
    expect(&spoilt(and_well), Outcome::Pass, &["ali degraded"]);
}

#[test]
fn what_cannot_be_counted_so_is_told() {
    let slow = |r: &mut Vec<Record>| {
        alter(r, "aws/checkout", 3..4, |b| {
            b.latency_us = vec![(900_000_000, RATE)]
        });
    };
    denied(slow, &["aws/checkout", "slower than the slo"]);
    let rounded = |r: &mut Vec<Record>| {
        alter(r, "aws/checkout", 3..4, |b| {
            b.latency_us = vec![(500_400, RATE)]
        });
    };
    expect(&spoilt(rounded), Outcome::Pass, &[]);
    let users = |r: &mut Vec<Record>| {
        alter(r, "shop/dns", 3..4, |b| {
            let count = UserCount {
                requests: 1,
                bad: 1000,
            };
            let kinds = [(ClientKind::ALL[0], count)].into();
            b.users = Some(UsersSeen { ttl_s: 1, kinds });
        });
    };
    denied(users, &["shop/dns", "more bad requests"]);
    let foreign = |bad: u32| {
        move |r: &mut Vec<Record>| {
            alter(r, "shop/dns", 3..4, |b| {
                b.answers = [(FOREIGN.to_string(), 2)].into();
                (b.bad, b.errors) = (bad, bad);
            });
        }
    };
    denied(foreign(1), &["shop/dns", "a foreign address"]);
    expect(&spoilt(foreign(2)), Outcome::Pass, &[]);
    let behind = |r: &mut Vec<Record>| {
        r.push(Record::Block(block("aws/checkout", END, 0)));
    };
    denied(behind, &["aws/checkout", "behind the end"]);
    let late = |slow: u32| {
        spoilt(|r| {
            alter(r, "ali/checkout", 3..4, |block| block.under_way = RATE);
            r.push(Record::Late(LateEnds {
                stream: "ali/checkout".into(),
                start_ms: (FIRE + 3) * 1000,
                slow,
                ..LateEnds::default()
            }));
        })
    };
    expect(&late(RATE), Outcome::Pass, &["slow"]);
    let words = ["ali/checkout", "ended late than were under way"];
    expect(&late(RATE + 1), Outcome::Inconclusive, &words);
    let ended = |r: &mut Vec<Record>| {
        alter(r, "ali/checkout", 3..4, |block| block.under_way = 0);
    };
    let mut ended_in_time = late(1);
    ended(&mut ended_in_time);
    expect(&ended_in_time, Outcome::Inconclusive, &words);
    let long = |r: &mut Vec<Record>| header_mut(r).judgement.block_ms = 1 << 61;
    expect(&spoilt(long), Outcome::Inconclusive, &["out of range"]);
}

/// Of other cells none may be wrong, whatever an older member of the header would allow.
#[test]
fn writes_of_other_cells_are_judged_without_being_asked() {
    for lost_max in [None, Some(1000)] {
        let with = |spoil: fn(&mut Ledger)| {
            spoilt(|r| {
                header_mut(r).judgement.lost_max = lost_max;
                for record in r {
                    if let Record::Ledger(ledger) = record
                        && ledger.cell == "tencent"
                    {
                        spoil(ledger);
                    }
                }
            })
        };
        expect(
            &with(|_| ()),
            Outcome::Pass,
            &["acknowledged writes read back"],
        );
        let wrong: [fn(&mut Ledger); 3] = [|l| l.lost = 3, |l| l.resurrected = 3, |l| l.stale = 3];
        for spoil in wrong {
            let mut records = with(spoil);
            for record in &mut records {
                if let Record::Ledger(ledger) = record {
                    ledger.phases.clear();
                }
            }
            expect(&records, Outcome::Fail, &["tencent/orders", "3 of"]);
        }
        let words = ["tencent/orders", "no write was acknowledged before fire"];
        let unphased = with(|ledger| ledger.phases.clear());
        expect(&unphased, Outcome::Inconclusive, &words);
    }
}

#[test]
fn users_who_do_not_come_back_are_told() {
    let gone = |r: &mut Vec<Record>| {
        alter(r, "shop@ali", 0..132, |b| {
            (b.bad, b.timeouts) = (RATE, RATE)
        });
    };
    let words = ["shop@ali", "still bad at the end of the watch"];
    expect(&spoilt(gone), Outcome::Pass, &words);
}

#[test]
fn nothing_is_proved_by_a_target_that_need_not_fall() {
    let records = spoilt(|r| header_mut(r).judgement.effective_min = 0.0);
    expect(&records, Outcome::Inconclusive, &["out of range"]);
}

#[test]
fn a_watch_of_years_is_one_claim() {
    let records = spoilt(|r| {
        for record in r.iter_mut() {
            if let Record::Phase(mark) = record
                && mark.phase == Phase::End
            {
                mark.at_ms = 999_999_000;
            }
        }
    });
    let verdict = expect(&records, Outcome::Inconclusive, &["aws/checkout"]);
    let after = class(&verdict, "aws/checkout", Window::After);
    assert_eq!(after, Class::Inconclusive);
    let row = |r: &&super::Row| r.stream == "aws/checkout" && r.window == Window::After;
    let row = verdict.rows.iter().find(row).unwrap();
    let whole = row
        .notes
        .iter()
        .any(|note| note.contains("its baseline only 60"));
    assert!(whole, "{:?}", row.notes);
}

#[test]
fn a_torn_line_denies_a_pass_unless_it_was_a_verdict() {
    let text = |torn: &str| {
        let lines = history(&sound).into_iter();
        let lines = lines.map(|record| serde_json::to_string(&record).unwrap() + "\n");
        lines.collect::<String>() + torn
    };
    let read = |text: &str| crate::history::read(text.as_bytes(), "h").unwrap().records;
    let residue = read(&text("{\"residue\":{\"cell\":\"ali\",\"left\":["));
    expect(&residue, Outcome::Inconclusive, &["within a line"]);
    expect(&read(&text("{")), Outcome::Inconclusive, &["within a line"]);
    expect(&read(&text("{\"verdict\":{\"outc")), Outcome::Pass, &[]);
}

#[test]
fn counts_that_no_drill_has_deny_a_pass() {
    let block = |change: fn(&mut Block), stream: &str, words: &str| {
        let spoil = |r: &mut Vec<Record>| alter(r, stream, 10..11, change);
        denied(spoil, &[stream, words]);
    };
    let more_answers = |b: &mut Block| b.answers = [("aws".to_owned(), RATE + 1)].into();
    block(more_answers, "shop/dns", "more answers of DNS than probes");
    let more_users = |b: &mut Block| {
        let count = UserCount {
            requests: RATE + 1,
            bad: 0,
        };
        b.users = Some(UsersSeen {
            ttl_s: 5,
            kinds: [(ClientKind::Pinned, count)].into(),
        });
    };
    block(more_users, "shop/dns", "more requests of users");
    let fewer = |b: &mut Block| b.latency_us = vec![(USUAL_US, RATE - 1)];
    block(fewer, "aws/checkout", "good probes without a latency");
    block(
        |b| b.latency_us.clear(),
        "control/loopback",
        "without a latency",
    );
}

#[test]
fn records_that_no_drill_has_deny_a_pass() {
    let covered = |covered: u64| {
        move |r: &mut Vec<Record>| {
            r.push(Record::Volume(Volume {
                traffic: "requests".into(),
                cell: "aws".into(),
                start_ms: 70_000,
                requests: 10,
                covered,
            }));
        }
    };
    expect(&spoilt(covered(10)), Outcome::Pass, &[]);
    denied(covered(11), &["aws/requests", "covers more requests"]);
    let late = |server_errors: u32| {
        move |r: &mut Vec<Record>| {
            alter(r, "ali/checkout", 10..11, |block| block.under_way = RATE);
            r.push(Record::Late(LateEnds {
                stream: "ali/checkout".into(),
                start_ms: (FIRE + 10) * 1000,
                errors: 3,
                server_errors,
                ..LateEnds::default()
            }));
        }
    };
    expect(&spoilt(late(3)), Outcome::Pass, &[]);
    denied(late(4), &["ali/checkout", "more 5xx than errors"]);
    let stranger = |r: &mut Vec<Record>| r.push(agent("moon", "armed", 66_000));
    denied(stranger, &["an agent of moon"]);
    let format = |r: &mut Vec<Record>| header_mut(r).plan.format = 2;
    denied(format, &["the plan is of format 2"]);
}
