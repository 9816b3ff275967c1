//! Durability, symptom, harm, load and users: the case that each must catch.

use std::collections::BTreeMap;

use super::drill::{
    AFTER, FAULT, FAULT_END, FIRE, RATE, alter, expect, header_mut, history, lose, sound, spoilt,
};
use super::{Outcome, UserWindow, judge};
use crate::effects::*;
use crate::history::{AlarmCause, Ledger, Phase, Record};

fn effects(records: &mut [Record]) -> &mut Effects {
    &mut header_mut(records).judgement.effects
}

fn ledger_of<'a>(records: &'a mut [Record], cell: &str) -> &'a mut Ledger {
    let found = records.iter_mut().find_map(|record| match record {
        Record::Ledger(ledger) if ledger.cell == cell => Some(ledger),
        _ => None,
    });
    found.unwrap()
}

/// A drill by the rule that tells the sides apart.
fn with_ledgers(target: Option<DataLimits>, spoil: impl Fn(&mut Vec<Record>)) -> Vec<Record> {
    spoilt(|records| {
        effects(records).durability = Some(Durability { target });
        spoil(records);
    })
}

#[test]
fn a_write_of_another_cell_may_not_be_wrong_in_any_way() {
    let limits = Some(DataLimits {
        lost: 1000,
        resurrected: 1000,
        stale: 1000,
    });
    let passes = with_ledgers(limits, |_| {});
    expect(
        &passes,
        Outcome::Pass,
        &["600 acknowledged writes", "none was updated"],
    );
    type Spoil = fn(&mut Ledger);
    let wrong: [(&str, Spoil); 4] = [
        ("1 of 300 acknowledged writes are lost", |l| l.lost = 1),
        ("1 of 300 acknowledged writes are resurrected", |l| {
            l.resurrected = 1
        }),
        ("1 of 300 acknowledged writes are stale", |l| l.stale = 1),
        ("1 of 300 writes are there twice", |l| l.duplicated = 1),
    ];
    for (words, spoil) in wrong {
        // Whatever the target may lose, a neighbour may not.
        let records = with_ledgers(limits, |r| spoil(ledger_of(r, "tencent")));
        expect(&records, Outcome::Fail, &["tencent/orders", words]);
        let unjudged = with_ledgers(None, |r| spoil(ledger_of(r, "tencent")));
        expect(&unjudged, Outcome::Fail, &["tencent/orders", words]);
    }
}

#[test]
fn the_target_may_lose_what_the_hypothesis_says_and_no_more() {
    let limits = |lost| {
        Some(DataLimits {
            lost,
            ..DataLimits::default()
        })
    };
    let lost = |limits| with_ledgers(limits, |r| lose(ledger_of(r, "ali"), 3));
    expect(&lost(limits(3)), Outcome::Pass, &["3 lost"]);
    expect(&lost(limits(2)), Outcome::Fail, &["ali/orders", "3 of 300"]);
    expect(&lost(None), Outcome::Pass, &["3 lost"]);
    let stale = with_ledgers(limits(3), |r| ledger_of(r, "ali").stale = 1);
    expect(&stale, Outcome::Fail, &["ali/orders", "stale"]);
}

#[test]
fn phases_are_told_and_must_add_up() {
    let phases = |lost: u64| {
        let counts = |acknowledged, lost| WriteCounts {
            acknowledged,
            lost,
            ..WriteCounts::default()
        };
        BTreeMap::from([
            (WritePhase::Before, counts(200, lost)),
            (WritePhase::During, counts(100, 4)),
        ])
    };
    let spoil = |lost, sum: u64| {
        with_ledgers(None, move |r| {
            let ledger = ledger_of(r, "tencent");
            ledger.lost = sum;
            ledger.phases = phases(lost);
        })
    };
    expect(
        &spoil(1, 5),
        Outcome::Fail,
        &["5 of 300", "before fire 1, during the fault 4"],
    );
    expect(&spoil(1, 7), Outcome::Fail, &["do not add up"]);
}

#[test]
fn a_declared_update_that_never_was_proves_nothing() {
    let fleet = include_str!("../../tests/fleet.yaml");
    let declared = fleet
        .replace(
            "      readBack: \"http://{cell}/orders/{id}\"\n",
            "      readBack: \"http://{cell}/orders/{id}\"\n      update: { url: \
             \"http://{cell}/orders/{id}/{version}\" }\n",
        )
        .replace("    order:\n", "    orders:\n");
    assert!(crate::read_fleet(&declared, "f").is_ok());
    let records = with_ledgers(None, |r| header_mut(r).fleet = declared.clone());
    expect(
        &records,
        Outcome::Inconclusive,
        &["tencent/orders", "no update was acknowledged"],
    );
}

