//! What the agents said of themselves: who never acted, ended early or left something uncut.

use std::collections::BTreeSet;

use super::Outcome;
use super::evidence::Evidence;
use super::findings::{Findings, seconds};
use crate::history::AgentEvent;

/// Agents end by their own clocks; this close to the planned end that is no surprise.
const EARLY_MS: u64 = 1000;
/// An order to fire is given less than this before T.
const LEAD_MS: u64 = 10_000;
/// The agent cannot be spoken to: what it does is unknown, and by its lease it ends the fault.
const LOST: &str = "lost";
/// What an agent may be while it holds its part; in every other state, known or not, it does not.
const HOLDS: [&str; 4] = ["armed", "firing", "unreachable", "not renewed"];

/// Every node of the plan said that it fires, and none ended before the fault was to end.
pub(super) fn check_agents(evidence: &Evidence<'_>, fire: u64, findings: &mut Findings) {
    let until = judged_until(evidence, fire);
    let mut words = Vec::new();
    for (cell, node) in evidence.header.plan.nodes() {
        let mut events: Vec<&AgentEvent> = evidence
            .agents
            .iter()
            .copied()
            .filter(|event| event.cell == cell && event.node == node)
            .collect();
        // Stable: events of one millisecond stay in the order in which they came.
        events.sort_by_key(|event| event.happened_ms());
        let name = format!("{cell}/{node}");
        words.extend(not_fired(&events, fire, evidence).map(|why| format!("{name} {why}")));
        words.extend(ended_early(&events, until).map(|event| told(event, fire)));
        words.extend(not_ended(&events, fire, evidence).map(|why| format!("{name} {why}")));
    }
    findings.add_some(Outcome::Inconclusive, words);
    check_reach(evidence, findings);
}

/// Agents take the order to fire a little before, and say so then; much before, it was another drill's.
fn not_fired(events: &[&AgentEvent], fire: u64, evidence: &Evidence<'_>) -> Option<String> {
    let latest = fire.saturating_add(evidence.header.judgement.guard_ms);
    let times = events.iter().filter(|event| event.state == "firing");
    let times: Vec<u64> = times.map(|event| event.happened_ms()).collect();
    let in_time = |at: &u64| (fire.saturating_sub(LEAD_MS)..=latest).contains(at);
    if times.iter().any(in_time) {
        return None;
    }
    Some(match times.iter().find(|at| **at > latest) {
        Some(at) => format!("fired only {} after fire", seconds(*at, fire)),
        None => "never said that it fires: nothing shows that it cut anything".to_owned(),
    })
}

/// A drill that went its planned way ends at every node, and not much later than planned. Of a node that
/// could not be asked then, only its own clock tells when.
fn not_ended(events: &[&AgentEvent], fire: u64, evidence: &Evidence<'_>) -> Option<String> {
    if evidence.stops().next().is_some() {
        return None;
    }
    let ends = events.iter().rev();
    let Some(ended) = ends
        .take_while(|e| e.state != "firing")
        .find(|e| e.state == "reverted")
    else {
        return Some("never said that its part has ended".to_owned());
    };
    let planned = evidence.planned_end(fire);
    let slack = EARLY_MS.saturating_add(evidence.header.judgement.guard_ms);
    let late = ended.happened_ms() > planned.saturating_add(slack);
    (late && ended.since_ms.is_some()).then(|| {
        let by = seconds(ended.happened_ms(), planned);
        format!("held its part of the fault {by} longer than planned")
    })
}

/// Until when an agent's end is news: after an alarm or an interruption all of them revert.
fn judged_until(evidence: &Evidence<'_>, fire: u64) -> u64 {
    let planned = evidence.planned_end(fire).saturating_sub(EARLY_MS);
    evidence.stops().fold(planned, u64::min)
}

/// The first event before `until` that says that the node's part is over. What came before the
/// node was armed belongs to another drill, unless the node was lost.
fn ended_early<'a>(events: &[&'a AgentEvent], until: u64) -> Option<&'a AgentEvent> {
    let mut holds = false;
    events
        .iter()
        .copied()
        .take_while(|event| event.happened_ms() < until)
        .find(|event| {
            let state = event.state.as_str();
            holds |= ["armed", "firing"].contains(&state);
            state == LOST || (holds && !HOLDS.contains(&state))
        })
}

fn told(event: &AgentEvent, fire: u64) -> String {
    let at_ms = event.happened_ms();
    let AgentEvent {
        cell,
        node,
        state,
        detail,
        ..
    } = event;
    let (when, since) = match at_ms.checked_sub(fire) {
        Some(_) => (
            format!("{} after fire", seconds(at_ms, fire)),
            "from then on ",
        ),
        None => (format!("{} before fire", seconds(fire, at_ms)), ""),
    };
    let cause = match detail.as_str() {
        "" => String::new(),
        detail => format!(" ({detail})"),
    };
    format!("{cell}/{node} was {state} {when}: {since}what it should have cut was not cut{cause}")
}

/// What a fault did not reach although it should have, in the agent's words, each once.
fn check_reach(evidence: &Evidence<'_>, findings: &mut Findings) {
    let gaps: BTreeSet<String> = evidence
        .agents
        .iter()
        .flat_map(|event| {
            let node = format!("{}/{}", event.cell, event.node);
            event.gaps.iter().map(move |gap| format!("{node}: {gap}"))
        })
        .collect();
    findings.add_some(Outcome::Inconclusive, gaps.into_iter().collect());
}
