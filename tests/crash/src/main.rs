//! `crash`: kills the agent or its guardian at system calls, and looks what is left.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

use clap::{Parser, Subcommand};

use crash::choose::{self, Counts};
use crash::conductor;
use crash::inside::{self, Answer, Ask};
use crash::outside::{self, Outside};
use crash::point::{Cleaner, Point, When};
use crash::report::{Outcome, Report};
use crash::scene;

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
    sample: Option<usize>,
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
    /// Scenes that are played at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
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
    let work = Work {
        agent: &agent,
        seed,
        options,
        report: &report,
        shares: shares(options.sample.unwrap_or(0), &scenes),
    };
    let queue = Mutex::new(VecDeque::from(scenes));
    let next = || queue.lock().map_or(None, |mut queue| queue.pop_front());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                while let Some(scene) = next() {
                    if let Err(why) = work.play(&scene) {
                        report.failed(&scene, &why);
                    }
                }
            });
        }
    });
    Ok(report.end())
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

struct Work<'a> {
    agent: &'a Path,
    seed: u64,
    options: &'a Options,
    report: &'a Report,
    shares: usize,
}

impl Work<'_> {
    fn over(&self) -> bool {
        self.options.until_residue && self.report.residue() > 0
    }

    fn play(&self, scene: &str) -> Result<(), String> {
        if self.over() {
            return Ok(());
        }
        let counted = self.counted_by_another(scene)?;
        let mut world = Outside::start(scene, self.agent)?;
        let points = match self.options.call {
            Some(call) => vec![self.asked(scene, call)?],
            None => match counted.map_or_else(|| world.ask(&Ask::Count), Ok)? {
                Answer::Counted(counts) => self.choose(scene, &counts),
                Answer::Met(meeting) => {
                    self.report.undisturbed(scene, &meeting);
                    return Ok(());
                }
                other => return Err(words(other)),
            },
        };
        for (number, point) in (1..).zip(&points) {
            if self.over() {
                return Ok(());
            }
            let begun = Instant::now();
            let answer = world.ask(&Ask::Meet(point.clone()));
            let meeting = match answer {
                Ok(Answer::Met(meeting)) => meeting,
                Ok(other) => return Err(format!("{}; at {point}", words(other))),
                Err(why) => return Err(format!("{why}; at {point}")),
            };
            self.report.met(point, &meeting, begun.elapsed());
            if !meeting.residue.is_empty() {
                // What was left would be found again by every later comparison.
                drop(world);
                world = Outside::start(scene, self.agent)?;
            }
            if number % 500 == 0 || number == points.len() {
                let left = self.report.residue();
                self.report.note(&format!(
                    "{scene}: {number} of {} points, residue in all scenes {left}",
                    points.len()
                ));
            }
        }
        Ok(())
    }

    /// In a world of its own, which is gone afterwards: worlds of one scene have one name.
    fn counted_by_another(&self, scene: &str) -> Result<Option<Answer>, String> {
        let Some(agent) = &self.options.counted_by else {
            return Ok(None);
        };
        let agent = agent.canonicalize();
        let agent = agent.map_err(|cause| format!("--counted-by: {cause}"))?;
        Outside::start(scene, &agent)?.ask(&Ask::Count).map(Some)
    }

    fn asked(&self, scene: &str, call: u32) -> Result<Point, String> {
        Ok(Point {
            scene: scene.to_owned(),
            call,
            when: self.options.when,
            cleaner: self.options.cleaner.ok_or("--cleaner is missing")?,
            take_over: self.options.take_over,
        })
    }

    fn choose(&self, scene: &str, counts: &Counts) -> Vec<Point> {
        self.report.note(&format!(
            "{scene}: the fault bites; system calls: agent {} (armed at {}, in force at {}), guardian {}, \
             its take-over {}",
            counts.agent.len(),
            counts.armed,
            counts.in_force,
            counts.guardian,
            counts.take_over
        ));
        match self.options.sample {
            Some(_) => choose::sample(scene, counts, self.shares, self.seed),
            None => choose::all(scene, counts, self.seed),
        }
    }
}

fn words(answer: Answer) -> String {
    match answer {
        Answer::Failed(why) => why,
        other => format!("an answer to another question: {other:?}"),
    }
}
