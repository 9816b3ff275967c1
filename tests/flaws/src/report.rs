//! The table for people, and the same as JSON.

use std::path::Path;

use serde::Serialize;

use crate::runs::Run;
use crate::table::Expected;

#[derive(Serialize)]
pub struct Report<'a> {
    pub seed: u64,
    /// Of flaws, and of the isolated lab as their control.
    pub table: &'a [Run],
    /// Of the isolated lab again and again.
    pub isolated: &'a [Run],
    pub false_findings: usize,
}

pub fn head() -> String {
    format!(
        "{:<24}{:<27}{:<12}{:<20}{}",
        "flaw", "fault", "result", "windows, rate", "what the drill named"
    )
}

pub fn line(run: &Run) -> String {
    let result = match &run.finding {
        Some(finding) => finding.result.words(),
        None => "refused",
    };
    let expected = match (run.is_right(), run.expected) {
        (true, _) => "",
        (false, Expected::Flaw(_)) => "  <- there is a flaw to find",
        (false, Expected::Nothing) => "  <- there is nothing to find",
        (false, Expected::NoProof) => "  <- nothing can be proved here",
    };
    let mut named = match (&run.finding, &run.refused) {
        (Some(finding), _) => {
            let words = finding.words();
            match words.is_empty() {
                true => format!("nothing ({:?})", finding.outcome),
                false => words,
            }
        }
        (None, Some(why)) => why.lines().last().unwrap_or_default().to_string(),
        (None, None) => String::new(),
    };
    if run.attempts > 1 {
        named += &format!(" [attempt {}]", run.attempts);
    }
    format!(
        "{:<24}{:<27}{:<12}{:<20}{named}{expected}",
        run.flaw.unwrap_or("(isolated)"),
        run.fault,
        result,
        format!("{} {}", run.window, run.rate),
    )
}

/// Why a run is not right, for the log.
pub fn details(run: &Run) -> Vec<String> {
    if run.is_right() {
        return Vec::new();
    }
    let last: Vec<String> = match (&run.finding, &run.refused) {
        (Some(finding), _) => finding.reasons.iter().take(4).cloned().collect(),
        (None, Some(why)) => why.lines().map(str::to_owned).collect(),
        (None, None) => Vec::new(),
    };
    let before = run
        .before
        .iter()
        .map(|why| format!("an attempt before: {why}"));
    before.chain(last).collect()
}

pub fn write(report: &Report<'_>, file: &Path) -> Result<(), String> {
    let text = serde_json::to_string_pretty(report).map_err(|cause| cause.to_string())?;
    std::fs::write(file, text + "\n").map_err(|cause| format!("{}: {cause}", file.display()))
}
