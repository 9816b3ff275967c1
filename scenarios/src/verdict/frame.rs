//! The windows of one drill, and what keeps a window from being evidence of isolation.

use super::evidence::{Evidence, Span, Tally, is_attributed};
use super::findings::percent;
use super::first_half::{self, COVERAGE_MIN, FirstHalf};
use super::gate::CHANCE_BLIND_MAX;
use super::interval::{self, Difference, floor_n0};
use super::windows::BLOCKS_MIN;
use super::{Class, Row, Window, quantiles, spread};
use crate::history::Stream;

/// A watch of more parts than this is not believed (a day of baselines of 45 s).
const PARTS_MAX: u64 = 2_000;

/// Note of a window that was not seen to its planned end.
pub(super) const TRUNCATED: &str = "truncated: the drill was stopped before this window's end";

/// Times in ms since the drill began.
pub(super) struct Frame<'a> {
    pub evidence: &'a Evidence<'a>,
    pub fire: u64,
    /// When the plan's last step was to end.
    pub fault_end: u64,
    /// End of the watch, on the block grid.
    pub end: u64,
    /// First alarm or interruption: no window that reaches beyond it was seen to its planned end.
    pub stop: Option<u64>,
}

/// One window of one stream, ready to be compared with the stream's baseline.
pub(super) struct Claim<'a> {
    pub stream: &'a Stream,
    pub window: Window,
    pub span: Span,
    pub now: Tally,
    pub base: Tally,
    /// What set the stream's limit, where the baseline did.
    pub first_half: Option<FirstHalf<'a>>,
    pub truncated: bool,
}