/// Histories that know nothing of sides are judged over all cells, as they always were.
#[test]
fn an_older_history_is_judged_by_its_own_rule() {
    let lost = |most| {
        spoilt(|r| {
            header_mut(r).format = 1;
            header_mut(r).judgement.lost_max = most;
            lose(ledger_of(r, "tencent"), 3);
        })
    };
    expect(&lost(Some(3)), Outcome::Pass, &["3 lost"]);
    expect(&lost(Some(2)), Outcome::Fail, &["3 of 300"]);
    expect(&lost(None), Outcome::Pass, &["no residue"]);
}

fn silent(records: &mut [Record]) {
    effects(records).symptom = Some(SymptomClaim {
        only: vec![Symptom::Timeouts],
        at_least: 0.9,
    });
}

#[test]
fn a_target_that_answers_was_not_cut_off() {
    let passes = spoilt(|r| silent(r));
    expect(&passes, Outcome::Pass, &["timeouts 100.0 %"]);
    let answers = |share: u32| {
        spoilt(|r| {
            silent(r);
            for stream in ["ali/checkout", "ali/orders", "shop@ali"] {
                alter(r, stream, 0..FAULT as i64, |b| {
                    b.errors = RATE * share / 100;
                    b.server_errors = b.errors;
                    b.timeouts = RATE - b.errors;
                });
            }
        })
    };
    expect(
        &answers(100),
        Outcome::Inconclusive,
        &[
            "another fault was in force",
            "5xx 100.0 %",
            "at least 90.0 % timeouts",
        ],
    );
    // 90 % are silent in what was seen: that is no proof of 90 %.
    expect(
        &answers(10),
        Outcome::Inconclusive,
        &["not proved to fail as declared"],
    );
    expect(&answers(5), Outcome::Pass, &["5xx 5.0 %"]);
}

/// As a probe does that asks somebody else about the cell; the hypothesis does not name it.
#[test]
fn what_need_not_fall_does_not_show_the_symptom() {
    let records = spoilt(|r| {
        silent(r);
        alter(r, "ali/orders", 0..FAULT as i64, |b| {
            (b.errors, b.timeouts) = (RATE, 0);
        });
    });
    let words = "wrong answers and other errors 33.3 %";
    expect(&records, Outcome::Pass, &[words]);
}

#[test]
fn another_symptom_hides_no_neighbour_that_fell() {
    let mut records = history(&|stream, second| {
        let ill = stream == "aws/checkout" && second >= 0;
        if ill { RATE } else { sound(stream, second) }
    });
    silent(&mut records);
    for stream in ["ali/checkout", "ali/orders", "shop@ali"] {
        alter(&mut records, stream, 0..60, |b| {
            (b.resets, b.timeouts) = (b.timeouts, 0);
        });
    }
    expect(&records, Outcome::Fail, &["aws fell"]);
}

/// The three streams of the target that count fail 20 times a second each.
const HARM_PER_SECOND: u64 = 3 * RATE as u64;

fn harm(failed_requests: Option<u64>, error_budget: Option<f64>) -> Vec<Record> {
    spoilt(|r| {
        effects(r).harm = Some(HarmBudget {
            failed_requests,
            error_budget,
        });
    })
}

#[test]
fn an_exceeded_harm_budget_aborts_and_names_its_second() {
    let whole = HARM_PER_SECOND * FAULT;
    let enough = harm(Some(whole), None);
    assert_eq!(judge(&enough).outcome, Outcome::Pass);
    let exceeded = harm(Some(whole - 1), None);
    let verdict = expect(
        &exceeded,
        Outcome::Aborted,
        &[
            "harm budget",
            "60 s after fire",
            "failedRequests allows 3599",
        ],
    );
    assert_eq!(verdict.outcome.exit_code(), 3);
    let words = ["harm budget", "5 s after fire: 300 failed requests"];
    expect(&harm(Some(299), None), Outcome::Aborted, &words);
    // Six streams of 20/s from fire to the planned end, a quarter of them.
    let due = 6 * u64::from(RATE) * (FAULT + 10 + AFTER);
    let share = (whole - 1) as f64 / due as f64;
    expect(&harm(None, Some(share)), Outcome::Aborted, &["errorBudget"]);
    assert_eq!(
        judge(&harm(None, Some(share + 0.001))).outcome,
        Outcome::Pass
    );
}

