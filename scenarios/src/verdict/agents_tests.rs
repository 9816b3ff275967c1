//! Agents that never fired, ended early or left gaps deny a pass; their planned end does not.

use super::Outcome;
use super::drill::{FAULT_END, FIRE, agent, expect, spoilt, without};
use crate::history::{Alarm, AlarmCause, Interrupted, Record};

/// A healthy drill in which tencent's agent once said something else.
fn with_state(state: &str, at_ms: u64) -> Vec<Record> {
    spoilt(|records| records.push(agent("tencent", state, at_ms)))
}

#[test]
fn a_node_that_never_fired_cut_nothing() {
    let silent = without(|record| {
        !matches!(record, Record::Agent(event)
            if event.cell == "tencent" && event.state == "firing")
    });
    expect(
        &silent,
        Outcome::Inconclusive,
        &["tencent/n1 never said that it fires"],
    );
    let nobody = without(|record| !matches!(record, Record::Agent(_)));
    expect(&nobody, Outcome::Inconclusive, &["ali/n1 never said"]);
}

#[test]
fn an_agent_lost_before_it_acts_cuts_nothing() {
    expect(
        &with_state("lost", FIRE * 1000 - 500),
        Outcome::Inconclusive,
        &["tencent/n1 was lost 0.5 s before fire: what it should have cut was not cut"],
    );
    // Between armed (-0.9 s) and firing (-0.8 s).
    expect(
        &with_state("lost", FIRE * 1000 - 850),
        Outcome::Inconclusive,
        &["tencent/n1 was lost 0.8 s before fire"],
    );
}

#[test]
fn a_node_that_fires_late_or_did_once_cut_nothing_in_time() {
    let fires_at = |at_ms: u64| {
        spoilt(|records| {
            for record in records {
                if let Record::Agent(event) = record
                    && event.cell == "tencent"
                    && event.state == "firing"
                {
                    event.at_ms = at_ms;
                }
            }
        })
    };
    let late = fires_at(FIRE * 1000 + 3_001);
    let said = "tencent/n1 fired only 3.0 s after fire";
    expect(&late, Outcome::Inconclusive, &[said]);
    let other = fires_at(0);
    let said = "tencent/n1 never said that it fires";
    expect(&other, Outcome::Inconclusive, &[said]);
    expect(&fires_at(FIRE * 1000 + 100), Outcome::Pass, &[]);
}

#[test]
fn a_part_that_outlives_its_end_or_has_none_is_told() {
    let ended = |at_ms: Option<u64>, since_ms: Option<u64>| {
        let mut records = without(|record| {
            !matches!(record, Record::Agent(event)
                if event.cell == "tencent" && event.state.starts_with("revert"))
        });
        if let Some(at_ms) = at_ms {
            let mut record = agent("tencent", "reverted", at_ms);
            if let Record::Agent(event) = &mut record {
                event.since_ms = since_ms;
            }
            records.push(record);
        }
        records
    };
    let end = FAULT_END * 1000;
    let never = ["tencent/n1 never said that its part has ended"];
    expect(&ended(None, None), Outcome::Inconclusive, &never);
    let late = ended(Some(end + 9_000), Some(end + 8_000));
    let said = "tencent/n1 held its part of the fault 8 s longer than planned";
    expect(&late, Outcome::Inconclusive, &[said]);
    // Learnt late, but over in time by its own clock; or learnt late, and nothing else is known.
    expect(&ended(Some(end + 9_000), Some(end)), Outcome::Pass, &[]);
    expect(&ended(Some(end + 9_000), None), Outcome::Pass, &[]);
}

#[test]
fn an_agent_that_ends_early_leaves_the_rest_uncut() {
    for state in ["lost", "idle", "reverting", "reverted", "refused", "spent"] {
        let said = format!("tencent/n1 was {state} 7.5 s after fire: from then on");
        expect(
            &with_state(state, FIRE * 1000 + 7500),
            Outcome::Inconclusive,
            &[&said],
        );
        let last = with_state(state, FAULT_END * 1000 - 1001);
        expect(&last, Outcome::Inconclusive, &["59.0 s after fire"]);
        let on_time = with_state(state, FAULT_END * 1000 - 1000);
        expect(&on_time, Outcome::Pass, &[]);
    }
    let why = spoilt(|records| {
        let mut record = agent("ali", "reverted", FIRE * 1000 + 1);
        if let Record::Agent(event) = &mut record {
            event.detail = "the guardian died".into();
        }
        records.push(record);
    });
    expect(
        &why,
        Outcome::Inconclusive,
        &["ali/n1", "the guardian died"],
    );
}

