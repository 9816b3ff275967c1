//! The target cells: proved degraded while the fault lasts, proved back after it.
//!
//! A stream has settled after ten good blocks in a row. The first of them must begin within
//! `recovery_within_ms` of the fault's end (its planned end, or the later instant at which the last
//! agent confirmed it). A block is good if it is not blind, less than half bad, and has no more bad
//! probes than baseline rate plus margin allow, rounded up to a whole probe. The after window starts
//! behind those ten blocks and lasts to the End mark; ctl asks `target_settled` every second and
//! ends the watch `after_ms` later, so a healthy target always gets its whole window. A stream that
//! settled before the slowest one has a longer window; like any other it is judged in parts no
//! longer than its baseline.

use super::consistency;
use super::evidence::{Evidence, Span, block_is_half_bad, is_blind};
use super::findings::{Findings, percent, seconds};
use super::frame::Frame;
use super::planes::must_degrade;
use super::{Class, Outcome, Row, Window};
use crate::fleet::Plane;
use crate::history::{Block, Record, Role, Stream};
use crate::scenario::Side;

/// Good blocks in a row that mean "settled".
pub const SETTLE_BLOCKS: u64 = 10;
/// So long before fire, and its guard time, the target must still be well.
const SHORTLY_MS: u64 = 5_000;

/// When one stream of the target had settled (end of the tenth good block, ms since the drill
/// began); `None`: not yet, or not in time.
pub fn settled(records: &[Record], stream: &str) -> Option<u64> {
    let evidence = Evidence::read(records).ok()?;
    let stream = evidence.header.streams.iter().find(|s| s.name == stream)?;
    settled_at(&evidence, stream, Blind::Bad)
}

/// When the last stream of the target that must recover had settled; the after watch starts here.
pub fn target_settled(records: &[Record]) -> Option<u64> {
    let evidence = Evidence::read(records).ok()?;
    let mut last = None;
    for stream in must_recover(&evidence) {
        last = last.max(Some(settled_at(&evidence, stream, Blind::Bad)?));
    }
    last
}

/// When it is too late to settle: a run of good blocks that begins in time has ended by then.
pub fn settle_deadline_ms(records: &[Record]) -> Option<u64> {
    let evidence = Evidence::read(records).ok()?;
    Some(deadline(&evidence, evidence.fire?))
}

fn deadline(evidence: &Evidence<'_>, fire: u64) -> u64 {
    let lengths = must_recover(evidence).into_iter();
    let lengths = lengths.map(|stream| evidence.block_ms_of(stream));
    let of_length = |block_ms: u64| {
        let last_start = last_start(evidence, fire) / block_ms * block_ms;
        last_start.saturating_add(SETTLE_BLOCKS.saturating_mul(block_ms))
    };
    lengths
        .map(of_length)
        .fold(of_length(evidence.block_ms()), u64::max)
}

/// The latest time at which the run of good blocks may begin.
fn last_start(evidence: &Evidence<'_>, fire: u64) -> u64 {
    let (_, late) = fault_ends(evidence, fire);
    late.saturating_add(evidence.header.judgement.recovery_within_ms)
}

/// From when a good block counts, and from when the time to recover does.
fn fault_ends(evidence: &Evidence<'_>, fire: u64) -> (u64, u64) {
    let planned = evidence.planned_end(fire);
    let confirmed = evidence.reverted.unwrap_or(planned);
    (planned.min(confirmed), confirmed)
}

fn must_recover<'a>(evidence: &Evidence<'a>) -> Vec<&'a Stream> {
    evidence
        .with_role(Role::Target)
        .filter(|s| {
            let cell = s.is_probed() && matches!(s.plane, Plane::Data | Plane::Control);
            cell || must_degrade(evidence, s)
        })
        .collect()
}

