//! The baseline gate: what keeps a drill from being begun, and the gamblers of one that may be.

use super::bet::{Bet, has_own_limit};
use super::evidence::{Evidence, Tally, expected_per_block, is_attributed};
use super::first_half::FirstHalf;
use super::spread;
use super::watch::Watched;
use crate::history::{Role, Stream};

/// A cell whose baseline may be worse than this is ill already.
pub(super) const BASELINE_MAX: f64 = 0.05;
/// Share of a stream's baseline blocks that may be blind where DNS draws, or where a scrape may fail.
pub(super) const CHANCE_BLIND_MAX: f64 = 0.05;

/// Why a drill must not be fired, or its history cannot be watched.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotReady {
    #[error("{0}")]
    Unreadable(String),
    #[error("no stream must stay unharmed: there is nothing to prove; add a cell that survives")]
    NoOthers,
    #[error("no control stream: the prober cannot be judged; add references to the fleet")]
    NoControl,
    #[error("no probe {probe} of target cell {cell}: its degradation cannot be proved")]
    NoTarget { cell: String, probe: String },
    #[error("{stream}: less than one probe per block; raise its rate")]
    TooSparse { stream: String },
    #[error("{stream}: no baseline; the watch before fire gave no blocks that count")]
    NoBaseline { stream: String },
    #[error("{stream}: {why}; heal it, or begin anew")]
    NoLimit { stream: String, why: String },
    #[error("{stream}: {blind} of {blocks} baseline blocks are blind; is the prober overloaded?")]
    Blind {
        stream: String,
        blind: u64,
        blocks: u64,
    },
    #[error(
        "{stream}: {bad} of {total} baseline probes bad (may be {:.1} %, {:.0} % allowed); heal it first",
        upper * 100.0, limit * 100.0
    )]
    BadBaseline {
        stream: String,
        bad: u64,
        total: u64,
        upper: f64,
        limit: f64,
    },
    #[error("coverage: {0}")]
    Coverage(String),
    #[error("the prober itself: {0}")]
    BadControl(Box<NotReady>),
    #[error(
        "as vantage {vantage} sees it: {why}; mend that, or take it out of the fleet's vantages"
    )]
    Vantage { vantage: String, why: Box<NotReady> },
}

