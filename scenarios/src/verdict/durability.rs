//! Acknowledged writes, read back: lost, there twice, resurrected, stale, or not to be asked.
//!
//! Of the target the hypothesis says how many may be wrong. Of every other cell none may: whoever
//! has acknowledged a write there has promised to keep it, whatever falls beside it. Histories of
//! format 1 are judged by `lost_max` over all cells, as they were made.

use std::collections::BTreeSet;

use super::Outcome;
use super::evidence::{Evidence, is_attributed};
use super::findings::Findings;
use crate::effects::{DataLimits, Durability, WriteCounts, WritePhase};
use crate::fleet::Fleet;
use crate::history::Ledger;

/// What may be wrong, of the target and of every other cell.
enum Rule {
    /// So many lost over all cells.
    LostOverAll(u64),
    BySide(Durability),
}

fn rule(evidence: &Evidence<'_>) -> Option<Rule> {
    let judgement = &evidence.header.judgement;
    match (&judgement.effects.durability, judgement.lost_max) {
        (Some(durability), _) => Some(Rule::BySide(durability.clone())),
        (None, Some(lost_max)) if evidence.header.format == 1 => Some(Rule::LostOverAll(lost_max)),
        // Whatever was read back of another cell must be as it was left.
        (None, lost_max)
            if lost_max.is_some() || !evidence.ledgers.is_empty() || writes(evidence) =>
        {
            let target = lost_max.map(|lost| DataLimits {
                lost,
                ..DataLimits::default()
            });
            (evidence.header.format > 1).then_some(Rule::BySide(Durability { target }))
        }
        (None, _) => None,
    }
}

/// Whether the recorded fleet has writes that are read back. Before format 3 that alone asked for nothing.
fn writes(evidence: &Evidence<'_>) -> bool {
    if evidence.header.format < 3 {
        return false;
    }
    let fleet = crate::read_fleet(&evidence.header.fleet, "the recorded fleet");
    fleet.is_ok_and(|fleet| fleet.probes.values().any(|probe| probe.read_back.is_some()))
}

/// What speaks against a pass.
pub(super) fn check(evidence: &Evidence<'_>, findings: &mut Findings) {
    let Some(rule) = rule(evidence) else {
        return;
    };
    if evidence.ledgers.is_empty() {
        findings.add(Outcome::Inconclusive, "no acknowledged write was read back");
        return;
    }
    // Older histories hold no fleet; then only the ledgers themselves tell which probes write.
    let recorded = &evidence.header.fleet;
    let fleet = crate::read_fleet(recorded, "the recorded fleet").ok();
    if fleet.is_none() && !recorded.is_empty() {
        let words = "the recorded fleet cannot be read, so nobody knows which probes write";
        findings.add(Outcome::Inconclusive, words);
    }
    for ledger in &evidence.ledgers {
        let limits = match rule {
            Rule::LostOverAll(lost) => Some(DataLimits {
                lost,
                resurrected: u64::MAX,
                stale: u64::MAX,
            }),
            Rule::BySide(ref durability) if is_target(evidence, ledger) => durability.target,
            Rule::BySide(_) => Some(DataLimits::default()),
        };
        let everywhere = matches!(rule, Rule::LostOverAll(_));
        if let Some(limits) = limits {
            check_ledger(evidence, ledger, limits, everywhere, findings);
            check_evidence(ledger, fleet.as_ref(), findings);
            if !is_target(evidence, ledger) {
                check_phases(evidence, ledger, findings);
            }
        }
    }
    let there: BTreeSet<(String, String)> = evidence
        .ledgers
        .iter()
        .map(|l| (l.cell.clone(), l.probe.clone()))
        .collect();
    let missing = wanted_ledgers(evidence, fleet.as_ref()).into_iter();
    let words = missing
        .filter(|wanted| !there.contains(wanted))
        .map(|(cell, probe)| format!("{cell}/{probe}: acknowledged writes not read back"));
    findings.add_some(Outcome::Inconclusive, words.collect());
}

