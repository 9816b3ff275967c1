//! The final verdict where several look: who can be trusted, and what only some of them see.
//!
//! A stream is isolated only if it is so as each of those who look sees it (an intersection-union
//! test: alpha is not divided), and degraded only if the voice of them all is (see `roll`). What some
//! see and the voice does not show is a path problem: between those and the cell, not in the cell.
//! A vantage's clock is off by up to its skew, so its fault window begins a block earlier.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::{Evidence, Span};
use super::findings::{Findings, percent, seconds};
use super::first_half::FirstHalf;
use super::frame::{Claim, Frame};
use super::roll::{Member, Observer};
use super::{Class, Outcome, Row, Window};
use crate::history::Stream;

/// Above this bound on the clock's offset, windows of a few seconds mean nothing.
pub const SKEW_MAX_US: u64 = 250_000;

/// What one of those who look can say of a claim.
pub(super) struct Opinion {
    who: String,
    /// What keeps this view from being within the margin.
    obstacles: Vec<String>,
    /// Proved worse than the margin, from here.
    sees_damage: bool,
    pub u: f64,
    d: f64,
    l: f64,
}

/// One opinion for each of those who look, the conductor first; none where it looks alone.
///
/// `level` is that of a claim of damage; it is divided among those who look.
pub(super) fn opinions(frame: &Frame<'_>, claim: &Claim<'_>, level: f64) -> Vec<Opinion> {
    let evidence = frame.evidence;
    let name = claim.stream.name.as_str();
    if claim.truncated || !evidence.roll.covers(name) {
        return Vec::new();
    }
    let members = evidence.roll.members.iter().filter(|m| m.asks(name));
    let observers: Vec<Option<&Member>> = std::iter::once(None).chain(members.map(Some)).collect();
    let level = level / observers.len() as f64;
    let opinion = |by: &Option<&Member>| {
        let seen = claim_of(frame, claim.stream, claim.window, claim.span, *by);
        let trusted = by.is_none_or(|member| !evidence.left_out.contains(&member.name));
        let limits = frame.limits(&seen, level);
        Opinion {
            who: who(by.map(|member| member.name.as_str())),
            obstacles: frame.obstacles(&seen),
            sees_damage: trusted && limits.l > frame.margin(&seen),
            u: limits.u,
            d: limits.d,
            l: limits.l,
        }
    };
    observers.iter().map(opinion).collect()
}

/// A window as one of those who look saw it.
fn claim_of<'a>(
    frame: &Frame<'a>,
    stream: &'a Stream,
    window: Window,
    span: Span,
    by: Option<&Member>,
) -> Claim<'a> {
    let evidence = frame.evidence;
    let observer = by.map(|member| member.name.as_str());
    let span = match by {
        // By its own clock the fault may have begun earlier.
        Some(_) if span.from == frame.fire => Span {
            from: span.from.saturating_sub(evidence.block_ms()),
            ..span
        },
        _ => span,
    };
    Claim {
        stream,
        window,
        span,
        now: evidence.tally_seen(observer, stream, span),
        base: evidence.baseline_seen(observer, stream),
        first_half: FirstHalf::seen(evidence, observer, stream),
        truncated: false,
    }
}

/// What keeps a stream from being isolated, as each of those who look says.
pub(super) fn obstacles(opinions: &[Opinion]) -> Vec<String> {
    let mut notes = Vec::new();
    for opinion in opinions {
        if opinion.sees_damage {
            notes.push(format!(
                "seen from {}: degraded (D {}, L {})",
                opinion.who,
                percent(opinion.d),
                percent(opinion.l)
            ));
        } else if !opinion.obstacles.is_empty() {
            let words = opinion.obstacles.join("; ");
            notes.push(format!("seen from {}: {words}", opinion.who));
        }
    }
    notes
}

/// Who sees a damage.
pub(super) fn witnesses(opinions: &[Opinion]) -> Vec<String> {
    let seeing = opinions.iter().filter(|opinion| opinion.sees_damage);
    seeing.map(|opinion| opinion.who.clone()).collect()
}

