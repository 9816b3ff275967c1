//! What one drill says about a flaw: found, found late, not found, or found where it is not.

use std::collections::BTreeSet;

use proof::drill::Drill;
use scenarios::fleet::Plane;
use scenarios::history::{Header, Phase, Record, Role};
use scenarios::verdict::{Class, Outcome, Window};
use serde::Serialize;

use crate::table::{Expected, Shows};

/// Later than this after fire is late: a drill with short windows would not have seen it.
const SOON_MS: u64 = 10_000;
/// The probe that asks what users of the lab's entrypoint ask.
const USERS_ASK: &str = "checkout";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Found,
    /// In the fault window, but not in its first 10 s; or after the fault.
    FoundLate,
    NotFound,
    /// Something was found, and it is not what is there.
    Wrong,
    /// Neither a finding nor a proof that there is none.
    Unproved,
}

impl Answer {
    pub fn words(self) -> &'static str {
        match self {
            Answer::Found => "found",
            Answer::FoundLate => "found late",
            Answer::NotFound => "not found",
            Answer::Wrong => "WRONG",
            Answer::Unproved => "unproved",
        }
    }
}

/// A cell that fell, at the first of its streams that did.
#[derive(Clone, Debug, Serialize)]
pub struct Fall {
    pub cell: String,
    pub stream: String,
    pub plane: Plane,
    pub window: Window,
    /// After fire; absent where only the whole window showed it.
    pub after_fire_ms: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub result: Answer,
    pub outcome: Outcome,
    pub falls: Vec<Fall>,
    pub lost: Vec<String>,
    pub twice: Vec<String>,
    pub resurrected: Vec<String>,
    pub stale: Vec<String>,
    pub reasons: Vec<String>,
}

impl Finding {
    pub fn of(drill: &Drill, expected: Expected) -> Finding {
        let ledgers = drill.ledgers();
        let cells_where = |bad: &dyn Fn(&scenarios::history::Ledger) -> bool| {
            let bad = ledgers.iter().filter(|ledger| bad(ledger));
            bad.map(|ledger| ledger.cell.clone()).collect::<Vec<_>>()
        };
        let mut finding = Finding {
            result: Answer::Unproved,
            outcome: drill.verdict.outcome,
            falls: falls(drill),
            lost: cells_where(&|ledger| ledger.lost > 0),
            twice: cells_where(&|ledger| ledger.duplicated > 0),
            resurrected: cells_where(&|ledger| ledger.resurrected > 0),
            stale: cells_where(&|ledger| ledger.stale > 0),
            reasons: drill.verdict.reasons.clone(),
        };
        finding.result = finding.judge(expected);
        finding
    }

    /// The cells whose writes are spoilt, for each way in which writes can be.
    fn spoilt(&self) -> [&Vec<String>; 4] {
        [&self.lost, &self.twice, &self.resurrected, &self.stale]
    }

    fn judge(&self, expected: Expected) -> Answer {
        let fallen = self.falls.iter().map(|fall| &fall.cell);
        let spoilt = self.spoilt().into_iter().flatten();
        let named: BTreeSet<&str> = fallen.chain(spoilt).map(String::as_str).collect();
        if named.is_empty() {
            return match self.outcome {
                Outcome::Pass | Outcome::Ineffective => Answer::NotFound,
                Outcome::Inconclusive | Outcome::Aborted => Answer::Unproved,
                // Something that is not a cell's fall: the target did not recover, say.
                Outcome::Fail | Outcome::Residue => Answer::Wrong,
            };
        }
        let Expected::Flaw(shows) = expected else {
            return Answer::Wrong;
        };
        let right: BTreeSet<&str> = match &shows {
            Shows::Falls(cells, _) => cells.iter().copied().collect(),
            Shows::Lost(cell)
            | Shows::Twice(cell)
            | Shows::Resurrected(cell)
            | Shows::Stale(cell) => [*cell].into(),
        };
        if !named.is_subset(&right) {
            return Answer::Wrong;
        }
        match shows {
            Shows::Falls(_, probe) => self.judge_falls(probe),
            Shows::Lost(_) => self.judge_writes(&self.lost),
            Shows::Twice(_) => self.judge_writes(&self.twice),
            Shows::Resurrected(_) => self.judge_writes(&self.resurrected),
            Shows::Stale(_) => self.judge_writes(&self.stale),
        }
    }

