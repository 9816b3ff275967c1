//! The final verdict, a pure function of the history.
//!
//! Windows. Baseline: from the Before mark (from Thresholds for a stream without a declared slo) to
//! Fire. Fault: from Fire to the plan's end. After: from there to End; for the target it starts
//! behind its settling (see `target`). Streams that must not notice are judged in Fault and After
//! without a gap, After in parts no longer than the baseline, and all parts must be isolated
//! (intersection-union: alpha is not divided). Claims of degradation are Holm-corrected over every
//! stream and part.
//!
//! An alarm or an interruption truncates: what had not reached its planned end then is
//! inconclusive, never isolated. Controls come first: where the prober is unsound, no cell is
//! called degraded, unless it had alarmed before. Every finding has an outcome, the worst wins,
//! and a pass is what is left when there is no finding at all.

use super::evidence::Evidence;
use super::findings::{Findings, percent, seconds};
use super::frame::Frame;
use super::replay::Replay;
use super::{
    CellPlane, Class, Outcome, Row, UserReport, Verdict, Window, agents, control, coverage,
    durability, entrypoint, harm, integrity, load, others, planes, symptom, target, users,
    vantages,
};
use crate::history::{AlarmCause, Record, Role, Stream};

/// Judges a whole history; total, whatever the records are.
pub fn judge(records: &[Record]) -> Verdict {
    let mut evidence = match Evidence::read(records) {
        Ok(evidence) => evidence,
        Err(why) => return unreadable(records, why),
    };
    let mut findings = Findings::default();
    integrity::check_residue(&evidence, &mut findings);
    let Some(fire) = evidence.fire else {
        not_started(&evidence, &mut findings);
        return findings.into_verdict(Vec::new(), Vec::new());
    };
    let replay = match Replay::run(&evidence, fire) {
        Ok(replay) => Some(replay),
        Err(why) => {
            findings.add(
                Outcome::Inconclusive,
                format!("fired although not ready: {why}"),
            );
            None
        }
    };
    let untrusted = vantages::untrusted(&frame(&evidence, fire, replay.as_ref()), &mut findings);
    evidence.leave_out(untrusted);
    let frame = frame(&evidence, fire, replay.as_ref());
    let (control_rows, sound) = control::rows(&frame, replay.as_ref(), &mut findings);
    check_alarms(&frame, replay.as_ref(), &mut findings);
    check_drill(&frame, &mut findings);
    harm::check(&frame, replay.as_ref(), sound, &mut findings);
    let mut rows = target::rows(&frame, sound && replay.is_some(), &mut findings);
    let is_whole = findings.are_falls_alone();
    let other_rows = others::rows(&frame, replay.as_ref(), sound);
    vantages::report(&evidence, &other_rows, &mut findings);
    others::report(&frame, &other_rows, replay.as_ref(), &mut findings);
    rows.extend(other_rows);
    rows.extend(entrypoint::rows(&frame));
    rows.extend(control_rows);
    if findings.is_empty()
        && let Some(what) = unproved(&evidence, &rows)
    {
        findings.add(
            Outcome::Inconclusive,
            format!("{what}, and nothing says why"),
        );
    }
    let planes = planes::summary(&evidence, &rows);
    let users = users::reports(&frame, sound && !others::is_any_doubtful(&rows));
    let on_pass = pass_reasons(&frame, &rows, &planes, &users);
    let verdict = findings.into_verdict(rows, on_pass);
    // One cell without proof leaves the drill without one.
    let speaks = matches!(verdict.outcome, Outcome::Pass | Outcome::Fail);
    Verdict {
        planes,
        users,
        proves_isolation: is_whole && speaks,
        ..verdict
    }
}

fn frame<'a>(evidence: &'a Evidence<'a>, fire: u64, replay: Option<&Replay>) -> Frame<'a> {
    Frame {
        evidence,
        fire,
        fault_end: evidence.planned_end(fire),
        end: evidence.end(),
        stop: first_stop(evidence, replay),
    }
}

/// What holds or does not hold of the drill as a whole, whatever its streams say.
fn check_drill(frame: &Frame<'_>, findings: &mut Findings) {
    let (evidence, fire) = (frame.evidence, frame.fire);
    integrity::check_wholeness(evidence, fire, findings);
    if frame.stop.is_none() {
        integrity::check_duration(evidence, fire, frame.fault_end, findings);
    }
    coverage::check(evidence, fire, findings);
    agents::check_agents(evidence, fire, findings);
    integrity::check_endpoints(evidence, findings);
    durability::check(evidence, findings);
    symptom::check(frame, findings);
    load::check(frame, findings);
}

fn unreadable(records: &[Record], why: String) -> Verdict {
    let mut findings = Findings::default();
    findings.add(Outcome::Inconclusive, why);
    for record in records {
        if let Record::Residue(scan) = record
            && !(scan.verified && scan.left.is_empty())
        {
            let words = format!(
                "residue on {}/{}: {}",
                scan.cell,
                scan.node,
                scan.left.join(", ")
            );
            findings.add(Outcome::Residue, words);
        }
    }
    findings.into_verdict(Vec::new(), Vec::new())
}

fn not_started(evidence: &Evidence<'_>, findings: &mut Findings) {
    for interrupted in &evidence.interrupted {
        findings.add(
            Outcome::Aborted,
            format!("never fired: {}", interrupted.why),
        );
    }
    for step in &evidence.clock_steps {
        findings.add(Outcome::Aborted, format!("never fired: {step}"));
    }
    if evidence.interrupted.is_empty() && evidence.clock_steps.is_empty() {
        findings.add(
            Outcome::Aborted,
            "never fired; the history does not say why",
        );
    }
}