impl<'a> Frame<'a> {
    pub fn claim(
        &self,
        stream: &'a Stream,
        window: Window,
        span: Span,
        truncated: bool,
    ) -> Claim<'a> {
        Claim {
            stream,
            window,
            span,
            now: self.evidence.tally(stream, span),
            base: self.evidence.baseline(stream),
            first_half: FirstHalf::of(self.evidence, stream),
            truncated,
        }
    }

    /// The same window as those who ask for slow answers vote, where several do.
    pub fn voiced(&self, claim: &Claim<'a>) -> Option<Claim<'a>> {
        let (now, base) = self.evidence.voiced(claim.stream, claim.span)?;
        Some(Claim {
            now,
            base,
            ..self.claim(claim.stream, claim.window, claim.span, claim.truncated)
        })
    }

    pub fn alpha(&self) -> f64 {
        self.evidence.header.judgement.alpha
    }

    /// What is allowed of the claim's stream.
    pub fn margin(&self, claim: &Claim<'_>) -> f64 {
        self.evidence.margin_of(claim.stream)
    }

    /// Whether the fault ran to its planned end before anything stopped the drill.
    pub fn fault_was_whole(&self) -> bool {
        self.stop.is_none_or(|stop| stop >= self.fault_end)
    }

    /// Consecutive windows that cover `span`, none longer than the stream's baseline (which must
    /// hold at least as many probes); the last one ends with the span and may overlap the one
    /// before. An empty span gives one empty window, which proves nothing.
    pub fn sub_windows(&self, stream: &Stream, span: Span) -> Vec<Span> {
        let block_ms = self.evidence.block_ms_of(stream);
        let span = match block_ms > self.evidence.block_ms() {
            true => Span {
                to: (span.to / block_ms * block_ms).max(span.from),
                ..span
            },
            false => span,
        };
        let from = span.from.div_ceil(block_ms).saturating_mul(block_ms);
        let length = self
            .evidence
            .shortest_baseline(stream)
            .saturating_mul(block_ms);
        // One window that is longer than its baseline proves nothing, and needs no memory either.
        let parts = span.to.saturating_sub(from) / length.max(1);
        if length == 0 || from.saturating_add(length) >= span.to || parts > PARTS_MAX {
            return vec![Span { from, ..span }];
        }
        let mut windows = Vec::new();
        let mut start = from;
        while start.saturating_add(length) < span.to {
            windows.push(Span {
                from: start,
                to: start + length,
            });
            start += length;
        }
        windows.push(Span {
            from: span.to - length,
            to: span.to,
        });
        windows
    }

    /// What keeps a claim from "proved within the margin"; empty if it is proved.
    pub fn obstacles(&self, claim: &Claim<'_>) -> Vec<String> {
        if claim.truncated {
            return vec![TRUNCATED.into()];
        }
        let mut notes = self.gaps(claim);
        let margin = self.margin(claim);
        let n0 = floor_n0(self.alpha(), margin);
        let counted = claim.now.valid.min(claim.base.valid);
        if claim.now.expected > claim.base.expected {
            notes.push(format!(
                "the window has {} blocks, its baseline only {}",
                claim.now.expected, claim.base.expected
            ));
        }
        let blocks = claim.now.read().min(claim.base.read());
        if claim.stream.is_clumped() && blocks < BLOCKS_MIN {
            notes.push(format!(
                "too few blocks: {blocks}, and {BLOCKS_MIN} are the fewest whose spread says anything"
            ));
        }
        if counted < n0 {
            notes.push(format!(
                "too few probes: {counted} of the {n0} that a proof needs"
            ));
        }
        // Of others the coverage tells; how many probes an attributed stream should have, chance tells.
        let blind = claim.now.blind as f64;
        if is_attributed(claim.stream) && blind > CHANCE_BLIND_MAX * claim.now.expected as f64 {
            notes.push(format!(
                "{blind} of the window's {} blocks have fewer probes than chance leaves",
                claim.now.expected
            ));
        }
        if let Some(at) = claim.now.episode_ms {
            let at = super::findings::seconds(at, self.fire);
            notes.push(format!(
                "an episode: half or more of the block {at} after fire was bad"
            ));
        }
        let u = self.isolation_u(claim);
        // Asked this way round: whatever does not compare must not pass.
        let within = u < margin;
        if !within {
            let margin = percent(margin);
            notes.push(format!("U {} is not below the margin {margin}", percent(u)));
        }
        notes
    }

    /// Missing blocks and too few valid probes, in the window, in its baseline, and where that set a limit.
    pub fn gaps(&self, claim: &Claim<'_>) -> Vec<String> {
        let mut notes = Vec::new();
        for (tally, what) in [(&claim.now, "window"), (&claim.base, "baseline")] {
            if tally.expected == 0 {
                notes.push(format!("the {what} is empty"));
                continue;
            }
            if tally.missing > 0 {
                notes.push(format!(
                    "{} blocks of the {what} are missing",
                    tally.missing
                ));
            }
            let covered = first_half::coverage(self.evidence, claim.stream, tally);
            if covered < COVERAGE_MIN {
                notes.push(format!(
                    "only {} of the {what}'s probes count",
                    percent(covered)
                ));
            }
        }
        let half = claim.first_half.as_ref();
        notes.extend(half.and_then(|half| half.flaw(self.evidence, claim.stream)));
        notes
    }

    /// `U` for the proof of isolation. A window with more probes than its baseline (DNS drew more,
    /// users of the fallen cell moved here) counts only as many: n_b >= n_f holds by giving away.
    /// Where errors come in clumps by nature, the spread of the blocks must allow it as well.
    fn isolation_u(&self, claim: &Claim<'_>) -> f64 {
        let base = claim.base.sample();
        let u = interval::upper(claim.now.sample().at_most(base.total), base, self.alpha());
        if !claim.stream.is_clumped() {
            return u;
        }
        let (now, base) = (&claim.now.pairs, &claim.base.pairs);
        let margin = self.margin(claim);
        u.max(spread::upper_difference(now, base, self.alpha(), margin))
    }

    /// D, the proof of degradation L at `level` (deflated by dispersion), and U at alpha.
    pub fn limits(&self, claim: &Claim<'_>, level: f64) -> Difference {
        let (now, base) = (claim.now.sample(), claim.base.sample());
        let d = interval::difference(now, base, self.alpha()).d;
        Difference {
            d,
            l: claim.lower(level),
            u: self.isolation_u(claim),
        }
    }

    fn baseline_latency(&self, stream: &Stream) -> Vec<quantiles::Quantile> {
        let from = self.evidence.baseline_from(stream).unwrap_or(self.fire);
        quantiles::of(
            self.evidence,
            stream,
            Span {
                from,
                to: self.fire,
            },
        )
    }

    pub fn row(&self, claim: &Claim<'_>, class: Class, level: f64, notes: Vec<String>) -> Row {
        let Difference { d, l, u } = self.limits(claim, level);
        Row {
            stream: claim.stream.name.clone(),
            window: claim.window,
            class,
            bad: claim.now.bad,
            total: claim.now.valid,
            base_bad: claim.base.bad,
            base_total: claim.base.valid,
            latency: quantiles::of(self.evidence, claim.stream, claim.span),
            base_latency: self.baseline_latency(claim.stream),
            d,
            l,
            u,
            e_value: None,
            alarm_ms: None,
            only_seen_from: Vec::new(),
            notes,
        }
    }
}

impl Claim<'_> {
    /// `L` at a level, with both samples worth fewer probes where their blocks are bursty.
    pub fn lower(&self, level: f64) -> f64 {
        let deflated = |tally: &Tally| tally.sample().deflated(interval::dispersion(&tally.pairs));
        let l = interval::lower(deflated(&self.now), deflated(&self.base), level);
        if !self.stream.is_clumped() {
            return l;
        }
        l.min(spread::difference(&self.now.pairs, &self.base.pairs, level).l)
    }
}