#[test]
fn harm_behind_the_fault_is_no_pass_either() {
    let mut records = history(&|stream, second| {
        let slow_to_heal = stream == "ali/orders" && (60..62).contains(&second);
        if slow_to_heal {
            RATE
        } else {
            sound(stream, second)
        }
    });
    let most = Some(HARM_PER_SECOND * FAULT);
    effects(&mut records).harm = Some(HarmBudget {
        failed_requests: most,
        error_budget: None,
    });
    expect(
        &records,
        Outcome::Fail,
        &["in the end by 3640", "the fault was over"],
    );
}

#[test]
fn the_online_meter_is_what_the_judge_replays() {
    let records = harm(Some(299), None);
    let fire = records
        .iter()
        .position(|r| matches!(r, Record::Phase(m) if m.phase == Phase::Fire))
        .unwrap();
    let mut watch = super::Watch::new(&records[..=fire]).unwrap();
    let mut spoke = Vec::new();
    for second in FIRE..FAULT_END {
        let blocks = records.iter().filter_map(|r| match r {
            Record::Block(b) if b.start_ms == second * 1000 => Some(b),
            _ => None,
        });
        spoke.extend(watch.second(second * 1000, blocks));
    }
    let [alarm] = spoke.as_slice() else {
        panic!("{spoke:?}");
    };
    assert_eq!(
        (alarm.cause, alarm.at_ms),
        (AlarmCause::Harm, (FIRE + 5) * 1000)
    );
    assert_eq!(alarm.stream, "harm/failedRequests");
    let mut aborted = records.clone();
    aborted.push(Record::Alarm(alarm.clone()));
    let verdict = expect(&aborted, Outcome::Aborted, &["harm budget"]);
    let invented = verdict
        .reasons
        .iter()
        .any(|r| r.contains("do not bear out"));
    assert!(!invented, "{:?}", verdict.reasons);
    // An alarm that nothing bears out is told.
    let mut invented = history(&sound);
    invented.push(Record::Alarm(alarm.clone()));
    expect(&invented, Outcome::Inconclusive, &["do not bear out"]);
}

/// A load of 30/s on both survivors, of which `answered` come back in each second.
fn loaded(due: u32, sent: u32, answered: impl Fn(u64) -> u32) -> Vec<Record> {
    spoilt(|records| {
        effects(records).load = Some(LoadClaim {
            by: LoadSource::Probe("checkout".into()),
            cells: vec!["aws".into(), "tencent".into()],
            peak: 20.0,
            share: 1.0 / 3.0,
            needed: 30.0,
        });
        for second in FIRE - 5..FAULT_END + AFTER {
            for cell in ["aws", "tencent"] {
                records.push(Record::Load(LoadSecond {
                    cell: cell.into(),
                    start_ms: second * 1000,
                    due,
                    sent,
                    answered: answered(second),
                }));
            }
        }
    })
}

#[test]
fn capacity_is_tested_only_by_a_load_that_was_carried() {
    expect(&history(&sound), Outcome::Pass, &["capacity", "untested"]);
    let carried = loaded(32, 32, |_| 31);
    expect(
        &carried,
        Outcome::Pass,
        &[
            "tested by requests of checkout, they answered aws 31.0/s",
            "30.0/s needed",
        ],
    );
    let unsent = loaded(32, 20, |_| 31);
    expect(
        &unsent,
        Outcome::Inconclusive,
        &["capacity of aws untested", "only 20.0/s were sent"],
    );
    let failed = loaded(32, 32, |second| if second < FIRE + 10 { 20 } else { 31 });
    expect(
        &failed,
        Outcome::Inconclusive,
        &["it answered 29.2/s of the 32.0/s sent"],
    );
    let stalled = loaded(40, 40, |second| if second == FIRE + 10 { 2 } else { 40 });
    expect(
        &stalled,
        Outcome::Inconclusive,
        &["for a while it answered only 2/s"],
    );
    let mut gap = carried.clone();
    gap.retain(
        |r| !matches!(r, Record::Load(l) if l.cell == "aws" && l.start_ms == (FIRE + 7) * 1000),
    );
    expect(
        &gap,
        Outcome::Inconclusive,
        &["1 s of its load are not recorded"],
    );
    // Load before and after the fault does not stand for load during it.
    let mut around = carried;
    around.retain(
        |r| !matches!(r, Record::Load(l) if (FIRE..FAULT_END).contains(&(l.start_ms / 1000))),
    );
    expect(
        &around,
        Outcome::Inconclusive,
        &["60 s of its load are not recorded"],
    );
}

