//! What the users of an entrypoint saw over all cells: reported with its limits, never judged.

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
            truncated: false,
        };
        let notes = vec!["all users of this entrypoint, whatever cell DNS gave them".into()];
        let row = frame.row(&claim, Class::Reported, frame.alpha(), notes);
        rows.push(Row {
            stream: dns.probe.clone(),
            ..row
        });
    }
    rows
}

fn add(sum: &mut Tally, part: &Tally) {
    sum.bad += part.bad;
    sum.valid += part.valid;
    sum.pairs.extend(&part.pairs);
}