/// Says which vantages prove nothing, and why; these have no vote in the final verdict.
pub(super) fn untrusted(frame: &Frame<'_>, findings: &mut Findings) -> BTreeSet<String> {
    let mut left_out = BTreeSet::new();
    for member in &frame.evidence.roll.members {
        let name = &member.name;
        if member.skew_us > SKEW_MAX_US {
            let ms = member.skew_us / 1000;
            let words = format!("vantage {name}: its clock is known only to {ms} ms");
            findings.add(Outcome::Inconclusive, words);
            left_out.insert(name.clone());
        }
        let unsound = unsound(frame, member);
        if !unsound.is_empty() {
            let words = format!("vantage {name} cannot be trusted: {}", unsound.join("; "));
            findings.add(Outcome::Inconclusive, words);
            left_out.insert(name.clone());
        }
        let (missing, first) = missing(frame.evidence, Some(name), &member.streams);
        if missing > 0 {
            let when = match first {
                Some(at) if at >= frame.fire => {
                    format!("from {} after fire on", seconds(at, frame.fire))
                }
                _ => "from before fire on".to_owned(),
            };
            let words =
                format!("vantage {name} was blind: {missing} of its blocks are missing, {when}");
            findings.add(Outcome::Inconclusive, words);
        }
    }
    let streams = frame.evidence.header.streams.iter();
    let covered = streams.filter(|stream| frame.evidence.roll.covers(&stream.name));
    let covered: Vec<Stream> = covered.cloned().collect();
    let (missing, _) = missing(frame.evidence, None, &covered);
    if missing > 0 {
        let words = format!("{missing} blocks of the conductor's own are missing");
        findings.add(Outcome::Inconclusive, words);
    }
    left_out
}

/// What is wrong with a vantage's own controls, from fire to the end of the watch.
fn unsound(frame: &Frame<'_>, member: &Member) -> Vec<String> {
    let mut words = Vec::new();
    if member.controls.is_empty() {
        words.push("it has no control".to_owned());
    }
    for control in &member.controls {
        let span = Span {
            from: frame.fire,
            to: frame.end,
        };
        let Some(control) = frame.evidence.stream(&control.name) else {
            continue;
        };
        let claim = claim_of(frame, control, Window::Fault, span, Some(member));
        let mut notes = frame.gaps(&claim);
        let l = claim.lower(frame.alpha());
        if l > frame.margin(&claim) {
            notes.push(format!(
                "worse than its baseline by at least {}",
                percent(l)
            ));
        }
        if !notes.is_empty() {
            words.push(format!("{} {}", control.name, notes.join("; ")));
        }
    }
    words
}

/// How many blocks are missing from the baseline to the end, and where the first of them should be.
fn missing(evidence: &Evidence<'_>, by: Observer<'_>, streams: &[Stream]) -> (u64, Option<u64>) {
    let block_ms = evidence.block_ms();
    let (mut count, mut first) = (0, None);
    for stream in streams {
        let Some(from) = evidence.baseline_from(stream) else {
            continue;
        };
        let to = evidence.end();
        let span = Span { from, to };
        let missing = evidence.tally_seen(by, stream, span).missing;
        if missing == 0 {
            continue;
        }
        count += missing;
        let series = evidence.series(by, &stream.name);
        let hole = (from.div_ceil(block_ms)..to.div_ceil(block_ms))
            .map(|block| block * block_ms)
            .find(|at| series.is_none_or(|series| !series.contains_key(at)));
        first = match (first, hole) {
            (Some(a), Some(b)) => Some(u64::min(a, b)),
            (a, b) => a.or(b),
        };
    }
    (count, first)
}

/// One finding for each vantage (or the conductor) and cell: damage that the others do not see.
pub(super) fn report(evidence: &Evidence<'_>, rows: &[Row], findings: &mut Findings) {
    let mut problems: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.class != Class::Degraded) {
        let cell = evidence.stream(&row.stream).and_then(|s| s.cell.as_deref());
        for who in &row.only_seen_from {
            let key = (who.as_str(), cell.unwrap_or(&row.stream));
            problems.entry(key).or_default().insert(&row.stream);
        }
    }
    for ((who, cell), streams) in problems {
        let streams: Vec<&str> = streams.into_iter().collect();
        findings.add(
            Outcome::Inconclusive,
            format!(
                "path problem: {cell} is degraded as seen from {who}, and not as most see it ({}); look \
                 at the way between them",
                streams.join(", ")
            ),
        );
    }
}

/// What a pass says of those who looked.
pub(super) fn on_pass(evidence: &Evidence<'_>) -> Vec<String> {
    let (looked, idle): (Vec<&Member>, Vec<&Member>) = {
        let members = evidence.roll.members.iter();
        members.partition(|member| !member.streams.is_empty())
    };
    let mut words = Vec::new();
    if let Some(worst) = looked.iter().map(|member| member.skew_us).max() {
        let mut names = vec![who(None)];
        names.extend(looked.iter().map(|member| member.name.clone()));
        let last = names.pop().unwrap_or_default();
        words.push(format!(
            "seen alike from {} and {last}; clocks known to {:.1} ms",
            names.join(", "),
            worst as f64 / 1000.0
        ));
    }
    words.extend(idle.iter().map(|member| {
        let name = &member.name;
        format!("vantage {name} asked nothing of any cell, and counts for nothing")
    }));
    words
}

pub(super) fn who(by: Observer<'_>) -> String {
    by.unwrap_or("the conductor").to_owned()
}
