//! Whether the survivors carried the load of those that fell: only then is their capacity tested.

use super::Outcome;
use super::evidence::Span;
use super::findings::{Findings, percent};
use super::frame::Frame;
use crate::effects::LoadClaim;
use crate::history::Role;

/// What one cell carried while the fault lasted, requests per second.
struct Carried {
    sent: f64,
    answered: f64,
    /// Fewest answers of one second.
    least: f64,
    /// Seconds without a record.
    missing: u64,
}

fn carried(frame: &Frame<'_>, cell: &str) -> Carried {
    let block_ms = frame.evidence.block_ms();
    let span = Span {
        from: frame.fire,
        to: frame.fault_end / block_ms * block_ms,
    };
    let of_cell =
        frame.evidence.load.iter().filter(|second| {
            second.cell == cell && (span.from..span.to).contains(&second.start_ms)
        });
    let mut starts = std::collections::BTreeSet::new();
    let (mut sent, mut answered, mut least) = (0u64, 0u64, f64::MAX);
    for second in of_cell {
        if !starts.insert(second.start_ms) {
            continue; // Twice the same second is no more load.
        }
        // What was never sent was never answered, whatever a record says.
        let good = second.answered.min(second.sent);
        sent = sent.saturating_add(u64::from(second.sent));
        answered = answered.saturating_add(u64::from(good));
        least = least.min(f64::from(good));
    }
    let blocks = span.to.saturating_sub(span.from) / block_ms;
    let per_second = |count: u64| count as f64 * 1000.0 / (blocks.max(1) * block_ms) as f64;
    Carried {
        sent: per_second(sent),
        answered: per_second(answered),
        least: least * 1000.0 / block_ms as f64,
        missing: blocks.saturating_sub(starts.len() as u64),
    }
}

/// Why a cell's capacity is not proved, if it is not.
fn obstacle(claim: &LoadClaim, seen: &Carried) -> Option<String> {
    let needed = claim.needed;
    if seen.missing > 0 {
        return Some(format!("{} s of its load are not recorded", seen.missing));
    }
    if seen.answered >= needed && seen.least >= needed / 2.0 {
        return None;
    }
    Some(if seen.sent < needed {
        format!("only {:.1}/s were sent: the load was not there", seen.sent)
    } else if seen.answered < needed {
        format!(
            "it answered {:.1}/s of the {:.1}/s sent",
            seen.answered, seen.sent
        )
    } else {
        format!("in one second it answered only {:.0}", seen.least)
    })
}

/// A load that was asked for and not carried leaves a claim without its evidence.
pub(super) fn check(frame: &Frame<'_>, findings: &mut Findings) {
    let Some(claim) = &frame.evidence.header.judgement.effects.load else {
        return;
    };
    if !frame.fault_was_whole() {
        return;
    }
    if claim.cells.is_empty() {
        findings.add(
            Outcome::Inconclusive,
            "a load is declared, and no cell to carry it",
        );
    }
    if let Some(why) = contradiction(frame, claim) {
        findings.add(Outcome::Inconclusive, format!("capacity untested: {why}"));
    }
    for cell in &claim.cells {
        if let Some(why) = obstacle(claim, &carried(frame, cell)) {
            let words = format!(
                "capacity of {cell} untested: {why}; {:.1}/s are needed ({})",
                claim.needed,
                how(claim)
            );
            findings.add(Outcome::Inconclusive, words);
        }
    }
}

/// Why the claim itself cannot be one of survivors that take over the target's share.
fn contradiction(frame: &Frame<'_>, claim: &LoadClaim) -> Option<String> {
    let needed = claim.peak / (1.0 - claim.share);
    // As the planner reckons it; a file's numbers may be off in their last digit.
    let agrees = (claim.needed - needed).abs() <= needed * 1e-6;
    // Asked this way round: whatever does not compare must not pass.
    if !(claim.needed > 0.0 && needed.is_finite() && agrees) {
        return Some(format!(
            "{:.1}/s are not what {} makes",
            claim.needed,
            how(claim)
        ));
    }
    let survives = |cell: &String| {
        let mut others = frame.evidence.with_role(Role::Other);
        others.any(|stream| stream.cell.as_ref() == Some(cell))
    };
    let stranger = claim.cells.iter().find(|cell| !survives(cell))?;
    Some(format!("{stranger} is no cell that must not notice"))
}

fn how(claim: &LoadClaim) -> String {
    format!(
        "peak {:.1}/s, share {} of the target",
        claim.peak,
        percent(claim.share)
    )
}

/// What a pass says of the capacity of the other cells.
pub(super) fn on_pass(frame: &Frame<'_>) -> String {
    let Some(claim) = &frame.evidence.header.judgement.effects.load else {
        return "capacity of the other cells: untested, for probes are no load".to_owned();
    };
    let cells = claim.cells.iter();
    let told: Vec<String> = cells
        .map(|cell| format!("{cell} {:.1}/s", carried(frame, cell).answered))
        .collect();
    format!(
        "capacity of the other cells: tested, they answered {} of the {:.1}/s needed ({})",
        told.join(", "),
        claim.needed,
        how(claim)
    )
}