/// The first thing that kept the drill from its planned course.
fn first_stop(evidence: &Evidence<'_>, replay: Option<&Replay>) -> Option<u64> {
    let replayed = replay.into_iter().flat_map(|r| &r.alarms).map(|a| a.at_ms);
    replayed.chain(evidence.stops()).min()
}

/// Alarms about blindness and the prober, and recorded ones that the blocks do not bear out.
fn check_alarms(frame: &Frame<'_>, replay: Option<&Replay>, findings: &mut Findings) {
    let replayed = replay.map(|r| r.alarms.as_slice()).unwrap_or_default();
    let control = |name: &str| {
        frame
            .evidence
            .with_role(Role::Control)
            .any(|stream| stream.name == name)
    };
    for alarm in replayed {
        // A blind control has its words already, in its row.
        if alarm.cause == AlarmCause::Blind && !control(&alarm.stream) {
            let when = seconds(alarm.at_ms, frame.fire);
            let words = format!("{} was blind, stopped {when} after fire", alarm.stream);
            findings.add(Outcome::Inconclusive, words);
        }
    }
    for alarm in &frame.evidence.alarms {
        let known = replayed
            .iter()
            .any(|a| a.stream == alarm.stream && a.cause == alarm.cause);
        if !known {
            findings.add(
                Outcome::Inconclusive,
                format!(
                    "the drill was stopped {} after fire by an alarm of {} ({:?}) that the recorded \
                     blocks do not bear out",
                    seconds(alarm.at_ms, frame.fire),
                    alarm.stream,
                    alarm.cause
                ),
            );
        }
    }
    if let Some(stop) = frame.stop {
        findings.add(
            Outcome::Inconclusive,
            format!(
                "stopped {} after fire: whatever had not been proved by then is inconclusive",
                seconds(stop, frame.fire)
            ),
        );
    }
}

/// A pass is not only "no finding": every claim that it makes must have its row.
fn unproved(evidence: &Evidence<'_>, rows: &[Row]) -> Option<String> {
    let has = |stream: &Stream, window, class| {
        rows.iter()
            .any(|r| r.stream == stream.name && r.window == window && r.class == class)
    };
    for stream in &evidence.header.streams {
        let must_degrade = planes::must_degrade(evidence, stream);
        let proved = match stream.role {
            Role::Other => [Window::Fault, Window::After]
                .into_iter()
                .all(|window| has(stream, window, Class::Isolated)),
            Role::Control => has(stream, Window::Fault, Class::Sound),
            Role::Target if must_degrade => {
                has(stream, Window::Fault, Class::Effective)
                    && has(stream, Window::After, Class::Recovered)
            }
            Role::Target => true,
        };
        if !proved {
            return Some(format!("{} is not proved", stream.name));
        }
    }
    let effective = rows.iter().any(|row| row.class == Class::Effective);
    (!effective).then(|| "no stream of the target is proved degraded".into())
}

/// The claim of a pass, with its bounds.
fn pass_reasons(
    frame: &Frame<'_>,
    rows: &[Row],
    planes: &[CellPlane],
    users: &[UserReport],
) -> Vec<String> {
    let evidence = frame.evidence;
    let of = |class: Class| rows.iter().filter(move |row| row.class == class);
    let mut cells = evidence.header.plan.target.cells.clone();
    cells.dedup();
    let least = of(Class::Effective).map(|row| row.l).fold(1.0, f64::min);
    let most = of(Class::Isolated).map(|row| row.u).fold(-1.0, f64::max);
    let mut reasons = vec![format!(
        "{} degraded{} by at least {} and recovered; every other stream isolated{} with U <= {}",
        cells.join(", "),
        planes::on_planes(planes, Class::Effective),
        percent(least),
        planes::on_planes(planes, Class::Isolated),
        percent(most)
    )];
    reasons.extend(target::on_pass(frame));
    reasons.extend(durability::on_pass(evidence));
    reasons.extend(vantages::on_pass(evidence));
    reasons.push(format!(
        "no residue on {} nodes",
        evidence.header.plan.nodes().len()
    ));
    reasons.extend(coverage::on_pass(evidence, frame.fire));
    reasons.extend(symptom::words(frame));
    reasons.push(load::on_pass(frame));
    reasons.extend(users.iter().flat_map(|seen| seen.words.iter().cloned()));
    reasons
}

#[cfg(test)]
mod tests {
    use super::super::drill::{history, sound};
    use super::*;

    #[test]
    fn no_finding_is_not_yet_a_proof() {
        let records = history(&sound);
        let evidence = Evidence::read(&records).unwrap();
        let rows = judge(&records).rows;
        assert_eq!(unproved(&evidence, &rows), None);
        for at in 0..rows.len() {
            let mut fewer = rows.clone();
            let gone = fewer.remove(at);
            let claims = [Class::Isolated, Class::Effective].contains(&gone.class)
                || (gone.class, gone.stream.as_str()) == (Class::Recovered, "ali/checkout")
                || (gone.class, gone.window) == (Class::Sound, Window::Fault);
            assert_eq!(
                unproved(&evidence, &fewer).is_some(),
                claims,
                "without {gone:?}"
            );
        }
    }
}
