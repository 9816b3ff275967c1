//! What a drill is held to beside isolation, claimed or recorded in ways that prove nothing.

use std::collections::BTreeMap;

use super::drill::*;
use super::{Outcome, judge};
use crate::effects::*;
use crate::history::*;

fn denied(spoil: impl Fn(&mut Vec<Record>), words: &[&str]) {
    expect(&spoilt(spoil), Outcome::Inconclusive, words);
}

/// Whatever the kinds do not tell counts against the symptom that was meant.
#[test]
fn a_symptom_can_be_contradicted() {
    let claim = |only: Vec<Symptom>, at_least: f64| {
        let claim = SymptomClaim { only, at_least };
        move |r: &mut Vec<Record>| {
            header_mut(r).judgement.effects.symptom = Some(claim.clone());
        }
    };
    let silence = vec![Symptom::Timeouts];
    let words = ["nothing could contradict"];
    denied(claim(Vec::new(), 0.9), &words);
    for at_least in [0.0, -1.0, 1.01, f64::NAN] {
        denied(claim(silence.clone(), at_least), &words);
    }
    let unkind = |r: &mut Vec<Record>| {
        claim(silence.clone(), 0.9)(r);
        alter(r, "ali/checkout", 0..FAULT as i64, |b| b.timeouts /= 2);
    };
    denied(unkind, &["another way than declared", "of no kind 50.0 %"]);
}

fn ledgers(records: &mut [Record]) -> impl Iterator<Item = &mut Ledger> {
    records.iter_mut().filter_map(|record| match record {
        Record::Ledger(ledger) => Some(ledger),
        _ => None,
    })
}

#[test]
fn a_ledger_is_of_a_cell_that_writes_and_there_once() {
    let stranger = |r: &mut Vec<Record>| {
        r.push(Record::Ledger(ledger("nowhere")));
    };
    denied(stranger, &["nowhere/orders", "no stream is of"]);
    let twice = |r: &mut Vec<Record>| r.push(Record::Ledger(ledger("ali")));
    denied(twice, &["ali/orders", "read back twice"]);
    let more = |r: &mut Vec<Record>| ledgers(r).for_each(|l| l.updated = 301);
    denied(more, &["more writes than were acknowledged"]);
    // As great as counts can be: no panic.
    let huge = |r: &mut Vec<Record>| {
        header_mut(r).judgement.effects.durability = Some(Durability { target: None });
        ledgers(r).for_each(|l| {
            (l.acknowledged, l.updated, l.deleted) = (u64::MAX, u64::MAX, u64::MAX);
            for (phase, counts) in &mut l.phases {
                let all = *phase == WritePhase::Before;
                counts.acknowledged = if all { u64::MAX - 1 } else { 1 };
            }
        });
    };
    expect(
        &spoilt(huge),
        Outcome::Pass,
        &["of 18446744073709551615 updated"],
    );
}

#[test]
fn a_survivor_promised_something_before_and_in_the_fault() {
    let with = |cell: &'static str, phases: &'static [WritePhase]| {
        spoilt(move |r| {
            for ledger in ledgers(r).filter(|ledger| ledger.cell == cell) {
                let counts = WriteCounts {
                    acknowledged: 300 / phases.len() as u64,
                    ..WriteCounts::default()
                };
                ledger.phases = phases.iter().map(|phase| (*phase, counts)).collect();
            }
        })
    };
    use WritePhase::{After, Before, During};
    expect(&with("tencent", &[Before, During]), Outcome::Pass, &[]);
    let silent = with("tencent", &[Before, After]);
    let words = "no write was acknowledged during the fault";
    expect(&silent, Outcome::Inconclusive, &["tencent/orders", words]);
    let late = with("tencent", &[During]);
    expect(&late, Outcome::Inconclusive, &["acknowledged before fire"]);
    expect(&with("ali", &[Before, After]), Outcome::Pass, &[]);
}

#[test]
fn a_pass_tells_what_became_of_the_writes_that_are_not_judged() {
    let records = spoilt(|r| {
        header_mut(r).judgement.effects.durability = Some(Durability { target: None });
        for ledger in ledgers(r).filter(|ledger| ledger.cell == "ali") {
            (ledger.lost, ledger.duplicated, ledger.unread) = (3, 2, 7);
        }
    });
    let words = "3 lost, 2 twice, 7 not to be read (those of ali are counted and not judged)";
    expect(&records, Outcome::Pass, &[words]);
}