    /// Writes are spoilt in the right way, in no other, and no cell fell.
    fn judge_writes(&self, right: &[String]) -> Answer {
        let all: usize = self.spoilt().iter().map(|cells| cells.len()).sum();
        match self.falls.is_empty() && !right.is_empty() && right.len() == all {
            true => Answer::Found,
            false => Answer::Wrong,
        }
    }

    /// Seen by the right probe on the data plane, or by users of the entrypoint who ask the same: the first
    /// alarm ends the drill, whoever raises it.
    fn judge_falls(&self, probe: &str) -> Answer {
        let right = self.falls.iter().filter(|fall| {
            let by_probe = fall.stream == format!("{}/{probe}", fall.cell);
            let by_users = fall.stream.ends_with(&format!("@{}", fall.cell));
            match fall.plane {
                Plane::Data => by_probe,
                Plane::Entrypoint => by_users && probe == USERS_ASK,
                Plane::Control | Plane::Dependency => false,
            }
        });
        let mut times = right
            .map(|fall| (fall.window, fall.after_fire_ms))
            .peekable();
        if times.peek().is_none() {
            return Answer::Wrong;
        }
        let soon = |(window, at): (Window, Option<u64>)| {
            window == Window::Fault && at.is_some_and(|at| at <= SOON_MS)
        };
        match times.any(soon) {
            true => Answer::Found,
            false => Answer::FoundLate,
        }
    }

    /// `tencent: checkout, 4 s after fire`, for the table.
    pub fn words(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        // Users say the same once more, if probes have said it.
        let by_probes = self.falls.iter().any(|fall| fall.plane == Plane::Data);
        let told = |fall: &&Fall| fall.plane == Plane::Data || !by_probes;
        for fall in self.falls.iter().filter(told) {
            let window = match fall.window {
                Window::Fault => "fault",
                Window::After => "after",
            };
            let at = match fall.after_fire_ms {
                Some(ms) => format!("{} s", ms / 1000),
                None => "whole".to_string(),
            };
            words.push(format!("{} ({window}, {at})", fall.stream));
        }
        let ways = [
            "lost orders",
            "has orders twice",
            "has orders again that were gone",
            "has old versions of orders",
        ];
        for (cells, way) in self.spoilt().into_iter().zip(ways) {
            words.extend(cells.iter().map(|cell| format!("{cell} {way}")));
        }
        words.join(", ")
    }
}

/// Every degraded stream of a cell that must not notice.
fn falls(drill: &Drill) -> Vec<Fall> {
    let (Some(header), fire) = (header(drill), fire_ms(drill)) else {
        return Vec::new();
    };
    let degraded = drill
        .verdict
        .rows
        .iter()
        .filter(|row| row.class == Class::Degraded);
    let mut all: Vec<Fall> = degraded
        .filter_map(|row| {
            let stream = header
                .streams
                .iter()
                .find(|known| known.name == row.stream)?;
            (stream.role == Role::Other).then(|| Fall {
                cell: stream.cell.clone().unwrap_or_else(|| stream.name.clone()),
                stream: row.stream.clone(),
                plane: stream.plane,
                window: row.window,
                after_fire_ms: row.alarm_ms.map(|at| at.saturating_sub(fire)),
            })
        })
        .collect();
    all.sort_by_key(|fall| fall.after_fire_ms.unwrap_or(u64::MAX));
    all
}

fn header(drill: &Drill) -> Option<&Header> {
    drill.records.iter().find_map(|record| match record {
        Record::Header(header) => Some(header.as_ref()),
        _ => None,
    })
}