/// Of a pass: streams of the target that need not recover and have not. Users of an entrypoint, say, may have
/// been led elsewhere for good.
pub(super) fn on_pass(frame: &Frame<'_>) -> Option<String> {
    let evidence = frame.evidence;
    let recover: Vec<&str> = must_recover(evidence)
        .iter()
        .map(|s| s.name.as_str())
        .collect();
    let others = evidence.with_role(Role::Target).filter(|stream| {
        let last = Span {
            from: frame
                .end
                .saturating_sub(SETTLE_BLOCKS * evidence.block_ms_of(stream)),
            to: frame.end,
        };
        let seen = evidence.tally(stream, last).sample();
        let still_bad = seen.total > 0.0 && seen.rate() > evidence.margin_of(stream);
        !recover.contains(&stream.name.as_str()) && still_bad
    });
    let names: Vec<&str> = others.map(|stream| stream.name.as_str()).collect();
    let words = "not judged, and still bad at the end of the watch";
    (!names.is_empty()).then(|| format!("{}: {words}", names.join(", ")))
}

/// What a blind block does to a run of good ones.
#[derive(Clone, Copy, PartialEq)]
enum Blind {
    Bad,
    /// Only to tell "it did not settle" from "nobody could see whether it did".
    Good,
}

fn settled_at(evidence: &Evidence<'_>, stream: &Stream, blind: Blind) -> Option<u64> {
    let fire = evidence.fire?;
    let block_ms = evidence.block_ms_of(stream);
    let allowed = evidence.baseline(stream).sample().rate() + evidence.margin_of(stream);
    let good = |block: &Block| {
        if is_blind(stream, block_ms, block) {
            return blind == Blind::Good;
        }
        let allowed = (f64::from(block.valid) * allowed).ceil();
        !block_is_half_bad(block) && f64::from(block.bad) <= allowed
    };
    let (from, _) = fault_ends(evidence, fire);
    let latest = last_start(evidence, fire);
    let mut run: Option<(u64, u64)> = None; // start of the run, end of its last block
    for (start, block) in evidence.blocks.get(stream.name.as_str())?.range(from..) {
        let end = start.saturating_add(block_ms);
        run = match run {
            _ if !good(block) => None,
            Some((first, last)) if last == *start => Some((first, end)),
            _ => Some((*start, end)),
        };
        match run {
            Some((first, _)) if first > latest => return None,
            Some((first, end)) if (end - first) / block_ms >= SETTLE_BLOCKS => return Some(end),
            _ => {}
        }
    }
    None
}

/// `trusted`: the prober is sound and the baseline passed its gate; else nobody "has not recovered".
pub(super) fn rows(frame: &Frame<'_>, trusted: bool, findings: &mut Findings) -> Vec<Row> {
    let evidence = frame.evidence;
    let mut rows = Vec::new();
    if evidence.header.judgement.degraded.is_empty() {
        findings.add(
            Outcome::Ineffective,
            "the hypothesis names no probe that must degrade",
        );
    }
    findings.add_some(
        Outcome::Ineffective,
        consistency::untouched(evidence.header),
    );
    for stream in evidence.with_role(Role::Target) {
        rows.push(fault_row(frame, stream, findings));
    }
    if frame.stop.is_none() {
        for stream in must_recover(evidence) {
            rows.push(after_row(frame, stream, trusted, findings));
        }
        check_watch(frame, findings);
    }
    rows
}

/// Whoever settled is watched for as long as was planned; ctl ends the watch on a block boundary.
fn check_watch(frame: &Frame<'_>, findings: &mut Findings) {
    let evidence = frame.evidence;
    let settled = must_recover(evidence).into_iter();
    let settled = settled.map(|stream| settled_at(evidence, stream, Blind::Bad));
    let Some(settled) = settled.collect::<Option<Vec<u64>>>() else {
        return; // Its row says so.
    };
    let settled = settled.into_iter().max().unwrap_or(frame.fault_end);
    let planned = evidence.header.judgement.after_ms;
    let until = settled.saturating_add(planned);
    if frame.end.saturating_add(evidence.block_ms()) < until {
        findings.add(
            Outcome::Inconclusive,
            format!(
                "truncated: the watch ended {} after the target had settled, planned were {}",
                seconds(frame.end, settled),
                seconds(planned, 0)
            ),
        );
    }
}