fn volumes(cells: &[&str], seconds: impl Iterator<Item = u64> + Clone) -> Vec<Record> {
    spoilt(|r| {
        let coverage = [("requests".to_string(), 0.9)];
        let judgement = &mut header_mut(r).judgement;
        judgement.coverage = BTreeMap::from(coverage);
        judgement.users_only = ["requests".to_owned()].into();
        for second in seconds.clone() {
            for cell in cells {
                r.push(Record::Volume(Volume {
                    traffic: "requests".into(),
                    cell: (*cell).into(),
                    start_ms: second * 1000,
                    requests: 10,
                    covered: 10,
                }));
            }
        }
    })
}

#[test]
fn the_traffic_of_every_other_cell_is_counted_in_every_block() {
    let both = ["aws", "tencent"];
    expect(&volumes(&both, 5..END), Outcome::Pass, &["users' requests"]);
    let one = volumes(&["aws"], 5..END);
    expect(&one, Outcome::Inconclusive, &["coverage", "tencent"]);
    let few = volumes(&both, (5..END).filter(|second| second % 10 != 3));
    let words = ["coverage", "13 of 132 blocks of requests in aws"];
    expect(&few, Outcome::Inconclusive, &words);
    // A scrape that failed now and then is made up for by the next.
    let gap = volumes(&both, (5..END).filter(|second| second % 50 != 3));
    expect(&gap, Outcome::Pass, &[]);
    let mut twice = volumes(&both, 5..END);
    twice.extend(
        twice
            .iter()
            .rfind(|r| matches!(r, Record::Volume(_)))
            .cloned(),
    );
    expect(&twice, Outcome::Inconclusive, &["volume", "is there twice"]);
}

fn loaded(spoil: impl Fn(&mut LoadClaim, &mut LoadSecond)) -> Vec<Record> {
    spoilt(|r| {
        let mut claim = LoadClaim {
            by: LoadSource::Probe("checkout".into()),
            cells: vec!["aws".into()],
            peak: 20.0,
            share: 1.0 / 3.0,
            needed: 30.0,
        };
        for second in FIRE..FAULT_END {
            let mut load = LoadSecond {
                cell: "aws".into(),
                start_ms: second * 1000,
                due: 32,
                sent: 32,
                answered: 31,
            };
            spoil(&mut claim, &mut load);
            r.push(Record::Load(load));
        }
        header_mut(r).judgement.effects.load = Some(claim);
    })
}

#[test]
fn a_load_is_what_the_plan_makes_on_cells_that_survive() {
    expect(&loaded(|_, _| {}), Outcome::Pass, &["tested"]);
    type Spoil = fn(&mut LoadClaim, &mut LoadSecond);
    let wrong: [(&str, Spoil); 7] = [
        ("not what", |claim, _| claim.needed = 3.0),
        ("not what", |claim, _| {
            (claim.peak, claim.needed) = (0.0, 0.0)
        }),
        ("not what", |claim, _| claim.share = 1.0),
        ("ali is no cell that must not notice", |claim, load| {
            claim.cells = vec!["ali".into()];
            load.cell = "ali".into();
        }),
        ("impossible counts", |_, load| load.due = 31),
        ("not on the block grid", |_, load| load.start_ms += 1),
        ("is there twice", |_, load| load.start_ms = FIRE * 1000),
    ];
    for (words, spoil) in wrong {
        expect(&loaded(spoil), Outcome::Inconclusive, &[words]);
    }
}

#[test]
fn a_harm_budget_is_a_share_of_what_the_plan_asks_for() {
    let budget = |share: f64, planned: u32| {
        spoilt(|r| {
            let judgement = &mut header_mut(r).judgement;
            judgement.planned_blocks = planned;
            judgement.effects.harm = Some(HarmBudget {
                failed_requests: None,
                error_budget: Some(share),
            });
        })
    };
    assert_eq!(judge(&budget(0.5, 132)).outcome, Outcome::Pass);
    for share in [1.5, f64::INFINITY] {
        expect(&budget(share, 132), Outcome::Inconclusive, &["no share"]);
    }
    // A header that plans for a day allows no more.
    expect(&budget(0.1, 86_400), Outcome::Aborted, &["errorBudget"]);
}
