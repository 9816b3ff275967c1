//! Whether the survivors carried the load of those that fell: only then is their capacity tested.

use std::collections::{BTreeMap, BTreeSet};

use super::Outcome;
use super::coverage::{MISSING_MAX, traffic_of};
use super::evidence::Span;
use super::findings::{Findings, percent};
use super::frame::Frame;
use super::ours;
use crate::effects::{LoadClaim, LoadSource};
use crate::history::{Counts, Role, Stream};

/// What one cell carried while the fault lasted, requests per second.
struct Carried {
    sent: f64,
    answered: f64,
    /// Fewest answers of one block.
    least: f64,
    /// Blocks without a record, of `blocks`.
    missing: u64,
    blocks: u64,
    block_ms: u64,
}

/// Requests of one block: sent, and answered as they should be.
type Sums = (u64, u64);

impl Carried {
    fn of(blocks: &BTreeMap<u64, Sums>, span: Span, block_ms: u64) -> Carried {
        let all = span.to.saturating_sub(span.from) / block_ms;
        let sum = |of: fn(&Sums) -> u64| blocks.values().map(of).fold(0, u64::saturating_add);
        let per_second = |count: u64| count as f64 * 1000.0 / (all.max(1) * block_ms) as f64;
        let least = blocks.values().map(|(_, answered)| *answered).min();
        Carried {
            sent: per_second(sum(|sums| sums.0)),
            answered: per_second(sum(|sums| sums.1)),
            least: least.unwrap_or_default() as f64 * 1000.0 / block_ms as f64,
            missing: all.saturating_sub(blocks.len() as u64),
            blocks: all,
            block_ms,
        }
    }
}

/// The fault in whole blocks.
fn fault(frame: &Frame<'_>, block_ms: u64) -> Span {
    Span {
        from: frame.fire.div_ceil(block_ms) * block_ms,
        to: frame.fault_end / block_ms * block_ms,
    }
}

fn carried(frame: &Frame<'_>, claim: &LoadClaim, cell: &str) -> Carried {
    match &claim.by {
        LoadSource::Probe(_) => carried_of_ours(frame, cell),
        LoadSource::Traffic(traffic) => carried_of_users(frame, traffic, cell),
    }
}

fn carried_of_ours(frame: &Frame<'_>, cell: &str) -> Carried {
    let block_ms = frame.evidence.block_ms();
    let span = fault(frame, block_ms);
    let mut blocks = BTreeMap::new();
    for second in &frame.evidence.load {
        if second.cell == cell && (span.from..span.to).contains(&second.start_ms) {
            // What was never sent was never answered, whatever a record says.
            let good = second.answered.min(second.sent);
            // Twice the same second is no more load.
            blocks
                .entry(second.start_ms)
                .or_insert((u64::from(second.sent), u64::from(good)));
        }
    }
    Carried::of(&blocks, span, block_ms)
}

/// Streams of one traffic count different requests (strata are values of one label); what none of them
/// counts is left out. A block that one of them could not read is no record. What cellwall itself asked for is
/// taken away as if all of it had been counted and answered.
fn carried_of_users(frame: &Frame<'_>, traffic: &str, cell: &str) -> Carried {
    let streams = streams_of(frame, traffic, cell);
    let first = streams.first();
    let block_ms = first.map_or(frame.evidence.block_ms(), |stream| {
        frame.evidence.block_ms_of(stream)
    });
    let span = fault(frame, block_ms);
    let mut blocks: BTreeMap<u64, Sums> = BTreeMap::new();
    let mut unread = BTreeSet::new();
    for stream in &streams {
        let Some(series) = frame.evidence.blocks.get(stream.name.as_str()) else {
            continue;
        };
        for (start, counted) in series.range(span.from..span.to) {
            let (valid, bad) = (u64::from(counted.valid), u64::from(counted.bad));
            if valid == 0 && counted.scheduled > 0 {
                unread.insert(*start);
            }
            let sums = blocks.entry(*start).or_default();
            sums.0 = sums.0.saturating_add(valid);
            sums.1 = sums.1.saturating_add(valid.saturating_sub(bad));
        }
    }
    blocks.retain(|start, _| !unread.contains(start));
    for (start, sums) in &mut blocks {
        let (from, to) = (*start, start.saturating_add(block_ms));
        let ours = ours::counted(frame.evidence, traffic, cell, Span { from, to });
        sums.0 = sums.0.saturating_sub(ours);
        sums.1 = sums.1.saturating_sub(ours);
    }
    Carried::of(&blocks, span, block_ms)
}

fn streams_of<'a>(frame: &Frame<'a>, traffic: &str, cell: &str) -> Vec<&'a Stream> {
    let all = frame.evidence.header.streams.iter();
    all.filter(|stream| {
        stream.basis.counts == Counts::Requests
            && stream.cell.as_deref() == Some(cell)
            && traffic_of(&stream.probe) == traffic
    })
    .collect()
}

/// Why a cell's capacity is not proved, if it is not.
fn obstacle(claim: &LoadClaim, seen: &Carried) -> Option<String> {
    let needed = claim.needed;
    // A generator of ours loses none; a scrape may, and what it missed was not carried.
    let may_miss = match claim.by {
        LoadSource::Probe(_) => 0.0,
        LoadSource::Traffic(_) => MISSING_MAX * seen.blocks as f64,
    };
    if seen.missing as f64 > may_miss {
        let seconds = (seen.missing * seen.block_ms).div_ceil(1000);
        return Some(format!("{seconds} s of its load are not recorded"));
    }
    if seen.answered >= needed && seen.least >= needed / 2.0 {
        return None;
    }
    Some(if seen.sent < needed {
        let whose = match claim.by {
            LoadSource::Probe(_) => "were sent",
            LoadSource::Traffic(_) => "are known to be of users",
        };
        format!("only {:.1}/s {whose}: the load was not there", seen.sent)
    } else if seen.answered < needed {
        format!(
            "it answered {:.1}/s of the {:.1}/s sent",
            seen.answered, seen.sent
        )
    } else {
        format!("for a while it answered only {:.0}/s", seen.least)
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
        if let Some(why) = obstacle(claim, &carried(frame, claim, cell)) {
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
    if let LoadSource::Traffic(traffic) = &claim.by {
        let uncounted = |cell: &&String| streams_of(frame, traffic, cell).is_empty();
        if let Some(cell) = claim.cells.iter().find(uncounted) {
            return Some(format!("nobody counts {traffic} in {cell}"));
        }
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
        .map(|cell| format!("{cell} {:.1}/s", carried(frame, claim, cell).answered))
        .collect();
    format!(
        "capacity of the other cells: tested by {}, they answered {} of the {:.1}/s needed ({})",
        match &claim.by {
            LoadSource::Probe(probe) => format!("requests of {probe}"),
            LoadSource::Traffic(traffic) => format!("users' requests that {traffic} counts"),
        },
        told.join(", "),
        claim.needed,
        how(claim)
    )
}
