//! What the users of an entrypoint saw over all cells: reported with its limits, never judged.

use std::collections::BTreeMap;

use super::evidence::{Span, Tally, is_attributed};
use super::frame::{Claim, Frame};
use super::{Class, Row, Window};
use crate::history::Stream;

/// One row per entrypoint for the fault window, named `ENTRYPOINT`.
pub(super) fn rows(frame: &Frame<'_>) -> Vec<Row> {
    let streams = &frame.evidence.header.streams;
    let dns =
        |stream: &&Stream| stream.cell.is_none() && stream.name == format!("{}/dns", stream.probe);
    let mut rows = Vec::new();
    for dns in streams.iter().filter(dns) {
        let users: Vec<&Stream> = streams
            .iter()
            .filter(|s| is_attributed(s) && s.probe == dns.probe)
            .collect();
        if users.is_empty() {
            continue;
        }
        let end = frame.stop.unwrap_or(u64::MAX).min(frame.fault_end);
        let span = Span {
            from: frame.fire,
            to: end,
        };
        let answers = answers(frame, dns, &users, span);
        let (mut now, mut base) = (Tally::default(), Tally::default());
        for stream in users {
            add(&mut now, &frame.evidence.tally(stream, span));
            add(&mut base, &frame.evidence.baseline(stream));
        }
        // A user without an address is a user who was turned away.
        for (sum, own) in [
            (&mut now, frame.evidence.tally(dns, span)),
            (&mut base, frame.evidence.baseline(dns)),
        ] {
            sum.bad += own.bad;
            sum.valid += own.bad;
        }
        let claim = Claim {
            stream: dns,
            window: Window::Fault,
            span,
            now,
            base,
            first_half: None,
            truncated: false,
        };
        let notes = vec![
            "all users of this entrypoint, whatever cell DNS gave them".into(),
            answers,
        ];
        let row = frame.row(&claim, Class::Reported, frame.alpha(), notes);
        rows.push(Row {
            stream: dns.probe.clone(),
            ..row
        });
    }
    rows
}

/// The share of answers that DNS gave each cell, beside the declared one.
fn answers(frame: &Frame<'_>, dns: &Stream, users: &[&Stream], span: Span) -> String {
    let blocks = frame.evidence.blocks.get(dns.name.as_str());
    let blocks = blocks.map(|blocks| blocks.range(span.from..span.to.max(span.from)));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, block) in blocks.into_iter().flatten() {
        for (cell, count) in &block.answers {
            *counts.entry(cell).or_default() += u64::from(*count);
        }
    }
    let all: u64 = counts.values().sum();
    let percent =
        |part: f64, whole: f64| format!("{:.1} %", 100.0 * part / whole.max(f64::MIN_POSITIVE));
    let shares = counts.iter().map(|(cell, count)| {
        let user = users
            .iter()
            .find(|user| user.cell.as_deref() == Some(*cell));
        let declared = user.map_or("not declared".to_string(), |user| {
            format!("declared {}", percent(user.rate, dns.rate))
        });
        format!("{cell} {} ({declared})", percent(*count as f64, all as f64))
    });
    let shares: Vec<String> = shares.collect();
    match shares.is_empty() {
        true => "DNS gave no answer".to_string(),
        false => format!("DNS answered {}", shares.join(", ")),
    }
}

fn add(sum: &mut Tally, part: &Tally) {
    sum.bad += part.bad;
    sum.valid += part.valid;
    sum.pairs.extend(&part.pairs);
}
