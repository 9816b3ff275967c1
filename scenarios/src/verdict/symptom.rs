//! How the target failed: a cloud that is gone is silent, an answer says that a part of it lived.

use std::collections::BTreeMap;

use super::evidence::Span;
use super::findings::{Findings, percent};
use super::frame::Frame;
use super::interval::Sample;
use super::{Outcome, planes};
use crate::effects::Symptom;
use crate::history::{Block, Role, Stream};

/// The target's bad probes by kind, in the order of `Symptom::ALL`.
type Mix = [u64; 5];

fn counts(block: &Block, late: LateMix) -> Mix {
    let answered = late
        .slow
        .saturating_add(late.resets)
        .saturating_add(late.errors);
    let wrong = late.errors.saturating_sub(late.server_errors);
    // Of these nobody knows how they ended: they are of no kind.
    let told = answered.saturating_add(late.timeouts);
    let untold = u64::from(block.under_way).saturating_sub(told);
    Symptom::ALL.map(|symptom| {
        let (seen, late) = match symptom {
            Symptom::Timeouts => {
                let timeouts = u64::from(block.timeouts).saturating_sub(answered);
                return timeouts.saturating_sub(untold);
            }
            Symptom::Resets => (block.resets, late.resets),
            Symptom::ServerErrors => (block.server_errors.min(block.errors), late.server_errors),
            Symptom::WrongAnswers => (block.errors.saturating_sub(block.server_errors), wrong),
            Symptom::Slow => (block.slow, late.slow),
        };
        u64::from(seen).saturating_add(late)
    })
}

/// The kinds, and all bad probes: those without a kind are of no kind that was meant.
fn mix(frame: &Frame<'_>, span: Span, tells: impl Fn(&Stream) -> bool) -> (Mix, u64) {
    let (mut mix, mut bad) = (Mix::default(), 0u64);
    // Slow answers and gauges are the verdict's own counts, and would tell the same probes twice.
    let streams = frame.evidence.with_role(Role::Target);
    for stream in streams.filter(|stream| stream.is_probed() && tells(stream)) {
        // The conductor's own: late ends are told of its probes alone.
        let blocks = frame.evidence.series(None, &stream.name);
        let blocks = blocks.map(|blocks| blocks.range(span.from..span.to.max(span.from)));
        let late = late_ends(frame, stream);
        for (start_ms, block) in blocks.into_iter().flatten() {
            bad = bad.saturating_add(u64::from(block.bad));
            let late = late.get(start_ms).copied().unwrap_or_default();
            for (sum, seen) in mix.iter_mut().zip(counts(block, late)) {
                *sum = sum.saturating_add(seen);
            }
        }
    }
    let total = bad.max(all(&mix));
    (mix, total)
}

#[derive(Clone, Copy, Default)]
struct LateMix {
    timeouts: u64,
    slow: u64,
    resets: u64,
    errors: u64,
    server_errors: u64,
}

/// What became of probes that were told as timeouts, by the start of their block.
fn late_ends(frame: &Frame<'_>, stream: &Stream) -> BTreeMap<u64, LateMix> {
    let mut all: BTreeMap<u64, LateMix> = BTreeMap::new();
    let late = frame.evidence.late.iter();
    for told in late.filter(|late| late.stream == stream.name) {
        let sum = all.entry(told.start_ms).or_default();
        let add = |sum: &mut u64, seen: u32| *sum = sum.saturating_add(u64::from(seen));
        add(&mut sum.timeouts, told.timeouts);
        add(&mut sum.slow, told.slow);
        add(&mut sum.resets, told.resets);
        add(&mut sum.errors, told.errors);
        add(&mut sum.server_errors, told.server_errors.min(told.errors));
    }
    all
}

fn all(mix: &Mix) -> u64 {
    mix.iter().fold(0, |all, seen| all.saturating_add(*seen))
}

fn told(mix: &Mix, total: u64) -> String {
    let unkind = ("of no kind", total.saturating_sub(all(mix)));
    let kinds = Symptom::ALL.iter().map(|symptom| symptom.words());
    let shares = kinds
        .zip(*mix)
        .chain([unkind])
        .filter(|(_, seen)| *seen > 0);
    let shares: Vec<String> = shares
        .map(|(words, seen)| format!("{words} {}", percent(seen as f64 / total as f64)))
        .collect();
    shares.join(", ")
}

/// What the target's users saw while the fault lasted, if any of it was bad.
pub(super) fn words(frame: &Frame<'_>) -> Option<String> {
    let (mix, total) = mix(
        frame,
        Span {
            from: frame.fire,
            to: frame.fault_end,
        },
        |_| true,
    );
    (total > 0).then(|| format!("what the target's users saw: {}", told(&mix, total)))
}

