//! `cellwall matrix SCENARIO...`: each cloud in turn is the target; who falls with whom.

use std::path::{Path, PathBuf};

use scenarios::history::{AlarmCause, Judgement, Phase, Record};
use scenarios::scenario::TargetSelector;
use scenarios::verdict::matrix::{Asked, Matrix, Run};
use scenarios::verdict::{Outcome, Verdict};
use serde::Serialize;

use super::verdict;
use crate::agents::Identities;
use crate::cli::{By, MatrixArguments, ScenarioArguments};
use crate::commands::{plan, run};
use crate::drill::prepare::{ALPHA, Prepared, prepare_for};
use crate::failure::Failure;
use crate::matrix;
use crate::output;
use crate::place::{self, Reach};

/// One drill of the table.
struct Drill {
    scenario: String,
    target: String,
    history: PathBuf,
    done: Option<(Vec<Record>, Verdict)>,
}

/// What `--json` gives out.
#[derive(Serialize)]
struct Report<'a> {
    outcome: &'static str,
    exit_code: u8,
    /// Where the histories are.
    directory: &'a Path,
    matrix: &'a Matrix,
}

/// The exit code is that of the worst drill; a table with a hole is no pass.
pub fn run(arguments: &MatrixArguments) -> Result<u8, Failure> {
    let place = place::find(&arguments.fleet, Reach::Live)?;
    let targets: Vec<String> = match arguments.by {
        By::Cloud => {
            let clouds = place.fleet.cells.values().map(|cell| cell.cloud.clone());
            clouds
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect()
        }
        By::Cell => place.fleet.cells.keys().cloned().collect(),
    };
    let identities = Identities::read(&place.fleet, &place.file, "nothing was altered")?;
    let mut drills = Vec::new();
    for scenario in &arguments.scenarios {
        for target in &targets {
            drills.push(look(arguments, scenario, target)?);
        }
    }
    let mut asked_for_consent = place.lab.is_some() || arguments.yes;
    for drill in &mut drills {
        if drill.done.is_some() {
            let (scenario, target) = (&drill.scenario, &drill.target);
            output::say(&format!("{scenario} on {target} was run already"));
            continue;
        }
        let prepared = prepared(arguments, &drill.scenario, &drill.target)?;
        plan::refuse_if_too_short(&prepared)?;
        if !asked_for_consent {
            run::consent(&prepared)?;
            asked_for_consent = true;
        }
        let outcome = run::once(prepared, &identities, drill.history.clone())?;
        drill.done = Some(judged(&drill.history)?);
        if let Some(why) = stops(outcome) {
            output::say(why);
            break;
        }
    }
    tell(arguments, &drills)
}

/// Why no further drill is begun.
fn stops(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Residue => Some("something of ours is left: no further drill is begun"),
        Outcome::Aborted => Some("the drill was aborted: run the same command again to go on"),
        _ => None,
    }
}

fn prepared(
    arguments: &MatrixArguments,
    scenario: &str,
    target: &str,
) -> Result<Prepared, Failure> {
    let scenario = ScenarioArguments {
        scenario: scenario.to_owned(),
        size: arguments.size,
    };
    let target = match arguments.by {
        By::Cloud => TargetSelector::Cloud(target.to_owned()),
        By::Cell => TargetSelector::Cells(vec![target.to_owned()]),
    };
    prepare_for(&scenario, &arguments.fleet, Reach::Live, Some(target))
}

/// The drill as a former run of this command left it. One that did not come to a verdict is put
/// aside and run again.
fn look(arguments: &MatrixArguments, scenario: &str, target: &str) -> Result<Drill, Failure> {
    let prepared = prepared(arguments, scenario, target)?;
    let name = format!("{}--{target}.jsonl", prepared.scenario.name);
    let history = arguments.directory.join(name);
    let mut drill = Drill {
        scenario: scenario.to_owned(),
        target: target.to_owned(),
        history,
        done: None,
    };
    match drill.history.metadata() {
        Err(_) => return Ok(drill),
        // Killed between the file and its first record.
        Ok(file) if file.len() == 0 => {
            put_aside(&drill.history)?;
            return Ok(drill);
        }
        Ok(_) => {}
    }
    let (records, verdict) = judged(&drill.history)?;
    let header = records.first().and_then(|record| match record {
        Record::Header(header) => Some(header),
        _ => None,
    });
    let same = header.is_some_and(|header| {
        header.plan == prepared.plan
            && header.streams == prepared.streams
            && same_claims(&header.judgement, prepared.judgement(0))
    });
    if !same {
        return Err(Failure::Refused {
            why: format!(
                "{} is the history of another drill; choose another --directory",
                drill.history.display()
            ),
        });
    }
    let ended = |record: &Record| matches!(record, Record::Phase(mark) if mark.phase == Phase::End);
    // Run again, it would cost the users as much once more.
    let too_dear =
        |record: &Record| matches!(record, Record::Alarm(alarm) if alarm.cause == AlarmCause::Harm);
    let counts = match verdict.outcome {
        Outcome::Residue => false,
        Outcome::Aborted => records.iter().any(too_dear),
        _ => true,
    };
    if counts && records.iter().any(ended) {
        drill.done = Some((records, verdict));
        return Ok(drill);
    }
    put_aside(&drill.history)?;
    Ok(drill)
}

/// All but the guard time, of which the clocks of the agents are a part.
fn same_claims(one: &Judgement, mut other: Judgement) -> bool {
    other.guard_ms = one.guard_ms;
    *one == other
}

/// A history is never written over.
fn put_aside(history: &Path) -> Result<(), Failure> {
    let free = (1..).map(|number| history.with_extension(format!("unfinished-{number}.jsonl")));
    let free = free.take(10_000).find(|path| !path.exists());
    let moved = match free {
        Some(free) => std::fs::rename(history, free),
        None => Err(std::io::ErrorKind::AlreadyExists.into()),
    };
    moved.map_err(|error| Failure::HistoryNotBegun {
        path: history.to_owned(),
        error,
    })
}

fn judged(history: &Path) -> Result<(Vec<Record>, Verdict), Failure> {
    let history = verdict::read(history)?;
    let verdict = scenarios::verdict::judge(&history.records);
    Ok((history.records, verdict))
}

fn tell(arguments: &MatrixArguments, drills: &[Drill]) -> Result<u8, Failure> {
    let asked: Vec<Asked<'_>> = drills
        .iter()
        .map(|drill| Asked {
            fault: &drill.scenario,
            target: &drill.target,
            run: drill
                .done
                .as_ref()
                .map(|(records, verdict)| Run { records, verdict }),
        })
        .collect();
    let table = Matrix::of(&asked, ALPHA);
    let outcome = table.outcome();
    output::say("");
    output::say(matrix::text(&table).trim_end());
    output::say("");
    output::say(crate::drill::report::outcome_word(outcome));
    if let Some(path) = &arguments.svg {
        let written = std::fs::write(path, matrix::svg(&table));
        written.map_err(|error| Failure::ResultNotWritten {
            path: path.clone(),
            error,
        })?;
    }
    let report = Report {
        outcome: crate::drill::report::outcome_word(outcome),
        exit_code: outcome.exit_code(),
        directory: &arguments.directory,
        matrix: &table,
    };
    output::write_json(&arguments.json, &report)?;
    Ok(report.exit_code)
}