/// DNS stops answering with the target 20 s after fire; its answers may be kept for 5 s.
pub(super) fn users() -> Vec<Record> {
    spoilt(|records| {
        let streams = header_mut(records).streams.iter_mut();
        for half in streams.filter(|stream| stream.name.contains('@')) {
            half.rate /= 2.0;
        }
        alter(records, "shop/dns", -60..0, |b| {
            b.answers = BTreeMap::from([("ali".into(), 10), ("tencent".into(), 10)]);
        });
        alter(records, "shop/dns", 0..20, |b| {
            b.answers = BTreeMap::from([("ali".into(), 10), ("tencent".into(), 10)]);
        });
        alter(records, "shop/dns", 20..132, |b| {
            b.answers = BTreeMap::from([("tencent".into(), 20)]);
        });
        let kinds = |honours, pinned| {
            let count = |requests, bad| UserCount { requests, bad };
            Some(UsersSeen {
                ttl_s: 5,
                kinds: BTreeMap::from([
                    (ClientKind::HonoursTtl, count(18, honours)),
                    (ClientKind::Pinned, count(2, pinned)),
                ]),
            })
        };
        alter(records, "shop/dns", -60..0, |b| b.users = kinds(0, 0));
        alter(records, "shop/dns", 0..25, |b| b.users = kinds(9, 1));
        alter(records, "shop/dns", 25..60, |b| b.users = kinds(0, 1));
        alter(records, "shop/dns", 60..132, |b| b.users = kinds(0, 0));
    })
}

#[test]
fn users_are_told_by_window_and_kind_and_the_worst_case_in_words() {
    let verdict = expect(
        &users(),
        Outcome::Pass,
        &[
            "worst case",
            "of the region's requests for 25 s, not 50.0 %",
            "measured 50.0 %, 250 of 500",
        ],
    );
    let [seen] = verdict.users.as_slice() else {
        panic!("{:?}", verdict.users);
    };
    let told: Vec<_> = seen
        .rows
        .iter()
        .map(|row| {
            (
                row.window,
                row.client,
                row.seconds as u32,
                row.bad,
                row.requests,
            )
        })
        .collect();
    let (honours, pinned) = (Some(ClientKind::HonoursTtl), Some(ClientKind::Pinned));
    use UserWindow::{After, Before, During};
    assert_eq!(
        told,
        [
            (Before, None, 20, 200, 400),
            (Before, honours, 20, 180, 360),
            (Before, pinned, 20, 20, 40),
            (During, None, 5, 50, 100),
            (During, honours, 5, 45, 90),
            (During, pinned, 5, 5, 10),
            (After, None, 35, 35, 700),
            (After, honours, 35, 0, 630),
            (After, pinned, 35, 35, 70),
        ]
    );
    for row in &seen.rows {
        assert!(
            row.low <= row.rate && row.rate <= row.high && row.low < row.high,
            "{row:?}"
        );
    }
}

#[test]
fn shares_that_dns_does_not_give_are_refuted() {
    let agrees = judge(&users()).users[0].words[0].clone();
    assert!(
        agrees.contains("1200 answers") && agrees.contains("agree"),
        "{agrees}"
    );
    let mut skewed = users();
    alter(&mut skewed, "shop/dns", -60..0, |b| {
        b.answers = BTreeMap::from([("ali".into(), 13), ("tencent".into(), 7)]);
    });
    let words = judge(&skewed).users[0].words[0].clone();
    assert!(
        words.contains("refuted") && words.contains("ali 65.0 %"),
        "{words}"
    );
    assert!(words.contains("declared 50.0 %"), "{words}");
}

#[test]
fn dns_that_never_stops_is_said_to() {
    let mut records = users();
    alter(&mut records, "shop/dns", 20..60, |b| {
        b.answers = BTreeMap::from([("ali".into(), 10), ("tencent".into(), 10)]);
    });
    let seen = &judge(&records).users[0];
    assert!(seen.words[1].contains("never stopped"), "{:?}", seen.words);
    assert!(seen.rows.iter().all(|row| row.window == UserWindow::Before));
    // Users of an older history were not counted by kind.
    assert!(judge(&history(&sound)).users.is_empty());
}
