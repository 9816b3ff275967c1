//! The parts of the verdict that are not statistics: a whole history, nothing lost, nothing left.

use std::collections::BTreeSet;

use super::Outcome;
use super::evidence::{Evidence, Span};
use super::findings::{Findings, seconds};
use super::first_half::FirstHalf;
use crate::history::Role;

/// Residue outranks everything; what cannot be verified counts as residue.
pub(super) fn check_residue(evidence: &Evidence<'_>, findings: &mut Findings) {
    let mut words = Vec::new();
    for scan in &evidence.residues {
        let node = format!("{}/{}", scan.cell, scan.node);
        if !scan.left.is_empty() {
            words.push(format!("residue on {node}: {}", scan.left.join(", ")));
        } else if !scan.verified {
            words.push(format!(
                "residue on {node} cannot be ruled out: its scan failed"
            ));
        }
    }
    // Before fire only nodes that may have armed can hold anything of ours.
    let may_hold = |cell: &str, node: &str| {
        evidence.fire.is_some()
            || evidence
                .agents
                .iter()
                .any(|event| event.cell == cell && event.node == node && event.state != "refused")
    };
    for (cell, node) in evidence.header.plan.nodes() {
        let scanned = evidence
            .residues
            .iter()
            .any(|r| r.cell == cell && r.node == node);
        if !scanned && may_hold(&cell, &node) {
            words.push(format!(
                "residue on {cell}/{node} cannot be ruled out: it was not scanned"
            ));
        }
    }
    findings.add_some(Outcome::Residue, words);
}

/// A survivor that was left connected to something in the target cloud proves nothing.
pub(super) fn check_endpoints(evidence: &Evidence<'_>, findings: &mut Findings) {
    for endpoint in &evidence.header.plan.endpoints {
        if endpoint.survivor && !endpoint.cut {
            let address = std::net::SocketAddr::new(endpoint.address, endpoint.port);
            findings.add(
                Outcome::Inconclusive,
                format!(
                    "{} uses {} ({address}) in the target cloud and was not cut from it: \
                     cut it with a step `on: others`",
                    endpoint.cell, endpoint.name
                ),
            );
        }
    }
}

/// The drill went its whole way and the history says so without a gap.
pub(super) fn check_wholeness(evidence: &Evidence<'_>, fire: u64, findings: &mut Findings) {
    for interrupted in &evidence.interrupted {
        findings.add(
            Outcome::Aborted,
            format!(
                "ended {} after fire: {}",
                seconds(interrupted.at_ms, fire),
                interrupted.why
            ),
        );
    }
    findings.add_some(Outcome::Inconclusive, evidence.damage.clone());
    // A drill that was ended before its time has said so above.
    if evidence.ended.is_none() && evidence.interrupted.is_empty() {
        findings.add(
            Outcome::Inconclusive,
            "the history breaks off before its End mark",
        );
    }
    if evidence.reverted.is_none() {
        findings.add(
            Outcome::Inconclusive,
            "nobody confirmed that the fault was reverted",
        );
    }
    if evidence.planned_end(fire) == fire {
        findings.add(Outcome::Inconclusive, "the plan has no step that lasts");
    }
    check_gaps(evidence, fire, findings);
    check_survivors(evidence, findings);
}

/// Every stream has every block from its baseline to the end of the watch.
fn check_gaps(evidence: &Evidence<'_>, fire: u64, findings: &mut Findings) {
    let mut gaps = Vec::new();
    for stream in &evidence.header.streams {
        let from = evidence.baseline_from(stream).unwrap_or(fire);
        let missing = evidence
            .tally(
                stream,
                Span {
                    from,
                    to: evidence.end(),
                },
            )
            .missing;
        let half = FirstHalf::of(evidence, stream).map_or(0, |half| half.missing());
        let missing = missing.saturating_add(half);
        if missing > 0 {
            gaps.push(format!("{}: {missing} blocks are missing", stream.name));
        }
    }
    findings.add_some(Outcome::Inconclusive, gaps);
}

/// Every cell that the plan expects to survive has at least one stream.
fn check_survivors(evidence: &Evidence<'_>, findings: &mut Findings) {
    let plan = &evidence.header.plan;
    let touched = plan.steps.iter().flat_map(|step| step.cells.keys());
    let survivors: BTreeSet<&String> = touched
        .chain(
            plan.endpoints
                .iter()
                .filter(|e| e.survivor)
                .map(|e| &e.cell),
        )
        .filter(|cell| !plan.target.cells.contains(cell))
        .collect();
    for cell in survivors {
        if !evidence
            .header
            .streams
            .iter()
            .any(|s| s.role == Role::Other && s.cell.as_ref() == Some(cell))
        {
            findings.add(
                Outcome::Inconclusive,
                format!("{cell} must not notice, and nothing of it was judged by that"),
            );
        }
    }
}

/// The fault was in force for its planned time; only asked of a drill that nothing stopped.
pub(super) fn check_duration(
    evidence: &Evidence<'_>,
    fire: u64,
    planned_end: u64,
    findings: &mut Findings,
) {
    let Some(reverted) = evidence.reverted else {
        return;
    };
    if reverted.saturating_add(evidence.header.judgement.guard_ms) < planned_end {
        findings.add(
            Outcome::Inconclusive,
            format!(
                "the fault ended {} after fire, planned were {}",
                seconds(reverted, fire),
                seconds(planned_end, fire)
            ),
        );
    }
}