fn fire_ms(drill: &Drill) -> u64 {
    let fire = drill.records.iter().find_map(|record| match record {
        Record::Phase(mark) if mark.phase == Phase::Fire => Some(mark.at_ms),
        _ => None,
    });
    fire.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(outcome: Outcome, falls: &[(&str, &str, Window, Option<u64>)]) -> Finding {
        let falls = falls.iter().map(|(cell, probe, window, at)| Fall {
            cell: (*cell).to_owned(),
            stream: format!("{cell}/{probe}"),
            plane: Plane::Data,
            window: *window,
            after_fire_ms: *at,
        });
        Finding {
            result: Answer::Unproved,
            outcome,
            falls: falls.collect(),
            lost: Vec::new(),
            twice: Vec::new(),
            resurrected: Vec::new(),
            stale: Vec::new(),
            reasons: Vec::new(),
        }
    }

    const SHOWS: Expected = Expected::Flaw(Shows::Falls(&["b", "c"], "checkout"));

    #[test]
    fn found_is_the_right_cell_by_the_right_probe_in_time() {
        let judge = |falls: &[_]| finding(Outcome::Fail, falls).judge(SHOWS);
        let soon = ("b", "checkout", Window::Fault, Some(4000));
        assert_eq!(judge(&[soon]), Answer::Found);
        let later = ("b", "checkout", Window::Fault, Some(44_000));
        assert_eq!(judge(&[later]), Answer::FoundLate);
        let whole = ("c", "checkout", Window::Fault, None);
        assert_eq!(judge(&[whole]), Answer::FoundLate);
        let after = ("b", "checkout", Window::After, Some(9000));
        assert_eq!(judge(&[after]), Answer::FoundLate);
    }

    #[test]
    fn users_who_ask_the_same_find_it_as_well() {
        let by_users = |cell: &str, expected| {
            let mut found = finding(Outcome::Fail, &[(cell, "x", Window::Fault, Some(4000))]);
            found.falls[0].stream = format!("shop@{cell}");
            found.falls[0].plane = Plane::Entrypoint;
            assert!(found.words().contains("shop@"), "{}", found.words());
            found.judge(expected)
        };
        assert_eq!(by_users("b", SHOWS), Answer::Found);
        assert_eq!(by_users("d", SHOWS), Answer::Wrong);
        let orders = Expected::Flaw(Shows::Falls(&["b"], "orders"));
        assert_eq!(by_users("b", orders), Answer::Wrong);
    }

    #[test]
    fn the_wrong_cell_the_wrong_probe_and_a_finding_without_a_flaw_are_wrong() {
        let judge = |falls: &[_], expected| finding(Outcome::Fail, falls).judge(expected);
        let foreign = ("d", "checkout", Window::Fault, Some(4000));
        let right = ("b", "checkout", Window::Fault, Some(4000));
        assert_eq!(judge(&[right, foreign], SHOWS), Answer::Wrong);
        let probe = ("b", "orders", Window::Fault, Some(4000));
        assert_eq!(judge(&[probe], SHOWS), Answer::Wrong);
        assert_eq!(judge(&[right], Expected::Nothing), Answer::Wrong);
        // The target did not recover, say.
        assert_eq!(judge(&[], Expected::Nothing), Answer::Wrong);
        assert_eq!(judge(&[], SHOWS), Answer::Wrong);
    }

    #[test]
    fn no_finding_is_told_from_no_proof() {
        let judge = |outcome| finding(outcome, &[]).judge(SHOWS);
        assert_eq!(judge(Outcome::Pass), Answer::NotFound);
        assert_eq!(judge(Outcome::Ineffective), Answer::NotFound);
        assert_eq!(judge(Outcome::Inconclusive), Answer::Unproved);
        assert_eq!(judge(Outcome::Aborted), Answer::Unproved);
        assert_eq!(judge(Outcome::Residue), Answer::Wrong);
    }

    #[test]
    fn a_lost_order_is_no_fall() {
        let lost = Expected::Flaw(Shows::Lost("b"));
        let mut found = finding(Outcome::Fail, &[]);
        found.lost = vec!["b".to_owned()];
        assert_eq!(found.judge(lost), Answer::Found);
        assert_eq!(found.judge(SHOWS), Answer::Wrong);
        assert_eq!(found.judge(Expected::Nothing), Answer::Wrong);
        found.lost = vec!["c".to_owned()];
        assert_eq!(found.judge(lost), Answer::Wrong);
    }

    #[test]
    fn writes_that_are_spoilt_in_another_way_are_another_flaw() {
        let mut found = finding(Outcome::Fail, &[]);
        found.stale = vec!["b".to_owned()];
        let stale = Expected::Flaw(Shows::Stale("b"));
        assert_eq!(found.judge(stale), Answer::Found);
        let resurrected = Expected::Flaw(Shows::Resurrected("b"));
        assert_eq!(found.judge(resurrected), Answer::Wrong);
        found.resurrected = vec!["b".to_owned()];
        assert_eq!(found.judge(stale), Answer::Wrong);
        assert_eq!(found.judge(resurrected), Answer::Wrong);
    }
}