/// Whether it failed as declared, without the guard times, in which the fault comes and goes. What
/// must be degraded shows it: other probes may ask somebody else about the cell (a Prometheus, DNS),
/// who goes on answering.
///
/// Another symptom means that another fault was in force than the one that was meant: whatever the
/// drill proved, it did not prove it of this one. So it is INCONCLUSIVE, and a cell that fell
/// beside it fell all the same.
pub(super) fn check(frame: &Frame<'_>, findings: &mut Findings) {
    let judgement = &frame.evidence.header.judgement;
    let Some(claim) = &judgement.effects.symptom else {
        return;
    };
    if claim.only.is_empty() || !(claim.at_least > 0.0 && claim.at_least <= 1.0) {
        findings.add(
            Outcome::Inconclusive,
            "a symptom is declared that nothing could contradict",
        );
        return;
    }
    if !frame.fault_was_whole() {
        return;
    }
    let guard = judgement.guard_ms;
    let (seen, total) = mix(
        frame,
        Span {
            from: frame.fire.saturating_add(guard),
            to: frame.fault_end.saturating_sub(guard) / judgement.block_ms * judgement.block_ms,
        },
        |stream| planes::must_degrade(frame.evidence, stream),
    );
    if total == 0 {
        return; // A target that did not fail is ineffective, and said to be so.
    }
    let meant = Symptom::ALL.iter().zip(seen);
    let meant = meant.filter(|(symptom, _)| claim.only.contains(symptom));
    let meant = meant.fold(0u64, |sum, (_, seen)| sum.saturating_add(seen));
    let sample = Sample::new(meant, total);
    // Asked this way round: whatever does not compare must not pass.
    if sample.lower(frame.alpha()) >= claim.at_least {
        return;
    }
    let only: Vec<&str> = claim.only.iter().map(|symptom| symptom.words()).collect();
    let what = if sample.upper(frame.alpha()) < claim.at_least {
        "the target failed in another way than declared, so another fault was in force"
    } else {
        "the target was not proved to fail as declared"
    };
    findings.add(
        Outcome::Inconclusive,
        format!(
            "{what}: {}, declared were at least {} {}",
            told(&seen, total),
            percent(claim.at_least),
            only.join(" or ")
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::super::drill::{FAULT, FIRE, RATE, expect, header_mut, spoilt};
    use super::*;
    use crate::effects::SymptomClaim;
    use crate::history::{LateEnds, Record};

    /// All probes of the target that must fall seemed silent, and so many of each block answered later.
    fn answered_late(each: u32) -> Vec<Record> {
        spoilt(|records| {
            header_mut(records).judgement.effects.symptom = Some(SymptomClaim {
                only: vec![Symptom::Timeouts],
                at_least: 0.9,
            });
            let target = ["ali/checkout", "ali/orders", "shop@ali"];
            for record in &mut *records {
                if let Record::Block(block) = record
                    && target.contains(&block.stream.as_str())
                {
                    block.under_way = each.min(block.timeouts);
                }
            }
            for second in 0..FAULT {
                for stream in target {
                    records.push(Record::Late(LateEnds {
                        stream: stream.into(),
                        start_ms: (FIRE + second) * 1000,
                        errors: each,
                        server_errors: each,
                        ..LateEnds::default()
                    }));
                }
            }
        })
    }

    #[test]
    fn what_answered_late_was_not_silent() {
        expect(&answered_late(0), Outcome::Pass, &["timeouts 100.0 %"]);
        expect(
            &answered_late(RATE),
            Outcome::Inconclusive,
            &["another fault was in force", "5xx 100.0 %"],
        );
        // Whoever leaves out how they ended has not shown silence.
        let told_of = |timeouts: u32| {
            let mut records = answered_late(0);
            for record in &mut records {
                match record {
                    Record::Late(late) => late.timeouts = timeouts,
                    Record::Block(block) => block.under_way = block.timeouts,
                    _ => {}
                }
            }
            records
        };
        expect(&told_of(RATE), Outcome::Pass, &["timeouts 100.0 %"]);
        let words = ["timeouts 50.0 %", "of no kind 50.0 %"];
        expect(&told_of(RATE / 2), Outcome::Inconclusive, &words);
        let mut dropped = told_of(RATE);
        dropped.retain(|record| !matches!(record, Record::Late(_)));
        expect(&dropped, Outcome::Inconclusive, &["of no kind 100.0 %"]);
        let impossible = spoilt(|records| {
            for record in records {
                if let Record::Block(block) = record
                    && block.stream == "ali/orders"
                {
                    block.under_way = block.timeouts + 1;
                }
            }
        });
        let words = ["ali/orders", "more probes under way than timeouts"];
        expect(&impossible, Outcome::Inconclusive, &words);
        let unknown = spoilt(|records| {
            records.push(Record::Late(LateEnds {
                stream: "mars/home".into(),
                ..LateEnds::default()
            }));
        });
        expect(
            &unknown,
            Outcome::Inconclusive,
            &["unknown stream mars/home"],
        );
    }
}
