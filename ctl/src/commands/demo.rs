//! `cellwall demo`: lab up, one drill with short windows, lab down, whatever happens between.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::process::{Child, Command};

use crate::cli::DemoArguments;
use crate::drill::scene::Signals;
use crate::failure::Failure;
use crate::labs;
use crate::output;

/// The lab of the demo has a name of its own, so that it never meets a lab that is in use.
const LAB: &str = "demo";
const SCENARIO: &str = "black-hole-cloud";

/// What the drill looks at, and how long and how often it looks.
struct Stage {
    kind: &'static str,
    cells: &'static str,
    window: &'static str,
    rate: &'static str,
}

const PLAIN: Stage = Stage {
    kind: "plain",
    cells: "cells of plain hosts",
    window: "30s",
    rate: "50/s",
};

/// Three clusters and a faster prober take more than the two processors of a small machine.
const KUBERNETES: Stage = Stage {
    kind: "kubernetes",
    cells: "real Kubernetes clusters, one for each cloud",
    window: "50s",
    rate: "20/s",
};

#[derive(Serialize)]
struct Report {
    exit_code: u8,
    up_seconds: f64,
    drill_seconds: f64,
    down_seconds: f64,
    /// The drill's own report; null if it ended without one.
    drill: serde_json::Value,
}

/// Exits as the drill did.
pub fn run(arguments: &DemoArguments) -> Result<u8, Failure> {
    let stage = if arguments.plain { &PLAIN } else { &KUBERNETES };
    output::say(&format!(
        "a lab of {}, {SCENARIO} with {} windows at {}",
        stage.cells, stage.window, stage.rate
    ));
    let report = super::block_on(demo(stage, arguments.flaw.as_deref()))?;
    output::say(&format!(
        "up {:.1} s, drill {:.1} s, down {:.1} s; exit code {}",
        report.up_seconds, report.drill_seconds, report.down_seconds, report.exit_code
    ));
    output::write_json(&arguments.json, &report)?;
    Ok(report.exit_code)
}

async fn demo(stage: &Stage, flaw: Option<&str>) -> Result<Report, Failure> {
    let mut signals = Signals::catch().map_err(Failure::Runtime)?;
    let folder = tempfile::tempdir().map_err(Failure::Runtime)?;
    hand_over(folder.path()).map_err(Failure::Runtime)?;
    let lab = labs::binary();
    let mut up = vec!["up", "--name", LAB, "--kind", stage.kind];
    if let Some(flaw) = flaw {
        up.extend(["--flaw", flaw]);
    }
    let (status, up_seconds) = step(&lab, &up, &mut signals).await?;
    if !status.success() {
        return Err(Failure::Lab {
            what: "up".to_string(),
            why: status.to_string(),
            code: code_of(status),
        });
    }
    let json = folder.path().join("report.json");
    let drill = drill(stage, &json, &mut signals).await;
    let (down, down_seconds) = step(&lab, &["down", "--name", LAB], &mut signals).await?;
    let (status, drill_seconds) = drill?;
    if !down.success() {
        return Err(Failure::Lab {
            what: "down".to_string(),
            why: down.to_string(),
            code: code_of(down),
        });
    }
    let exit_code = code_of(status);
    let drill = std::fs::read(&json)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    let drill = drill.unwrap_or(serde_json::Value::Null);
    Ok(Report {
        exit_code,
        up_seconds,
        drill_seconds,
        down_seconds,
        drill,
    })
}

async fn drill(
    stage: &Stage,
    json: &Path,
    signals: &mut Signals,
) -> Result<(ExitStatus, f64), Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::LabBinary {
        binary: PathBuf::from("cellwall"),
        error,
    })?;
    let json = json.display().to_string();
    let sizes = ["--window", stage.window, "--rate", stage.rate];
    let run = [
        &["run", SCENARIO, "--lab", LAB, "--json", &json],
        &sizes[..],
    ]
    .concat();
    step(&own, &run, signals).await
}

/// Under sudo the drill runs as the caller, who must be able to write its report here.
fn hand_over(folder: &Path) -> std::io::Result<()> {
    let id = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match (id("SUDO_UID"), id("SUDO_GID")) {
        (Some(user), Some(group)) => std::os::unix::fs::chown(folder, Some(user), Some(group)),
        _ => Ok(()),
    }
}

/// A program that was killed has no code of its own.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(70)
}

/// Runs one program to its end. A signal to the demo is passed on, and then still waited for:
/// the drill reverts first and the lab is taken down after it.
async fn step(
    program: &Path,
    arguments: &[&str],
    signals: &mut Signals,
) -> Result<(ExitStatus, f64), Failure> {
    let failed = |error| Failure::LabBinary {
        binary: program.to_path_buf(),
        error,
    };
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(output::lines_of_child())
        .spawn()
        .map_err(failed)?;
    loop {
        tokio::select! {
            status = child.wait() => {
                return Ok((status.map_err(failed)?, begun.elapsed().as_secs_f64()));
            }
            why = signals.next() => {
                // From a terminal the child has had the signal too; give it time to say so.
                tokio::time::sleep(Duration::from_millis(100)).await;
                output::say(&format!("{why}: waiting for {}", program.display()));
                if why != "Ctrl-C" {
                    pass_on(&child);
                }
            }
        }
    }
}

fn pass_on(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended in this instant; then there is nothing to pass on.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}
