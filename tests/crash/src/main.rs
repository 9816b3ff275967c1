//! `crash`: kills the agent or its guardian at system calls, and looks what is left.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Parser, Subcommand};

use crash::conductor;
use crash::inside;
use crash::outside;
use crash::point::{Cleaner, Point, When};
use crash::report::{Outcome, Report};
use crash::scene;
use crash::work::Work;

const RESIDUE: u8 = 4;
const FAILED: u8 = 70;

/// Kills what takes part in a fault at its system calls, lets one way of cleaning up work, and
/// compares the machine with what it was before (needs root).
///
/// Exit codes: 0 nothing is left anywhere, 4 residue, 64 usage, 70 something could not be tried.
#[derive(Debug, Parser)]
#[command(
    name = "crash",
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    /// So many points, drawn by the seed from all scenes and ways
    #[arg(long, value_name = "POINTS", conflicts_with_all = ["all", "call"])]
    sample: Option<NonZeroUsize>,
    /// Every point
    #[arg(long, conflicts_with = "call")]
    all: bool,
    /// This system call alone, counted from 1
    #[arg(long, value_name = "N", requires = "scene", requires = "cleaner")]
    call: Option<u32>,
    #[arg(long, value_enum, default_value = "before")]
    when: When,
    /// Who cleans up, and so who is killed
    #[arg(long, value_enum)]
    cleaner: Option<Cleaner>,
    /// With restart or revert: the guardian dies at this call of its take-over
    #[arg(long, value_name = "M")]
    take_over: Option<u32>,
    /// Only these scenes
    #[arg(long)]
    scene: Vec<String>,
    /// Else the time
    #[arg(long)]
    seed: Option<u64>,
    /// The program to kill; else the one beside this program
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Count system calls with this program, and meet the points with the other
    #[arg(long, value_name = "FILE")]
    counted_by: Option<PathBuf>,
    /// Worlds at the same time; each waits most of its time
    #[arg(long, default_value = "4")]
    jobs: NonZeroUsize,
    /// End at the first residue
    #[arg(long)]
    until_residue: bool,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Kills the conductor of a real drill on a lab, in place of what its agents do
    Conductor(conductor::Options),
    /// Says what this node's network is
    #[command(hide = true)]
    Look,
    /// In the namespaces of a world
    #[command(hide = true)]
    Inside(inside::Options),
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let outcome = match &options.part {
        Some(Part::Inside(inside)) => inside::run(inside).map(|()| Outcome::Clean),
        Some(Part::Look) => conductor::look().map(|()| Outcome::Clean),
        Some(Part::Conductor(asked)) => conductor::run(asked, asked.seed.unwrap_or_else(now)),
        None => run(&options),
    };
    match outcome {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Residue) => ExitCode::from(RESIDUE),
        Ok(Outcome::Failed) => ExitCode::from(FAILED),
        Err(why) => {
            eprintln!("crash: {why}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(options: &Options) -> Result<Outcome, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root: namespaces, control groups, mounts".to_owned());
    }
    outside::sweep();
    let own = std::env::current_exe().map_err(|cause| cause.to_string())?;
    let agent = match &options.agent {
        Some(agent) => agent.clone(),
        None => own.with_file_name("cellwall-agent"),
    };
    let agent = agent
        .canonicalize()
        .map_err(|cause| format!("{}: {cause}", agent.display()))?;
    let seed = options.seed.unwrap_or_else(now);
    let scenes: Vec<String> = match options.scene.is_empty() {
        true => scene::SCENES.iter().map(|&name| name.to_owned()).collect(),
        false => options.scene.clone(),
    };
    let report = Report::new(format!("{} --agent {}", own.display(), agent.display()));
    if options.call.is_none() {
        report.note(&format!("seed {seed}, agent {}", agent.display()));
    }
    let counted_by = options.counted_by.as_ref().map(|agent| {
        agent
            .canonicalize()
            .map_err(|cause| format!("--counted-by: {cause}"))
    });
    let counted_by = counted_by.transpose()?;
    let sample = options.sample.map(NonZeroUsize::get);
    let work = Work {
        agent: &agent,
        counted_by: counted_by.as_deref(),
        seed,
        sample: sample.map(|points| shares(points, &scenes)),
        until_residue: options.until_residue,
        report: &report,
    };
    match options.call {
        Some(call) => {
            for scene in &scenes {
                work.meet_all(scene, vec![asked(options, scene, call)?]);
            }
        }
        None => work.play(scenes, options.jobs.get()),
    }
    Ok(report.end())
}

fn asked(options: &Options, scene: &str, call: u32) -> Result<Point, String> {
    Ok(Point {
        scene: scene.to_owned(),
        call,
        when: options.when,
        cleaner: options.cleaner.ok_or("--cleaner is missing")?,
        take_over: options.take_over,
    })
}

/// Seconds; a seed that is another one each time.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |now| now.as_secs())
}

/// How many points of a sample each scene gets: the same for all, rounded up.
fn shares(points: usize, scenes: &[String]) -> usize {
    points.div_ceil(scenes.len().max(1))
}
