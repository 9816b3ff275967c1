//! What cellwall itself can have asked of a cell: only what was counted beyond that is known to be of users.

use std::collections::BTreeSet;

use super::evidence::{Evidence, Span};
use crate::effects::{ClientKind, LOAD_SURPLUS, LoadSource};
use crate::history::{Block, Stream};

/// Older histories are judged as they were made: whatever was counted was of users.
pub(super) const TAKEN_AWAY_SINCE: u32 = 3;

/// Requests of ours to a cell that a traffic has counted in the span, at most.
pub(super) fn counted(evidence: &Evidence<'_>, traffic: &str, cell: &str, span: Span) -> u64 {
    let header = evidence.header;
    let users_only = header.judgement.users_only.contains(traffic);
    match users_only || header.format < TAKEN_AWAY_SINCE {
        true => 0,
        false => requests(evidence, cell, span),
    }
}

/// Requests of ours to a cell that were due in the span, at most: probes of all who look, second tries of
/// an entrypoint's users, and the load.
pub(super) fn requests(evidence: &Evidence<'_>, cell: &str, span: Span) -> u64 {
    let streams = evidence.header.streams.iter();
    let asked: f64 = streams
        .filter(|stream| stream.is_probed())
        .map(|stream| match stream.cell.as_deref() {
            Some(of) if of == cell => asked(evidence, stream, span),
            Some(_) => 0.0,
            // Of an entrypoint's DNS stream; controls have no users.
            None => second_tries(evidence, stream, span),
        })
        .sum();
    // A float beyond u64 becomes its greatest: then nothing is left for users.
    (asked + load(evidence, cell, span)).ceil() as u64
}

/// What was sent in each second; of one that nobody recorded, as much as there may have been.
fn load(evidence: &Evidence<'_>, cell: &str, span: Span) -> f64 {
    let seconds = evidence.load.iter();
    let seconds = seconds.filter(|second| second.cell == cell && span.holds(second.start_ms));
    let (mut sent, mut recorded) = (0.0, BTreeSet::new());
    for second in seconds {
        sent += f64::from(second.sent);
        recorded.insert(second.start_ms / evidence.block_ms());
    }
    let claim = evidence.header.judgement.effects.load.as_ref();
    let claim = claim.filter(|claim| claim.cells.iter().any(|of| of == cell));
    let Some(claim) = claim.filter(|claim| matches!(claim.by, LoadSource::Probe(_))) else {
        return sent;
    };
    let block_ms = evidence.block_ms();
    let blocks = (span.to.div_ceil(block_ms)).saturating_sub(span.from / block_ms);
    let unrecorded = blocks.saturating_sub(recorded.len() as u64) as f64;
    let most = claim.needed.max(claim.peak) * LOAD_SURPLUS * block_ms as f64 / 1000.0;
    sent + unrecorded * most
}

fn asked(evidence: &Evidence<'_>, stream: &Stream, span: Span) -> f64 {
    let due = sum(evidence, stream, span, |block| block.scheduled);
    due * stream.basis.requests.unwrap_or(1.0)
}

/// They are booked with the user and not with the cell, which may be any.
fn second_tries(evidence: &Evidence<'_>, stream: &Stream, span: Span) -> f64 {
    sum(evidence, stream, span, |block| {
        let kinds = block.users.as_ref().map(|users| &users.kinds);
        let retries = kinds.and_then(|kinds| kinds.get(&ClientKind::Retries));
        retries.map_or(0, |count| count.requests)
    })
}

fn sum(evidence: &Evidence<'_>, stream: &Stream, span: Span, of: impl Fn(&Block) -> u32) -> f64 {
    let series = evidence.all_series(&stream.name);
    let blocks = series.flat_map(|series| series.range(span.from..span.to.max(span.from)));
    blocks.map(|(_, block)| f64::from(of(block))).sum()
}
