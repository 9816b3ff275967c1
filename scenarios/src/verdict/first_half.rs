//! The first half of a baseline, where it sets a stream's limit: held to what the other half is held to.
//!
//! A limit from a half that nobody saw, or that was ill, is too wide, and then nothing is ever bad.

use super::evidence::{Evidence, Span, Tally, expected_per_block, is_attributed};
use super::findings::percent;
use super::gate::{BASELINE_MAX, CHANCE_BLIND_MAX};
use super::interval::floor_n0;
use super::roll::Observer;
use super::windows::BLOCKS_MIN;
use crate::history::{Counts, Role, Stream};

/// Share of the scheduled probes that must be valid in every window.
pub(super) const COVERAGE_MIN: f64 = 0.95;

/// From which blocks a stream's limit comes, and what they hold.
pub(super) struct FirstHalf<'a> {
    /// The one whose blocks they are: of slow answers another one.
    source: &'a Stream,
    tally: Tally,
}

impl<'a> FirstHalf<'a> {
    /// As it is judged; `None` for a stream whose limit is declared.
    pub fn of(evidence: &Evidence<'a>, stream: &'a Stream) -> Option<FirstHalf<'a>> {
        FirstHalf::by(stream, evidence, |source, span| {
            evidence.tally(source, span)
        })
    }

    /// As one of those who look saw it.
    pub fn seen(
        evidence: &Evidence<'a>,
        by: Observer<'_>,
        stream: &'a Stream,
    ) -> Option<FirstHalf<'a>> {
        FirstHalf::by(stream, evidence, |source, span| {
            evidence.tally_seen(by, source, span)
        })
    }

    fn by(
        stream: &'a Stream,
        evidence: &Evidence<'a>,
        tally: impl Fn(&Stream, Span) -> Tally,
    ) -> Option<FirstHalf<'a>> {
        if !stream.needs_thresholds() {
            return None;
        }
        let source = evidence.stream(stream.counted_from()).unwrap_or(stream);
        let marks = evidence.before.zip(evidence.thresholds);
        let span = marks.map(|(from, to)| Span { from, to });
        let tally = span.map_or_else(Tally::default, |span| tally(source, span));
        Some(FirstHalf { source, tally })
    }

    pub fn missing(&self) -> u64 {
        self.tally.missing
    }

    /// Why it sets no limit, in words; `None` if it does.
    pub fn flaw(&self, evidence: &Evidence<'_>, stream: &Stream) -> Option<String> {
        let half = &self.tally;
        let mut words = Vec::new();
        if half.expected == 0 {
            words.push("it is empty".to_owned());
        }
        if half.missing > 0 {
            words.push(format!("{} of its blocks are missing", half.missing));
        }
        let by_chance = is_attributed(stream) || stream.is_clumped();
        let allowed = match by_chance {
            true => CHANCE_BLIND_MAX * half.expected as f64,
            false => 0.0,
        };
        if half.blind as f64 > allowed {
            let (blind, all) = (half.blind, half.expected);
            words.push(format!("{blind} of its {all} blocks are blind"));
        }
        let covered = coverage(evidence, self.source, half);
        if half.expected > 0 && covered < COVERAGE_MIN {
            let covered = percent(covered);
            words.push(format!("only {covered} of its probes count"));
        }
        words.extend(self.too_few(evidence, stream));
        words.extend(self.ill(evidence, stream));
        let what = "the first half of its baseline, which sets its limit, is none";
        (!words.is_empty()).then(|| format!("{what}: {}", words.join("; ")))
    }

    fn too_few(&self, evidence: &Evidence<'_>, stream: &Stream) -> Option<String> {
        let half = &self.tally;
        if stream.is_clumped() && half.read() < BLOCKS_MIN {
            let blocks = half.read();
            return Some(format!("{blocks} blocks are fewer than {BLOCKS_MIN}"));
        }
        // What DNS sends to the target is reported only.
        if is_attributed(stream) && stream.role == Role::Target {
            return None;
        }
        let n0 = floor_n0(evidence.header.judgement.alpha, evidence.margin_of(stream));
        let valid = half.valid;
        (valid < n0).then(|| format!("it has {valid} of the {n0} probes that a proof needs"))
    }

    /// Where most of it was silence or failure, nothing is slow by its measure.
    fn ill(&self, evidence: &Evidence<'_>, stream: &Stream) -> Option<String> {
        let sample = self.tally.sample();
        let share = match stream.basis.counts {
            // Its bad ones are those above the limit that it sets.
            Counts::Gauge { .. } => return None,
            // The stream of which these are the answers has a gate of its own.
            Counts::Slow { .. } => sample.rate(),
            Counts::Probes | Counts::Requests => sample.upper(evidence.header.judgement.alpha),
        };
        (self.tally.valid > 0 && share > BASELINE_MAX).then(|| {
            format!(
                "{} of its {} probes are bad (may be {})",
                self.tally.bad,
                self.tally.valid,
                percent(share)
            )
        })
    }
}

/// Valid probes of those that should have been sent; the schedule itself may have been lost. Of what is counted by
/// somebody else nobody knows how much a block would have had that could not be read: there each block is one.
pub(super) fn coverage(evidence: &Evidence<'_>, stream: &Stream, tally: &Tally) -> f64 {
    let mut planned = tally.scheduled as f64;
    if !is_attributed(stream) {
        let per_block = expected_per_block(stream, evidence.block_ms_of(stream));
        planned = planned.max((per_block * tally.expected as f64).floor());
    }
    let counted = match planned > 0.0 {
        true => tally.valid as f64 / planned,
        false => return 0.0,
    };
    match stream.is_clumped() {
        true => counted.min(tally.read() as f64 / tally.expected.max(1) as f64),
        false => counted,
    }
}
