//! What speaks against a pass, collected in any order and merged worst first.

use super::{Outcome, Row, Verdict};

#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<(Outcome, String)>,
}

impl Findings {
    pub fn add(&mut self, outcome: Outcome, words: impl Into<String>) {
        self.list.push((outcome, words.into()));
    }

    /// Adds at most five of many like findings, and says how many more there are.
    pub fn add_some(&mut self, outcome: Outcome, words: Vec<String>) {
        let more = words.len().saturating_sub(5);
        for line in words.into_iter().take(5) {
            self.add(outcome, line);
        }
        if more > 0 {
            self.add(outcome, format!("and {more} more of this kind"));
        }
    }

    /// Whether all that was found so far is that somebody or something was hurt.
    pub fn are_falls_alone(&self) -> bool {
        self.list
            .iter()
            .all(|(outcome, _)| *outcome == Outcome::Fail)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The worst finding decides; without any it is a pass, for the reasons given.
    pub fn into_verdict(mut self, rows: Vec<Row>, on_pass: Vec<String>) -> Verdict {
        self.list.sort_by_key(|(outcome, _)| *outcome);
        match self.list.first() {
            None => Verdict {
                outcome: Outcome::Pass,
                reasons: on_pass,
                rows,
                planes: Vec::new(),
                users: Vec::new(),
                proves_isolation: false,
            },
            Some((worst, _)) => Verdict {
                outcome: *worst,
                reasons: self.list.into_iter().map(|(_, words)| words).collect(),
                rows,
                planes: Vec::new(),
                users: Vec::new(),
                proves_isolation: false,
            },
        }
    }
}

/// A fraction as people read it.
pub(super) fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

/// Whole or tenth seconds after `since`.
pub(super) fn seconds(at_ms: u64, since: u64) -> String {
    let ms = at_ms.saturating_sub(since);
    if ms.is_multiple_of(1000) {
        format!("{} s", ms / 1000)
    } else {
        format!("{:.1} s", ms as f64 / 1000.0)
    }
}
