//! `cellwall run SCENARIO`: one drill, from plan to verdict.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use scenarios::verdict::{Outcome, Verdict};
use serde::Serialize;
use wire::{Claim, State};

use crate::agents::{self, Agent, Identities};
use crate::cli::RunArguments;
use crate::commands::plan;
use crate::drill::conduct::Conduct;
use crate::drill::hands;
use crate::drill::prepare::{Prepared, prepare};
use crate::drill::report;
use crate::drill::scene::Signals;
use crate::drill::vantages::Vantages;
use crate::failure::Failure;
use crate::kubernetes;
use crate::output;
use crate::place::Reach;
use crate::recorder::Recorder;

/// Above this bound on the clock offset windows of a few seconds mean nothing (verdict.md 6).
const SKEW_MAX: Duration = Duration::from_millis(250);

#[derive(Serialize)]
struct Report {
    drill: String,
    outcome: String,
    exit_code: u8,
    history: PathBuf,
    seconds: f64,
    kubernetes: kubernetes::Answers,
    verdict: Verdict,
}

pub fn run(arguments: &RunArguments) -> Result<u8, Failure> {
    let prepared = prepare(&arguments.scenario, &arguments.fleet, Reach::Live)?;
    plan::refuse_if_too_short(&prepared)?;
    let identities = Identities::read(
        prepared.fleet(),
        &prepared.place.file,
        "nothing was altered",
    )?;
    if prepared.place.lab.is_none() && !arguments.yes {
        consent(&prepared)?;
    }
    let drill = drill_id(&prepared.scenario.name);
    let history = arguments
        .history
        .clone()
        .unwrap_or_else(|| history_path(&drill));
    let report = super::block_on(drill_once(prepared, &identities, drill, history))?;
    match output::write_json(&arguments.json, &report) {
        // What the drill says outranks a result that could not be written.
        Err(failure) if report.exit_code != 0 => output::complain(&failure.to_string()),
        written => written?,
    }
    Ok(report.exit_code)
}

/// One drill of several; the answer is how it came out.
pub fn once(
    prepared: Prepared,
    identities: &Identities,
    history: PathBuf,
) -> Result<Outcome, Failure> {
    let drill = drill_id(&prepared.scenario.name);
    let report = super::block_on(drill_once(prepared, identities, drill, history))?;
    Ok(report.verdict.outcome)
}

async fn drill_once(
    prepared: Prepared,
    identities: &Identities,
    drill: String,
    history: PathBuf,
) -> Result<Report, Failure> {
    let signals = Signals::catch().map_err(Failure::Runtime)?;
    let begun = tokio::time::Instant::now();
    let answers = agents::connect(prepared.fleet(), &prepared.plan.nodes(), identities).await;
    let agents = agents::all_or_refuse(answers)?;
    check_agents(&agents)?;
    plan::ask_agents(&agents, &prepared.plan).await?.refuse()?;
    output::say(&format!("drill {drill}: {}", prepared.scenario.title));
    output::say(&plan::summary(&prepared));
    let clusters = plan::ask_clusters(&prepared).await;
    if !clusters.refusals.is_empty() {
        return Err(Failure::Refused {
            why: clusters.refusals.join("; "),
        });
    }
    output::say(&format!("history {}", history.display()));
    let claim = claim(identities);
    let orders =
        hands::orders(drill.clone(), &prepared.plan, claim).map_err(|error| Failure::Refused {
            why: format!("the plan cannot be written: {error}"),
        })?;
    let vantages = Vantages::open(&prepared, &agents, identities, &drill).await?;
    let recorder = Recorder::create(&history)?;
    let streams = prepared.streams.clone();
    let conduct = Conduct::begin(prepared, &drill, &agents, vantages, recorder, signals)?;
    let (verdict, scene) = conduct.run(agents, orders).await?;
    scene.story.end();
    output::say("");
    output::say(&report::verdict_text(&verdict, &streams));
    Ok(Report {
        drill,
        outcome: report::outcome_word(verdict.outcome).to_string(),
        exit_code: verdict.outcome.exit_code(),
        history: scene.recorder().path().to_path_buf(),
        seconds: begun.elapsed().as_secs_f64(),
        kubernetes: clusters,
        verdict,
    })
}

/// Refuses agents that are busy, halted, lack a policy, or whose clock cannot be placed.
fn check_agents(agents: &[Agent]) -> Result<(), Failure> {
    let mut why = Vec::new();
    for agent in agents {
        let name = agent.name();
        let state = State::try_from(agent.status.state).unwrap_or(State::Unspecified);
        if !matches!(state, State::Idle | State::Reverted) {
            why.push(format!("{name} is busy with drill {}", agent.status.drill));
        }
        if agent.status.halted {
            why.push(format!(
                "{name} is halted ({}); `cellwall resume` ends that",
                agent.status.halt_reason
            ));
        }
        if !agent.status.residue.is_empty() {
            why.push(format!(
                "{name} holds residue: {}",
                agent.status.residue.join(", ")
            ));
        }
        if agent.skew() > SKEW_MAX {
            why.push(format!(
                "{name}: its clock is known only to {:?}",
                agent.skew()
            ));
        }
    }
    if why.is_empty() {
        Ok(())
    } else {
        Err(Failure::Refused {
            why: why.join("; "),
        })
    }
}

/// A fleet that is not a lab is named to the person before anything is touched.
pub fn consent(prepared: &Prepared) -> Result<(), Failure> {
    output::say(&plan::text(prepared));
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Refused {
            why: "this fleet is not a lab and nobody can be asked; say --yes".to_string(),
        });
    }
    let _ = write!(
        std::io::stdout(),
        "This is not a lab. Type the fleet's name to go on: "
    );
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == prepared.fleet().name {
        return Ok(());
    }
    Err(Failure::Refused {
        why: "the fleet's name was not typed".to_string(),
    })
}

fn claim(identities: &Identities) -> Claim {
    let read = |file: &str| {
        std::fs::read_to_string(file)
            .unwrap_or_default()
            .trim()
            .to_string()
    };
    Claim {
        conductor: identities.conductor.clone(),
        host: read("/proc/sys/kernel/hostname"),
        user: std::env::var("USER").unwrap_or_default(),
    }
}

/// A word that agents, files and table names accept: scenario, time, and a little chance.
fn drill_id(scenario: &str) -> String {
    let now = std::time::SystemTime::now();
    let stamp: String = humantime::format_rfc3339_seconds(now)
        .to_string()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let nanos = now
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let chance = nanos.wrapping_mul(2_654_435_761) ^ std::process::id();
    let short: String = scenario.chars().take(32).collect();
    format!(
        "{}-{stamp}-{:04x}",
        short.trim_end_matches('-'),
        chance & 0xffff
    )
}

/// `$XDG_STATE_HOME/cellwall/drills/DRILL/history.jsonl`, or under the home folder.
fn history_path(drill: &str) -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| ".".into()));
    let state = std::env::var_os("XDG_STATE_HOME")
        .map_or_else(|| home().join(".local/state"), PathBuf::from);
    state
        .join("cellwall/drills")
        .join(drill)
        .join("history.jsonl")
}
