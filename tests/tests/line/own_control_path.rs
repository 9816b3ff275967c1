//! A fault that cuts its own conductor off: it ends by itself, and the history says when.

use proof::drill::{Drill, LONG, library};
use proof::lab::Lab;
use proof::seen::run_text;
use scenarios::history::{AgentEvent, Phase, Record};

use crate::users::users_reach_target;

/// What LONG's windows are, in ms.
const WINDOW: u64 = 14_000;

/// The drill of the library, with the conductor cut off from the target's agents.
fn drill(lab: &Lab, consent: &str, more: &str) -> Drill {
    let text = library("black-hole-cloud")
        .replace(
            "allow: [others]",
            &format!("allow: [others, {consent}]{more}"),
        )
        .replacen("peers: everyone,", "peers: everyone, management: cut,", 1);
    assert!(text.contains("management: cut") && text.contains(consent));
    run_text(lab, &text, &LONG)
}

fn fired(drill: &Drill) -> u64 {
    let fired = drill.records.iter().find_map(|record| match record {
        Record::Phase(mark) if mark.phase == Phase::Fire => Some(mark.at_ms),
        _ => None,
    });
    fired.expect("it fired")
}

/// What one agent did, in the order of the history.
fn told<'a>(drill: &'a Drill, cell: &str, node: &str) -> Vec<&'a AgentEvent> {
    let events = drill.records.iter().filter_map(|record| match record {
        Record::Agent(event) if event.cell == cell && event.node == node => Some(event),
        _ => None,
    });
    events.collect()
}

/// The end of the fault on every node of the target lies between these, in ms after fire, and the
/// history has it from the agent's own clock.
fn assert_ended(drill: &Drill, cause: &str, from: u64, to: u64) {
    let fired = fired(drill);
    let target = drill
        .residue()
        .into_iter()
        .filter(|r| r.cell == "gd-aliyun");
    let nodes: Vec<&str> = target.map(|residue| residue.node.as_str()).collect();
    assert!(nodes.len() > 1, "{nodes:?}");
    for node in nodes {
        let events = told(drill, "gd-aliyun", node);
        let last = events.iter().rev().find(|event| event.state == "reverted");
        let last = last.unwrap_or_else(|| panic!("{node}: {events:#?}"));
        assert!(last.detail.contains(cause), "{node}: {last:?}");
        let since = last.since_ms.expect("by the agent's own clock") - fired;
        assert!((from..to).contains(&since), "{node}: {since} ms after fire");
    }
}

fn assert_clean(lab: &Lab, drill: &Drill) {
    let residue = drill.residue();
    assert_eq!(residue.len(), 18, "every agent was scanned");
    assert!(
        residue.iter().all(|r| r.verified && r.left.is_empty()),
        "{residue:?}"
    );
    assert!(users_reach_target(lab));
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn without_a_lease_it_ends_at_its_deadline_and_the_drill_goes_on() {
    let lab = Lab::up("cut-off", &[]);
    let drill = drill(&lab, "no_lease, cut_management", "\n  lease: none");
    drill.assert_exit(0);
    assert_clean(&lab, &drill);
    assert_ended(&drill, "deadline", WINDOW - 1_000, WINDOW + 5_000);
    let events = told(&drill, "gd-aliyun", "balancer");
    let away = |event: &&&AgentEvent| event.state == "unreachable";
    assert!(
        events.iter().find(away).is_some(),
        "nobody noticed that it was cut off: {events:#?}"
    );
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn with_a_lease_it_ends_at_the_lease_and_the_drill_is_aborted() {
    let lab = Lab::up("cut-off-lease", &[]);
    let drill = drill(&lab, "cut_management", "");
    drill.assert_exit(3);
    drill.assert_reason(&["gd-aliyun/", "ended its part of the fault early"]);
    assert_clean(&lab, &drill);
    // The lease is 5 s, renewed at most a third of it before fire.
    assert_ended(&drill, "lease", 2_000, 10_000);
}