fn is_target(evidence: &Evidence<'_>, ledger: &Ledger) -> bool {
    evidence.header.plan.target.cells.contains(&ledger.cell)
}

fn check_ledger(
    evidence: &Evidence<'_>,
    ledger: &Ledger,
    limits: DataLimits,
    everywhere: bool,
    findings: &mut Findings,
) {
    let name = format!("{}/{}", ledger.cell, ledger.probe);
    let of = ledger.acknowledged;
    let target = is_target(evidence, ledger);
    let like = |other: &&&Ledger| everywhere || is_target(evidence, other) == target;
    let in_all = |part: fn(&Ledger) -> u64| {
        let ledgers = evidence.ledgers.iter().filter(like);
        ledgers.fold(0u64, |sum, ledger| sum.saturating_add(part(ledger)))
    };
    let wrongs: [Wrong; 3] = [
        ("are lost", |l| l.lost, |c| c.lost, limits.lost),
        (
            "are resurrected (deleted or overwritten, and there again)",
            |l| l.resurrected,
            |c| c.resurrected,
            limits.resurrected,
        ),
        (
            "are stale (an older version than was acknowledged)",
            |l| l.stale,
            |c| c.stale,
            limits.stale,
        ),
    ];
    for (words, part, of_phase, most) in wrongs {
        if part(ledger) > 0 && in_all(part) > most {
            let when = by_phase(ledger, of_phase);
            let count = part(ledger);
            let words = format!("{name}: {count} of {of} acknowledged writes {words}{when}");
            findings.add(Outcome::Fail, words);
        }
    }
    if ledger.duplicated > 0 {
        let when = by_phase(ledger, |c| c.duplicated);
        let words = format!(
            "{name}: {} of {of} writes are there twice{when}",
            ledger.duplicated
        );
        findings.add(Outcome::Fail, words);
    }
    if ledger.unread > 0 {
        let words = format!(
            "{name}: {} of {of} writes could not be read back",
            ledger.unread
        );
        findings.add(Outcome::Inconclusive, words);
    }
    if of == 0 {
        findings.add(
            Outcome::Inconclusive,
            format!("{name}: no write was acknowledged"),
        );
    }
}

/// What is wrong, its count in the ledger and in a phase, and how many there may be.
type Wrong = (
    &'static str,
    fn(&Ledger) -> u64,
    fn(&WriteCounts) -> u64,
    u64,
);

/// One number of the writes of a phase.
type Part = fn(&WriteCounts) -> u64;

/// ` (last changed before fire 2, during the fault 3)`, or nothing where the ledger knows no phases.
fn by_phase(ledger: &Ledger, part: Part) -> String {
    let phases = ledger.phases.iter();
    let told: Vec<String> = phases
        .filter(|(_, counts)| part(counts) > 0)
        .map(|(phase, counts)| format!("{} {}", phase.words(), part(counts)))
        .collect();
    match told.is_empty() {
        true => String::new(),
        false => format!(" (last changed {})", told.join(", ")),
    }
}

/// The phases add up, and what was declared was done at all.
fn check_evidence(ledger: &Ledger, fleet: Option<&Fleet>, findings: &mut Findings) {
    let name = format!("{}/{}", ledger.cell, ledger.probe);
    let parts: [(Part, u64); 6] = [
        (|c| c.acknowledged, ledger.acknowledged),
        (|c| c.lost, ledger.lost),
        (|c| c.duplicated, ledger.duplicated),
        (|c| c.resurrected, ledger.resurrected),
        (|c| c.stale, ledger.stale),
        (|c| c.unread, ledger.unread),
    ];
    let adds_up = |(part, whole): &(Part, u64)| {
        let phases = ledger.phases.values();
        phases.fold(0u64, |sum, counts| sum.saturating_add(part(counts))) == *whole
    };
    if !ledger.phases.is_empty() && !parts.iter().all(adds_up) {
        let words = format!("{name}: the phases of its writes do not add up");
        findings.add(Outcome::Inconclusive, words);
    }
    let Some(probe) = fleet.and_then(|fleet| fleet.probes.get(&ledger.probe)) else {
        return;
    };
    let rewrites = [
        (probe.rewrites.update.is_some(), ledger.updated, "update"),
        (probe.rewrites.delete.is_some(), ledger.deleted, "deletion"),
    ];
    for (declared, done, what) in rewrites {
        if declared && done == 0 && ledger.acknowledged > 0 {
            let words = format!("{name}: no {what} was acknowledged, so none could come back");
            findings.add(Outcome::Inconclusive, words);
        }
    }
}