/// When a stream of the target was at least half bad shortly before anything was done to it, without the
/// guard time, in which probes are under way that the fault cuts off.
fn fell_before(frame: &Frame<'_>, stream: &Stream, acted: u64) -> Option<u64> {
    let evidence = frame.evidence;
    let block_ms = evidence.block_ms_of(stream);
    let to = acted
        .saturating_sub(evidence.header.judgement.guard_ms)
        .saturating_sub(block_ms);
    let from = to.saturating_sub(SHORTLY_MS.max(block_ms));
    let mut blocks = evidence.blocks.get(stream.name.as_str())?.range(from..=to);
    blocks
        .find(|(_, block)| block_is_half_bad(block))
        .map(|(start, _)| *start)
}

/// From the first to the last that the plan's steps do to the stream's cell; the whole fault if they do nothing,
/// which is told elsewhere.
fn acted_on(frame: &Frame<'_>, stream: &Stream) -> Span {
    let steps = frame.evidence.header.plan.steps.iter();
    let acts = steps.filter(|step| {
        let cell = stream.cell.as_ref().and_then(|cell| step.cells.get(cell));
        step.side == Side::Target && cell.is_some_and(|cell| !cell.nodes.is_empty())
    });
    let spans = acts.map(|step| (step.at_ms, step.ends_ms()));
    let whole = spans.reduce(|(from, to), (at, ends)| (from.min(at), to.max(ends)));
    match whole {
        Some((from, to)) => Span {
            from: frame.fire.saturating_add(from),
            to: frame.fire.saturating_add(to),
        },
        None => Span {
            from: frame.fire,
            to: frame.fault_end,
        },
    }
}

fn fault_row<'a>(frame: &Frame<'a>, stream: &'a Stream, findings: &mut Findings) -> Row {
    let evidence = frame.evidence;
    let judgement = &evidence.header.judgement;
    let (guard, block_ms) = (judgement.guard_ms, judgement.block_ms);
    let acted = acted_on(frame, stream);
    let end = frame.stop.unwrap_or(u64::MAX).min(acted.to);
    // Whole blocks inside: `tally` takes blocks that start in the span.
    let from = acted.from.saturating_add(guard);
    let to = end.saturating_sub(guard) / block_ms * block_ms;
    let whole = frame.fault_was_whole();
    let claim = frame.claim(stream, Window::Fault, Span { from, to }, !whole);
    if !must_degrade(evidence, stream) {
        return frame.row(&claim, Class::Reported, frame.alpha(), Vec::new());
    }
    let mut notes = if whole {
        frame.gaps(&claim)
    } else {
        frame.obstacles(&claim)
    };
    if let Some(at) = fell_before(frame, stream, acted.from) {
        let before = seconds(acted.from, at);
        notes.push(match acted.from == frame.fire {
            true => format!("it fell before the fault, {before} before fire"),
            false => format!("it fell before its part of the fault, {before} before that began"),
        });
    }
    if claim.now.valid == 0 {
        notes.push("no probe inside the fault window and its guard times".into());
    }
    let l = claim.lower(frame.alpha());
    let name = &stream.name;
    if claim.truncated {
        return frame.row(&claim, Class::Inconclusive, frame.alpha(), notes);
    }
    if !notes.is_empty() {
        let words = format!("{name} cannot be shown degraded: {}", notes.join("; "));
        findings.add(Outcome::Inconclusive, words);
        return frame.row(&claim, Class::Inconclusive, frame.alpha(), notes);
    }
    let class = if l > judgement.effective_min {
        Class::Effective
    } else {
        Class::Ineffective
    };
    let row = frame.row(&claim, class, frame.alpha(), notes);
    if class == Class::Ineffective {
        findings.add(
            Outcome::Ineffective,
            format!(
                "{name}: the target was not proved degraded on {} (D {}, L {}, needed more than {})",
                stream.plane.word(),
                percent(row.d),
                percent(l),
                percent(judgement.effective_min)
            ),
        );
    }
    row
}

