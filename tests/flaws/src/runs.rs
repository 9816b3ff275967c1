//! One run: a lab with a flaw or none, one drill on it, and what the drill found.

use std::time::Instant;

use proof::drill::{Drill, Size, try_run};
use proof::lab::Lab;
use serde::Serialize;

use crate::finding::{Answer, Finding};
use crate::table::{Expected, QUICK, Row};

/// A drill that proves nothing (a busy prober, mostly) is run so often at the most.
const ATTEMPTS: u32 = 3;

#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// None is the isolated lab.
    pub flaw: Option<&'static str>,
    pub fault: &'static str,
    pub cells: u8,
    pub window: &'static str,
    pub rate: &'static str,
    pub margin: &'static str,
    #[serde(skip)]
    pub expected: Expected,
    pub attempts: u32,
    pub seconds: u64,
    pub finding: Option<Finding>,
    /// Why there is no finding: the lab or the drill was refused.
    pub refused: Option<String>,
    /// Why the attempts before this one were no proof.
    pub before: Vec<String>,
}

impl Run {
    /// What came of one attempt; what was unproved before it is kept for the log.
    fn note(&mut self, drilled: Result<Drill, String>, expected: Expected) {
        if let Some(before) = self.finding.take() {
            self.before.push(before.reasons.join("; "));
        }
        self.before.extend(self.refused.take());
        match drilled {
            Ok(drill) => self.finding = Some(Finding::of(&drill, expected)),
            Err(why) => self.refused = Some(why),
        }
    }

    fn answer(&self) -> Option<Answer> {
        self.finding.as_ref().map(|finding| finding.result)
    }

    /// Whether the drill said what is true.
    pub fn is_right(&self) -> bool {
        let answer = self.answer();
        match self.expected {
            Expected::Flaw(_) => matches!(answer, Some(Answer::Found | Answer::FoundLate)),
            Expected::Nothing => answer == Some(Answer::NotFound),
            Expected::NoProof => answer == Some(Answer::Unproved),
        }
    }

    /// A finding where there is nothing to find.
    pub fn is_false_finding(&self) -> bool {
        self.expected == Expected::Nothing && self.answer() == Some(Answer::Wrong)
    }

    /// Nothing was found, and nothing proved: the prober was too busy, mostly.
    pub fn is_unproved(&self) -> bool {
        matches!(self.answer(), Some(Answer::Unproved) | None)
    }
}

/// A flaw against a fault.
pub fn flawed(row: &Row, fault: &'static str) -> Run {
    let expected = row.expected(fault);
    let begun = Instant::now();
    let mut run = blank(Some(row.flaw), fault, row.cells, &row.size);
    run.expected = expected;
    while run.attempts < ATTEMPTS {
        run.attempts += 1;
        let drilled = lab(row.cells, &[row.flaw]).and_then(|lab| try_run(&lab, fault, &row.size));
        run.note(drilled, expected);
        if !run.is_unproved() || run.is_right() {
            break;
        }
    }
    run.seconds = begun.elapsed().as_secs();
    run
}

/// The control: a lab without a flaw.
pub fn isolated(lab: &Lab, fault: &'static str, cells: u8, size: &Size) -> Run {
    let begun = Instant::now();
    let mut run = blank(None, fault, cells, size);
    while run.attempts < ATTEMPTS && run.is_unproved() {
        run.attempts += 1;
        run.note(try_run(lab, fault, size), Expected::Nothing);
    }
    run.seconds = begun.elapsed().as_secs();
    run
}

/// Drills on isolated labs of two, three and four cells; each lab has ten of them.
pub fn many_isolated(count: u32, size: &Size, mut told: impl FnMut(&Run)) -> Vec<Run> {
    const EACH: u32 = 10;
    let mut runs = Vec::new();
    for first in (0..count).step_by(EACH as usize) {
        let cells = 2 + u8::try_from(first / EACH % 3).unwrap_or_default();
        let up = lab(cells, &[]);
        for _ in first..count.min(first + EACH) {
            let run = match &up {
                Ok(lab) => isolated(lab, "black-hole-cloud", cells, size),
                Err(why) => Run {
                    refused: Some(why.clone()),
                    ..blank(None, "black-hole-cloud", cells, size)
                },
            };
            told(&run);
            runs.push(run);
        }
    }
    runs
}

/// The name is this process's own, so that several benches go beside each other.
pub fn lab(cells: u8, flaws: &[&str]) -> Result<Lab, String> {
    let what = flaws.first().unwrap_or(&"isolated");
    let name = format!("flaws-{}-{what}", std::process::id());
    Lab::try_up("plain", &name, cells, flaws)
}

fn blank(flaw: Option<&'static str>, fault: &'static str, cells: u8, size: &Size) -> Run {
    Run {
        flaw,
        fault,
        cells,
        window: size.window,
        rate: size.rate,
        margin: size.margin,
        expected: Expected::Nothing,
        attempts: 0,
        seconds: 0,
        finding: None,
        refused: None,
        before: Vec::new(),
    }
}

/// What a control is drilled with.
pub const CONTROL: Size = QUICK;