/// Whoever acknowledged nothing before the fault, or nothing in it, has kept no promise in it. Of the
/// target nothing is asked: a cell that is cut off acknowledges nothing.
fn check_phases(evidence: &Evidence<'_>, ledger: &Ledger, findings: &mut Findings) {
    let may_know_none = evidence.header.format == 1 && ledger.phases.is_empty();
    if may_know_none || ledger.acknowledged == 0 {
        return; // Without a write it is told already.
    }
    for phase in [WritePhase::Before, WritePhase::During] {
        let counts = ledger.phases.get(&phase);
        if counts.is_none_or(|counts| counts.acknowledged == 0) {
            let (cell, probe) = (&ledger.cell, &ledger.probe);
            let words = format!(
                "{cell}/{probe}: no write was acknowledged {}",
                phase.words()
            );
            findings.add(Outcome::Inconclusive, words);
        }
    }
}

/// Every (cell, probe) whose writes must be read back: of the probes that the recorded fleet reads
/// back, in all of its cells; and of those that have a ledger anywhere, wherever they have a stream.
fn wanted_ledgers(evidence: &Evidence<'_>, fleet: Option<&Fleet>) -> BTreeSet<(String, String)> {
    let header = evidence.header;
    let known: BTreeSet<&str> = evidence.ledgers.iter().map(|l| l.probe.as_str()).collect();
    let streams = header.streams.iter().filter(|s| !is_attributed(s));
    let mut wanted: BTreeSet<(String, String)> = streams
        .filter(|stream| known.contains(stream.probe.as_str()))
        .filter_map(|stream| Some((stream.cell.clone()?, stream.probe.clone())))
        .collect();
    if let Some(fleet) = fleet {
        let writing = fleet.probes.iter().filter(|(_, p)| p.read_back.is_some());
        for (probe, _) in writing {
            wanted.extend(fleet.cells.keys().map(|cell| (cell.clone(), probe.clone())));
        }
    }
    wanted
}

/// Of whose writes nothing is asked, if of anybody's.
fn unjudged(evidence: &Evidence<'_>, rule: &Rule) -> String {
    match rule {
        Rule::BySide(Durability { target: None }) => {
            let cells = evidence.header.plan.target.cells.join(", ");
            format!(" (those of {cells} are counted and not judged)")
        }
        Rule::BySide(_) | Rule::LostOverAll(_) => String::new(),
    }
}

/// What a pass says of the writes, if they were judged.
pub(super) fn on_pass(evidence: &Evidence<'_>) -> Option<String> {
    let rule = rule(evidence)?;
    let sum = |part: fn(&Ledger) -> u64| {
        let ledgers = evidence.ledgers.iter();
        ledgers.fold(0u64, |sum, ledger| sum.saturating_add(part(ledger)))
    };
    let told = format!(
        "{} acknowledged writes read back, {} lost, {} twice, {} not to be read{}",
        sum(|l| l.acknowledged),
        sum(|l| l.lost),
        sum(|l| l.duplicated),
        sum(|l| l.unread),
        unjudged(evidence, &rule)
    );
    let (updated, deleted) = (sum(|l| l.updated), sum(|l| l.deleted));
    Some(match rule {
        Rule::BySide(_) if updated.max(deleted) > 0 => format!(
            "{told}; of {updated} updated and {deleted} deleted ones {} resurrected, {} stale",
            sum(|l| l.resurrected),
            sum(|l| l.stale)
        ),
        Rule::BySide(_) => format!("{told}; none was updated or deleted, so none could come back"),
        Rule::LostOverAll(_) => told,
    })
}
