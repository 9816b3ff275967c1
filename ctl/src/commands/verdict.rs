//! `cellwall verdict`: a history judged again, from nothing but its file.

use std::fs::File;
use std::path::Path;

use scenarios::history::{self, Header, History, ReadError, Record};
use scenarios::input::printable;
use scenarios::verdict::{Verdict, judge};
use serde::Serialize;

use crate::cli::VerdictArguments;
use crate::drill::report;
use crate::failure::Failure;
use crate::output;

/// Names of a history that are longer are cut.
const WORD_MOST: usize = 200;

/// What `--json` gives out.
#[derive(Serialize)]
struct Judged {
    drill: String,
    outcome: String,
    exit_code: u8,
    /// The history ends within a line.
    torn: bool,
    /// Outcome that the history itself records; absent if it was never judged.
    recorded: Option<String>,
    verdict: Verdict,
}

/// The exit code is the outcome's, as if the drill had just ended.
pub fn run(arguments: &VerdictArguments) -> Result<u8, Failure> {
    let history = read(&arguments.history)?;
    let verdict = judge(&history.records);
    let Some(Record::Header(header)) = history.records.first() else {
        // The reader takes no file whose first line is another record.
        return Err(Failure::Refused {
            why: "the history has no header".to_owned(),
        });
    };
    say(header, &history, &verdict);
    let judged = Judged {
        drill: header.drill.clone(),
        outcome: report::outcome_word(verdict.outcome).to_owned(),
        exit_code: verdict.outcome.exit_code(),
        torn: history.torn,
        recorded: recorded(&history.records)
            .map(|was| report::outcome_word(was.outcome).to_owned()),
        verdict,
    };
    output::write_json(&arguments.json, &judged)?;
    Ok(judged.exit_code)
}

/// A whole history file.
pub fn read(path: &Path) -> Result<History, Failure> {
    let failed = |error| Failure::Unreadable {
        path: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(failed)?;
    history::read(file, &path.display().to_string()).map_err(|error| match error {
        ReadError::Io(error) => failed(error),
        ReadError::Input(error) => error.into(),
    })
}

fn say(header: &Header, history: &History, verdict: &Verdict) {
    output::say(&format!(
        "drill {} of {}, recorded by cellwall {}; alpha {}, margin {}",
        printable(&header.drill, WORD_MOST),
        printable(&header.started, WORD_MOST),
        printable(&header.cellwall, WORD_MOST),
        header.judgement.alpha,
        header.judgement.margin
    ));
    if history.torn {
        output::say("the history ends within a line, which is left out");
    }
    output::say("");
    output::say(&report::verdict_text(verdict, &header.streams));
    match recorded(&history.records) {
        None => output::say("the history records no verdict of its own"),
        Some(was) if was.outcome == verdict.outcome => {}
        Some(was) => output::say(&format!(
            "the history records another outcome: {}",
            report::outcome_word(was.outcome)
        )),
    }
}

fn recorded(records: &[Record]) -> Option<&Verdict> {
    records.iter().rev().find_map(|record| match record {
        Record::Verdict(verdict) => Some(verdict.as_ref()),
        _ => None,
    })
}
