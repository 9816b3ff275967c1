//! The harm budget: what users may pay at most, the target's included, counted online.
//!
//! A bad probe of a cell stands for a failed request. Planes data and entrypoint count: those are
//! what users do. Without an address a user was turned away, so DNS counts by its bad answers. The
//! meter runs from fire to the planned end of the fault, where it can still end something; what is
//! exceeded later is found by the verdict alone.

use super::Outcome;
use super::evidence::{Evidence, Span, expected_per_block, is_attributed};
use super::findings::{Findings, seconds};
use super::frame::Frame;
use super::replay::Replay;
use super::target::SETTLE_BLOCKS;
use crate::fleet::Plane;
use crate::history::{Alarm, AlarmCause, Block, Role, Stream};

/// The failed requests so far, and how many there may be.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    /// Sorted names of the streams that count.
    streams: Vec<String>,
    limits: Vec<Limit>,
    failed: u64,
    /// The planned end of the fault; later blocks are not looked at.
    until_ms: u64,
}

#[derive(Clone, Debug)]
struct Limit {
    name: &'static str,
    most: u64,
    spoken: bool,
}

/// Real requests are left to their own streams: a probe of the same page would count them twice.
fn counts(stream: &Stream) -> bool {
    stream.role != Role::Control
        && stream.is_probed()
        && matches!(stream.plane, Plane::Data | Plane::Entrypoint)
}

/// The limits in failed requests, each with its name.
fn limits(evidence: &Evidence<'_>) -> Vec<Limit> {
    let judgement = &evidence.header.judgement;
    let Some(budget) = judgement.effects.harm else {
        return Vec::new();
    };
    // A user of an entrypoint is one request, and shows in its DNS stream's rate.
    let streams = evidence.header.streams.iter();
    let per_block: f64 = streams
        .filter(|stream| counts(stream) && !is_attributed(stream))
        .map(|stream| expected_per_block(stream, judgement.block_ms))
        .sum();
    let due = per_block * planned_blocks(evidence) as f64;
    let of_share = budget.error_budget.map(|share| {
        let most = (due * share).floor();
        // `as` saturates, and what is not a number allows nothing.
        ("errorBudget", most as u64)
    });
    let of_count = budget.failed_requests.map(|most| ("failedRequests", most));
    let limits = of_count.into_iter().chain(of_share);
    limits
        .map(|(name, most)| Limit {
            name,
            most,
            spoken: false,
        })
        .collect()
}

/// From fire to the planned end of the watch: what the header says, and no more than its plan makes.
fn planned_blocks(evidence: &Evidence<'_>) -> u64 {
    let judgement = &evidence.header.judgement;
    let watched_ms = evidence.planned_end(0).saturating_add(judgement.after_ms);
    let planned = watched_ms.div_ceil(judgement.block_ms);
    let planned = planned.saturating_add(SETTLE_BLOCKS);
    planned.min(u64::from(judgement.planned_blocks))
}

impl Meter {
    /// `None` without a budget.
    pub fn new(evidence: &Evidence<'_>) -> Option<Meter> {
        let limits = limits(evidence);
        let streams = evidence.header.streams.iter().filter(|s| counts(s));
        let mut streams: Vec<String> = streams.map(|stream| stream.name.clone()).collect();
        streams.sort();
        (!limits.is_empty()).then(|| Meter {
            streams,
            limits,
            failed: 0,
            until_ms: evidence
                .fire
                .map_or(u64::MAX, |fire| evidence.planned_end(fire)),
        })
    }

    /// Counts one second; an alarm for each limit that it exceeds for the first time.
    pub fn look<'b>(
        &mut self,
        start_ms: u64,
        at_ms: u64,
        blocks: impl Iterator<Item = &'b Block>,
    ) -> Vec<Alarm> {
        if start_ms >= self.until_ms {
            return Vec::new();
        }
        let ours = |block: &&Block| {
            block.start_ms == start_ms && self.streams.binary_search(&block.stream).is_ok()
        };
        let bad = blocks.filter(ours).map(|block| u64::from(block.bad));
        let bad = bad.fold(0, u64::saturating_add);
        self.failed = self.failed.saturating_add(bad);
        let failed = self.failed;
        let exceeded = self
            .limits
            .iter_mut()
            .filter(|limit| !limit.spoken && failed > limit.most);
        exceeded
            .map(|limit| {
                limit.spoken = true;
                Alarm {
                    at_ms,
                    stream: format!("harm/{}", limit.name),
                    cause: AlarmCause::Harm,
                }
            })
            .collect()
    }
}

/// Failed requests in a span, as the conductor met them: what vantages meet as well is not counted twice.
fn failed(evidence: &Evidence<'_>, span: Span) -> u64 {
    let streams = evidence.header.streams.iter().filter(|s| counts(s));
    streams.fold(0, |sum, stream| {
        sum.saturating_add(evidence.tally_seen(None, stream, span).bad)
    })
}

/// An exceeded budget ends the drill (aborted); one that is exceeded behind the fault, where nothing
/// is left to end, is a FAIL: the scenario said what it may cost, and it cost more.
/// What an unsound prober has counted after that is no harm that is known.
pub(super) fn check(
    frame: &Frame<'_>,
    replay: Option<&Replay>,
    prober_sound: bool,
    findings: &mut Findings,
) {
    let evidence = frame.evidence;
    let count = |to| {
        failed(
            evidence,
            Span {
                from: frame.fire,
                to,
            },
        )
    };
    let budget = evidence.header.judgement.effects.harm;
    let share = budget.and_then(|budget| budget.error_budget);
    // Asked this way round: whatever does not compare allows nothing.
    if share.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
        let words = "the errorBudget of the harm budget is no share of the requests";
        findings.add(Outcome::Inconclusive, words);
    }
    let limits = limits(evidence);
    let alarms = replay.map(|r| r.alarms.as_slice()).unwrap_or_default();
    for limit in &limits {
        let name = format!("harm/{}", limit.name);
        let alarm = alarms
            .iter()
            .find(|alarm| alarm.cause == AlarmCause::Harm && alarm.stream == name);
        if let Some(alarm) = alarm {
            findings.add(
                Outcome::Aborted,
                format!(
                    "the harm budget was exceeded {} after fire: {} failed requests, {} allows {}",
                    seconds(alarm.at_ms, frame.fire),
                    count(alarm.at_ms),
                    limit.name,
                    limit.most
                ),
            );
            continue;
        }
        let whole = count(frame.end);
        if prober_sound && replay.is_some() && whole > limit.most {
            findings.add(
                Outcome::Fail,
                format!(
                    "the harm budget was exceeded, in the end by {whole} failed requests, {} allows \
                     {}; the fault was over by then",
                    limit.name, limit.most
                ),
            );
        }
    }
}