fn after_row<'a>(
    frame: &Frame<'a>,
    stream: &'a Stream,
    trusted: bool,
    findings: &mut Findings,
) -> Row {
    let evidence = frame.evidence;
    let Some(from) = settled_at(evidence, stream, Blind::Bad) else {
        return unsettled_row(frame, stream, trusted, findings);
    };
    let parts = frame.sub_windows(
        stream,
        Span {
            from,
            to: frame.end,
        },
    );
    let rows = parts
        .iter()
        .map(|span| compare(frame, stream, *span, parts.len(), trusted));
    let rank = |row: &Row| match row.class {
        Class::NotRecovered => 0,
        Class::Recovered => 2,
        _ => 1,
    };
    let worst = rows.min_by(|a, b| rank(a).cmp(&rank(b)).then(b.u.total_cmp(&a.u)));
    let Some(mut row) = worst else {
        return unsettled_row(frame, stream, trusted, findings);
    };
    row.notes.push(format!(
        "settled {} after the fault's end",
        seconds(from, frame.fault_end)
    ));
    let name = &stream.name;
    match row.class {
        Class::NotRecovered => findings.add(
            Outcome::Fail,
            format!(
                "recovery, not isolation: {name} settled but is still worse than before the fault \
                 (D {}, L {})",
                percent(row.d),
                percent(row.l)
            ),
        ),
        Class::Inconclusive => findings.add(
            Outcome::Inconclusive,
            format!("{name} not proved recovered: {}", row.notes.join("; ")),
        ),
        _ => {}
    }
    row
}

/// One part of the after window of a stream that settled.
fn compare<'a>(
    frame: &Frame<'a>,
    stream: &'a Stream,
    span: Span,
    parts: usize,
    trusted: bool,
) -> Row {
    let level = frame.alpha() / parts as f64;
    let claim = frame.claim(stream, Window::After, span, false);
    let notes = frame.obstacles(&claim);
    let class = if trusted && claim.lower(level) > frame.margin(&claim) {
        Class::NotRecovered
    } else if notes.is_empty() {
        Class::Recovered
    } else {
        Class::Inconclusive
    };
    frame.row(&claim, class, level, notes)
}

/// Never settled: the hypothesis is violated, unless the blocks to say so are not there.
fn unsettled_row<'a>(
    frame: &Frame<'a>,
    stream: &'a Stream,
    trusted: bool,
    findings: &mut Findings,
) -> Row {
    let evidence = frame.evidence;
    let name = &stream.name;
    let (from, _) = fault_ends(evidence, frame.fire);
    let claim = frame.claim(
        stream,
        Window::After,
        Span {
            from,
            to: frame.end,
        },
        false,
    );
    let within = evidence.header.judgement.recovery_within_ms;
    let unknown = if frame.end < deadline(evidence, frame.fire) {
        Some("the watch ended before the time to recover was over")
    } else if !trusted {
        Some("the prober or the baseline cannot be trusted")
    } else if claim.now.missing > 0 {
        Some("blocks are missing")
    } else if settled_at(evidence, stream, Blind::Good).is_some() {
        Some("blind blocks stand between it and ten good blocks in a row")
    } else {
        None
    };
    if let Some(why) = unknown {
        findings.add(
            Outcome::Inconclusive,
            format!("{name} not proved recovered: {why}"),
        );
        return frame.row(&claim, Class::Inconclusive, frame.alpha(), vec![why.into()]);
    }
    findings.add(
        Outcome::Fail,
        format!(
            "recovery, not isolation: {name} had no {SETTLE_BLOCKS} good blocks in a row that began \
             within {} of the fault's end",
            seconds(within, 0)
        ),
    );
    let note = format!("not settled within {}", seconds(within, 0));
    frame.row(&claim, Class::NotRecovered, frame.alpha(), vec![note])
}