#[test]
fn what_is_learnt_late_counts_from_when_it_was() {
    let learnt_late = |since_ms: u64| {
        spoilt(|records| {
            // The end of a node that could not be asked: found out when the fault was over.
            records.retain(|record| {
                !matches!(record, Record::Agent(event)
                    if event.cell == "ali" && event.state.starts_with("revert"))
            });
            let mut record = agent("ali", "reverted", FAULT_END * 1000 + 800);
            if let Record::Agent(event) = &mut record {
                event.since_ms = Some(since_ms);
                event.detail = "lease".into();
            }
            records.push(record);
        })
    };
    expect(&learnt_late(FAULT_END * 1000), Outcome::Pass, &[]);
    expect(
        &learnt_late(FIRE * 1000 + 5000),
        Outcome::Inconclusive,
        &["ali/n1 was reverted 5 s after fire", "lease"],
    );
    // A clock that is off cannot make news younger than the moment they were told.
    expect(&learnt_late(u64::MAX), Outcome::Pass, &[]);
}

#[test]
fn an_agent_that_cannot_be_asked_has_not_ended() {
    let away = with_state("unreachable", FIRE * 1000 + 7500);
    expect(&away, Outcome::Pass, &[]);
}

#[test]
fn what_says_nothing_of_this_fault_is_no_news() {
    expect(
        &with_state("not renewed", FIRE * 1000 + 7500),
        Outcome::Pass,
        &[],
    );
    // The present state of an agent before it was armed for this drill.
    let past = with_state("reverted", FIRE * 1000 - 5000);
    expect(&past, Outcome::Pass, &[]);
    let stranger = spoilt(|records| records.push(agent("aws", "lost", FIRE * 1000 + 7500)));
    expect(&stranger, Outcome::Pass, &[]);
}

#[test]
fn an_aborted_drill_names_only_who_ended_before_it() {
    let alarmed = |at_ms| {
        spoilt(|records| {
            records.push(agent("tencent", "reverted", at_ms));
            records.push(Record::Alarm(Alarm {
                at_ms: (FIRE + 8) * 1000,
                stream: "aws/checkout".into(),
                cause: AlarmCause::Degraded,
            }));
        })
    };
    let said = |records: &[Record]| super::judge(records).reasons.join("; ");
    let after = said(&alarmed((FIRE + 8) * 1000));
    assert!(!after.contains("was reverted"), "{after}");
    let before = said(&alarmed((FIRE + 8) * 1000 - 1));
    assert!(before.contains("tencent/n1 was reverted"), "{before}");
    let interrupted = spoilt(|records| {
        records.push(agent("tencent", "lost", (FIRE + 3) * 1000));
        records.push(agent("ali", "reverted", (FIRE + 4) * 1000));
        records.push(Record::Interrupted(Interrupted {
            at_ms: (FIRE + 3) * 1000 + 1,
            why: "a lost agent".into(),
        }));
    });
    let verdict = expect(
        &interrupted,
        Outcome::Aborted,
        &["tencent/n1 was lost 3 s after fire"],
    );
    let reasons = verdict.reasons.join("; ");
    assert!(!reasons.contains("ali/n1 was reverted"), "{reasons}");
}

#[test]
fn what_the_fault_did_not_reach_is_named_once() {
    let gap = "device late0 appeared after arm: its egress was not cut";
    let records = spoilt(|records| {
        for record in records {
            if let Record::Agent(event) = record
                && event.cell == "tencent"
                && event.state.starts_with("revert")
            {
                event.gaps = vec![gap.into()];
            }
        }
    });
    let said = format!("tencent/n1: {gap}");
    let verdict = expect(&records, Outcome::Inconclusive, &[&said]);
    let times = verdict.reasons.iter().filter(|r| **r == said).count();
    assert_eq!(times, 1, "{:#?}", verdict.reasons);
}