/// Every probe that the hypothesis names exists in every target cell.
pub(super) fn has_target(evidence: &Evidence<'_>) -> Result<(), NotReady> {
    for cell in &evidence.header.plan.target.cells {
        for probe in &evidence.header.judgement.degraded {
            let there = evidence
                .with_role(Role::Target)
                .any(|s| s.cell.as_ref() == Some(cell) && s.probe == *probe);
            if !there {
                return Err(NotReady::NoTarget {
                    cell: cell.clone(),
                    probe: probe.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The gambler of a stream that must not notice, with the stream's own margin and blocks.
pub(super) fn bet_on(evidence: &Evidence<'_>, stream: &Stream, base: &Tally, others: usize) -> Bet {
    let judgement = &evidence.header.judgement;
    let watched_ms = u64::from(judgement.planned_blocks).saturating_mul(judgement.block_ms);
    let planned = watched_ms.div_ceil(evidence.block_ms_of(stream).max(1));
    let planned = u32::try_from(planned).unwrap_or(u32::MAX);
    let level = Bet::baseline_level(others, judgement.alpha);
    let mut upper = base.sample().upper(level);
    if stream.is_clumped() {
        upper = upper.max(spread::upper(&base.pairs, level));
    }
    let margin = evidence.margin_of(stream);
    Bet::above(upper, others, judgement.alpha, margin, planned)
}

/// Every vantage sees what it asks as well before the fault, so does the conductor, and the vantages' own
/// controls can be watched.
pub(super) fn vantage_gates(evidence: &Evidence<'_>) -> Result<Vec<(String, Watched)>, NotReady> {
    let judgement = &evidence.header.judgement;
    let (alpha, margin) = (judgement.alpha, judgement.margin);
    let covered = evidence.with_role(Role::Other);
    for stream in covered.filter(|stream| evidence.roll.covers(&stream.name)) {
        fit(
            evidence,
            stream,
            evidence.baseline_seen(None, stream),
            FirstHalf::seen(evidence, None, stream),
        )?;
    }
    let mut controls = Vec::new();
    for member in &evidence.roll.members {
        let refuse = |why: NotReady| NotReady::Vantage {
            vantage: member.name.clone(),
            why: Box::new(why),
        };
        if member.controls.is_empty() {
            return Err(refuse(NotReady::NoControl));
        }
        let gate = |stream: &Stream| {
            let by = Some(member.name.as_str());
            let base = evidence.baseline_seen(by, stream);
            // The member has a copy of the stream.
            let half = evidence.stream(&stream.name);
            let half = half.and_then(|stream| FirstHalf::seen(evidence, by, stream));
            fit(evidence, stream, base, half).map_err(refuse)
        };
        for control in &member.controls {
            let base = gate(control)?;
            let bet = Bet::on_control(base.sample(), alpha, margin, judgement.planned_blocks);
            let watched = Watched::new(evidence, control, bet);
            controls.push((member.name.clone(), watched));
        }
        for stream in &member.streams {
            gate(stream)?;
        }
        // Slow answers are counted by each one's own limit.
        let slow = evidence.header.streams.iter().filter(|s| !s.is_probed());
        for stream in slow.filter(|stream| member.asks(stream.counted_from())) {
            let half = FirstHalf::seen(evidence, Some(&member.name), stream);
            if let Some(why) = half.and_then(|half| half.flaw(evidence, stream)) {
                let stream = stream.name.clone();
                return Err(refuse(NotReady::NoLimit { stream, why }));
            }
        }
    }
    Ok(controls)
}

/// The baseline of one stream, if it is fit to compare with.
pub(super) fn gate<'a>(evidence: &Evidence<'a>, stream: &'a Stream) -> Result<Tally, NotReady> {
    let half = FirstHalf::of(evidence, stream);
    fit(evidence, stream, evidence.baseline(stream), half)
}

fn fit(
    evidence: &Evidence<'_>,
    stream: &Stream,
    base: Tally,
    first_half: Option<FirstHalf<'_>>,
) -> Result<Tally, NotReady> {
    let name = || stream.name.clone();
    let attributed = is_attributed(stream);
    let expected = expected_per_block(stream, evidence.block_ms_of(stream));
    if expected < 1.0 && !(attributed && expected > 0.0) {
        return Err(NotReady::TooSparse { stream: name() });
    }
    if let Some(why) = first_half.and_then(|half| half.flaw(evidence, stream)) {
        return Err(NotReady::NoLimit {
            stream: name(),
            why,
        });
    }
    if base.valid == 0 {
        return Err(NotReady::NoBaseline { stream: name() });
    }
    let blind = base.blind.saturating_add(base.missing);
    let allowed = if attributed || stream.is_clumped() {
        CHANCE_BLIND_MAX * base.expected as f64
    } else {
        0.0
    };
    if blind as f64 > allowed || base.missing > 0 {
        return Err(NotReady::Blind {
            stream: name(),
            blind,
            blocks: base.expected,
        });
    }
    let upper = base.sample().upper(evidence.header.judgement.alpha);
    if upper > BASELINE_MAX && !has_own_limit(stream) {
        return Err(bad_baseline(stream, &base, upper, BASELINE_MAX));
    }
    Ok(base)
}

pub(super) fn bad_baseline(stream: &Stream, base: &Tally, upper: f64, limit: f64) -> NotReady {
    NotReady::BadBaseline {
        stream: stream.name.clone(),
        bad: base.bad,
        total: base.valid,
        upper,
        limit,
    }
}
