//! The prober judged first: a control stream that alarms, is blind or is worse than its baseline.

use super::evidence::Span;
use super::findings::{Findings, percent, seconds};
use super::frame::Frame;
use super::replay::Replay;
use super::witness::ALONE;
use super::{Class, Outcome, Row, Window};
use crate::history::{AlarmCause, Role, Stream};

/// Rows of all controls, and whether the prober was sound all the time.
pub(super) fn rows(
    frame: &Frame<'_>,
    replay: Option<&Replay>,
    findings: &mut Findings,
) -> (Vec<Row>, bool) {
    let mut rows = Vec::new();
    for stream in frame.evidence.with_role(Role::Control) {
        let fault = Span {
            from: frame.fire,
            to: frame.fault_end.min(frame.end),
        };
        let after = Span {
            from: frame.fault_end,
            to: frame.end,
        };
        rows.push(row(frame, stream, Window::Fault, fault, replay, findings));
        if after.from < after.to {
            rows.push(row(frame, stream, Window::After, after, replay, findings));
        }
    }
    let steady = check_clock(frame, findings);
    let connected = check_network(frame, replay, findings);
    let sound = rows.iter().all(|row| row.class == Class::Sound);
    (rows, sound && steady && connected)
}

/// Whether no alarm was of all that the prober asks, where nothing shows its network (see `witness`).
fn check_network(frame: &Frame<'_>, replay: Option<&Replay>, findings: &mut Findings) -> bool {
    let alarms = replay.into_iter().flat_map(|replay| &replay.alarms);
    let is_control = |name: &str| {
        let stream = frame.evidence.stream(name);
        stream.is_some_and(|stream| stream.role == Role::Control)
    };
    let mut alone = alarms
        .filter(|alarm| alarm.cause == AlarmCause::Prober && !is_control(&alarm.stream))
        .peekable();
    let connected = alone.peek().is_none();
    for alarm in alone {
        let (stream, when) = (&alarm.stream, seconds(alarm.at_ms, frame.fire));
        let words =
            format!("the prober cannot be trusted: {stream} fell {when} after fire, and {ALONE}");
        findings.add(Outcome::Inconclusive, words);
    }
    connected
}

/// Whether the prober's machine kept its time. A step in the baseline counts as well: what was measured
/// before and after it is not one measurement.
fn check_clock(frame: &Frame<'_>, findings: &mut Findings) -> bool {
    let steps = &frame.evidence.clock_steps;
    for step in steps {
        let when = match step.at_ms.checked_sub(frame.fire) {
            Some(_) => format!("{} after fire", seconds(step.at_ms, frame.fire)),
            None => format!("{} before fire", seconds(frame.fire, step.at_ms)),
        };
        let words = format!("the prober cannot be trusted: {step} {when}");
        findings.add(Outcome::Inconclusive, words);
    }
    steps.is_empty()
}

fn row<'a>(
    frame: &Frame<'a>,
    stream: &'a Stream,
    window: Window,
    span: Span,
    replay: Option<&Replay>,
    findings: &mut Findings,
) -> Row {
    let claim = frame.claim(stream, window, span, false);
    let mut notes = frame.gaps(&claim);
    let alarm = replay.and_then(|r| {
        let mut alarms = r.alarms.iter().filter(|a| a.stream == stream.name);
        alarms.find(|a| (a.at_ms <= frame.fault_end) == (window == Window::Fault))
    });
    if let Some(alarm) = alarm {
        let when = seconds(alarm.at_ms, frame.fire);
        notes.push(match alarm.cause {
            AlarmCause::Blind => format!("blind from block to block, stopped {when} after fire"),
            _ => format!("alarmed {when} after fire"),
        });
    }
    let l = claim.lower(frame.alpha());
    if l > frame.margin(&claim) {
        notes.push(format!(
            "worse than its baseline by at least {}",
            percent(l)
        ));
    }
    let class = if notes.is_empty() {
        Class::Sound
    } else {
        Class::Unsound
    };
    if class == Class::Unsound {
        findings.add(
            Outcome::Inconclusive,
            format!(
                "the prober cannot be trusted: {} {}",
                stream.name,
                notes.join("; ")
            ),
        );
    }
    let mut row = frame.row(&claim, class, frame.alpha(), notes);
    row.alarm_ms = alarm.map(|a| a.at_ms);
    row.e_value = replay.and_then(|r| r.e_value(&stream.name));
    row
}
