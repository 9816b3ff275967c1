//! Streams that must not notice, from fire to the end of the watch, without a gap.

use super::evidence::Span;
use super::findings::{Findings, percent, seconds};
use super::frame::{Claim, Frame, TRUNCATED};
use super::interval::holm;
use super::planes::listed;
use super::replay::Replay;
use super::witness::{self, ALONE};
use super::{Class, Outcome, Row, Window, vantages};
use crate::cores;
use crate::history::{Role, Stream};

/// Fewer are not worth another thread.
const STREAMS_OF_A_THREAD: usize = 20;

/// One row per stream and window; the worst sub-window stands for its window.
pub(super) fn rows(frame: &Frame<'_>, replay: Option<&Replay>, prober_sound: bool) -> Vec<Row> {
    let streams: Vec<&Stream> = frame.evidence.with_role(Role::Other).collect();
    let claims = cores::map(&streams, STREAMS_OF_A_THREAD, |stream| {
        claims_of(frame, stream, replay)
    });
    let claims: Vec<Claim<'_>> = claims.into_iter().flatten().collect();
    let whole: Vec<usize> = (0..claims.len())
        .filter(|&i| !claims[i].truncated)
        .collect();
    let voiced: Vec<Option<Claim<'_>>> = claims.iter().map(|claim| frame.voiced(claim)).collect();
    let mut degraded = vec![false; claims.len()];
    if prober_sound && replay.is_some() {
        let proved = holm(whole.len(), frame.alpha(), |i, level| {
            let claim = &claims[whole[i]];
            let is_worse = |claim: &Claim<'_>| claim.lower(level) > frame.margin(claim);
            let voiced = voiced[whole[i]].as_ref();
            is_worse(claim) && voiced.is_none_or(is_worse)
        });
        for (i, held) in whole.iter().zip(proved) {
            degraded[*i] = held;
        }
    }
    let level = frame.alpha() / whole.len().max(streams.len()).max(1) as f64;
    let claims: Vec<(Claim<'_>, bool)> = claims.into_iter().zip(degraded).collect();
    let judged = cores::map(&claims, STREAMS_OF_A_THREAD, |(claim, degraded)| {
        judge_claim(frame, claim, replay, *degraded, level)
    });
    let mut rows: Vec<Row> = Vec::new();
    for row in judged {
        match rows
            .iter_mut()
            .find(|r| r.stream == row.stream && r.window == row.window)
        {
            Some(known) if is_worse(&row, known) => *known = row,
            Some(_) => {}
            None => rows.push(row),
        }
    }
    rows
}

fn claims_of<'a>(frame: &Frame<'a>, stream: &'a Stream, replay: Option<&Replay>) -> Vec<Claim<'a>> {
    let fault = Span {
        from: frame.fire,
        to: frame.fault_end,
    };
    let after = Span {
        from: frame.fault_end,
        to: frame.end,
    };
    let own_alarm = replay.and_then(|r| r.degraded(&stream.name));
    let cut = |span: Span, stop: u64| Span {
        to: stop.max(own_alarm.unwrap_or(0)).min(span.to),
        ..span
    };
    match frame.stop {
        Some(stop) if stop < frame.fault_end => {
            vec![frame.claim(stream, Window::Fault, cut(fault, stop), true)]
        }
        Some(stop) => vec![
            frame.claim(stream, Window::Fault, fault, false),
            frame.claim(stream, Window::After, cut(after, stop), true),
        ],
        None => {
            let mut claims = vec![frame.claim(stream, Window::Fault, fault, false)];
            for span in frame.sub_windows(stream, after) {
                claims.push(frame.claim(stream, Window::After, span, false));
            }
            claims
        }
    }
}

fn judge_claim(
    frame: &Frame<'_>,
    claim: &Claim<'_>,
    replay: Option<&Replay>,
    degraded: bool,
    level: f64,
) -> Row {
    // An alarm belongs to the window in which it spoke; in a truncated fault there is only one.
    let alarm = replay
        .and_then(|r| r.degraded(&claim.stream.name))
        .filter(|at| {
            let in_fault = *at <= frame.fault_end || !frame.fault_was_whole();
            in_fault == (claim.window == Window::Fault)
        });
    let mut notes = Vec::new();
    if claim.window == Window::After && !claim.truncated && claim.span.from > frame.fault_end {
        notes.push(format!(
            "judged in parts; the worst is {} to {} after fire",
            seconds(claim.span.from, frame.fire),
            seconds(claim.span.to, frame.fire)
        ));
    }
    let opinions = vantages::opinions(frame, claim, level);
    let doubtful = degraded && alarm.is_none() && witness::is_alone(frame, claim);
    if doubtful {
        notes.push(ALONE.into());
    }
    let class = if alarm.is_some() || (degraded && !doubtful) {
        Class::Degraded
    } else {
        let mut obstacles = frame.obstacles(claim);
        obstacles.extend(vantages::obstacles(&opinions));
        let class = if obstacles.is_empty() {
            Class::Isolated
        } else {
            Class::Inconclusive
        };
        notes.extend(obstacles);
        class
    };
    if claim.now.blind > 0 {
        notes.push(format!("{} blind blocks", claim.now.blind));
    }
    let mut row = frame.row(claim, class, level, notes);
    // No proof is better than that of those who see it worst.
    row.u = opinions.iter().map(|seen| seen.u).fold(row.u, f64::max);
    if class != Class::Degraded {
        row.only_seen_from = vantages::witnesses(&opinions);
        let is_voiced = !claim.truncated && frame.voiced(claim).is_some();
        if is_voiced && row.l > frame.margin(claim) {
            row.only_seen_from.push(vantages::who(None));
        }
    }
    if class != Class::Degraded && row.l > 0.0 {
        row.notes
            .push("suspect: worse than its baseline, if perhaps by less than the margin".into());
    }
    row.alarm_ms = alarm;
    row.e_value = replay.and_then(|r| r.e_value(&claim.stream.name));
    row
}

fn is_worse(row: &Row, known: &Row) -> bool {
    let rank = |row: &Row| match row.class {
        Class::Degraded => 0,
        Class::Isolated => 2,
        _ => 1,
    };
    (rank(row), -row.u) < (rank(known), -known.u)
}

/// Whether a damage may be the prober's own (see `witness`).
fn is_doubtful(row: &Row) -> bool {
    row.notes.iter().any(|note| note == ALONE)
}

pub(super) fn is_any_doubtful(rows: &[Row]) -> bool {
    rows.iter().any(is_doubtful)
}

/// Who fell and when, then what could not be proved.
pub(super) fn report(
    frame: &Frame<'_>,
    rows: &[Row],
    replay: Option<&Replay>,
    findings: &mut Findings,
) {
    // Streams of longer blocks, or of a limit of their own, speak later than the probes or not at all.
    let others: Vec<&Stream> = frame
        .evidence
        .with_role(Role::Other)
        .filter(|stream| stream.is_probed())
        .collect();
    if replay.is_some_and(|r| r.common_cause(&others, frame.evidence.block_ms())) {
        findings.add(
            Outcome::Fail,
            format!(
                "common cause: all {} streams that must not notice fell together; look at what they \
                 share (router, DNS)",
                others.len()
            ),
        );
    }
    let mut fallen: Vec<&Row> = rows.iter().filter(|r| r.class == Class::Degraded).collect();
    fallen.sort_by_key(|row| row.alarm_ms.unwrap_or(u64::MAX));
    let mut told: Vec<String> = Vec::new();
    for row in &fallen {
        let who = owner(frame, row);
        if told.contains(&who) {
            continue;
        }
        let mut words = format!(
            "{who} fell{}: {}",
            where_fell(frame, &fallen, &who),
            how(frame, row)
        );
        for other in fallen
            .iter()
            .filter(|r| r.stream != row.stream && owner(frame, r) == who)
        {
            words.push_str(&format!("; {}", how(frame, other)));
        }
        findings.add(Outcome::Fail, words);
        told.push(who);
    }
    if let Some(row) = rows.iter().find(|row| is_doubtful(row)) {
        let (stream, window) = (&row.stream, row.window.words());
        let words = format!("the prober cannot be trusted: {stream} fell {window}, and {ALONE}");
        findings.add(Outcome::Inconclusive, words);
    }
    let mut open = Vec::new();
    let mut last = "";
    for row in rows.iter().filter(|r| r.class == Class::Inconclusive) {
        // The first window of a stream says enough; what the stop cut off is told once, elsewhere.
        if row.stream == last || row.notes.iter().any(|note| note == TRUNCATED) {
            continue;
        }
        last = &row.stream;
        let notes = row.notes.join("; ");
        open.push(format!(
            "{} {} not proved isolated: {notes}",
            row.stream,
            row.window.words()
        ));
    }
    findings.add_some(Outcome::Inconclusive, open);
}

/// The planes on which a cell fell; nothing for a stream that belongs to no cell.
fn where_fell(frame: &Frame<'_>, fallen: &[&Row], who: &str) -> String {
    let streams = &frame.evidence.header.streams;
    let fell = |stream: &&Stream| fallen.iter().any(|row| row.stream == stream.name);
    let mut planes: Vec<_> = streams
        .iter()
        .filter(|stream| stream.cell.as_deref() == Some(who))
        .filter(fell)
        .map(|stream| stream.plane)
        .collect();
    planes.sort();
    planes.dedup();
    match planes.is_empty() {
        true => String::new(),
        false => format!(" on {}", listed(&planes)),
    }
}

/// The cell of a stream, or the stream itself where it belongs to none (DNS answering).
fn owner(frame: &Frame<'_>, row: &Row) -> String {
    let stream = frame
        .evidence
        .header
        .streams
        .iter()
        .find(|s| s.name == row.stream);
    stream
        .and_then(|s| s.cell.clone())
        .unwrap_or_else(|| row.stream.clone())
}

fn how(frame: &Frame<'_>, row: &Row) -> String {
    let when = match row.alarm_ms {
        Some(at) => format!("{} after fire", seconds(at, frame.fire)),
        None => row.window.words().into(),
    };
    format!(
        "{} degraded {when} (D {}, L {})",
        row.stream,
        percent(row.d),
        percent(row.l)
    )
}
