//! The conductor of a real drill on a lab is killed at its n-th system call, and every node compared.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::wait::WaitStatus;

use crate::choose::Dice;
use crate::inventory::Inventory;
use crate::point::When;
use crate::program;
use crate::report::Outcome;
use crate::trace::{Ended, Met, Tracee};

const AGENT: &str = "cellwall-agent";
/// The shortest windows that the planner takes at a rate that a traced prober holds on a busy machine:
/// each of its system calls stops twice. A drill whose prober is late ends before it fires.
const SIZE: &[&str] = &["--window", "20s", "--rate", "20/s"];
const MARGIN: (&str, &str) = ("isolatedWithin: 2%", "isolatedWithin: 5%");
const SCENARIO: &str = "black-hole-cloud";
/// A traced drill takes twice as long as one alone.
const DRILL_PATIENCE: Duration = Duration::from_secs(180);
/// The lease is 5 s, and agents need a moment each. Less than the window, so that a deadline is not
/// taken for a lease.
const CLEAN_PATIENCE: Duration = Duration::from_secs(8);
/// Exit codes of `cellwall run` from this one on are residue, usage, or a failure of its own.
const LEFT_SOMETHING: i32 = 4;
const LOOK: Duration = Duration::from_millis(100);
/// Marks of the history between which as many points are met each.
const MARKS: &[&str] = &["before", "fire", "reverted", "end"];

#[derive(Debug, clap::Args)]
pub struct Options {
    /// So many points, spread over the parts of a drill
    #[arg(long, default_value = "8")]
    pub sample: NonZeroUsize,
    /// This system call alone, counted from 1
    #[arg(long, value_name = "N")]
    pub call: Option<u32>,
    /// Else the time
    #[arg(long)]
    pub seed: Option<u64>,
    /// The agents' program; else the one beside this program
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
}

/// What has become of the points.
#[derive(Default)]
struct Tally {
    met: usize,
    missed: usize,
    residue: usize,
}

/// Meets all points one after the other.
pub fn run(options: &Options, seed: u64) -> Result<Outcome, String> {
    let lab = Lab::up(options.agent.as_deref())?;
    let drill = Drill::prepare(&lab)?;
    let before = lab.inventories()?;
    let points = match options.call {
        Some(call) => vec![(call, When::Before)],
        None => {
            let parts = drill.counted()?;
            println!(
                "seed {seed}; system calls of the conductor up to each mark: {}",
                told(&parts)
            );
            sample(&parts, options.sample.get(), seed)
        }
    };
    let left = differences(&before, &lab.inventories()?);
    if !left.is_empty() {
        return Err(format!("the undisturbed drill has left something: {left}"));
    }
    let (mut tally, begun) = (Tally::default(), Instant::now());
    for (call, when) in &points {
        let met = drill.killed_at(*call, *when)?;
        match &met {
            Some(_) => tally.met += 1,
            None => tally.missed += 1,
        }
        let met = met.unwrap_or_else(|| "it had ended before".to_owned());
        let took = lab.until_clean();
        let left = differences(&before, &lab.inventories()?);
        let outcome = match (&took, left.is_empty()) {
            (Ok(took), true) => format!("clean after {:.1} s", took.as_secs_f64()),
            (Ok(_), false) => format!("RESIDUE: {left}"),
            (Err(why), _) => format!("RESIDUE: {why}: {left}"),
        };
        let when = format!("{when:?}").to_lowercase();
        println!("killed {when} call {call} ({met}): {outcome}");
        if took.is_err() || !left.is_empty() {
            tally.residue += 1;
        }
    }
    let seconds = begun.elapsed().as_secs();
    let Tally {
        met,
        missed,
        residue,
    } = tally;
    println!(
        "{met} points of the conductor in {seconds} s; residue: {residue}; not met, for it had ended before: \
         {missed}"
    );
    Ok(match residue {
        0 if met < missed.max(1) => Outcome::Failed, // too few to prove anything
        0 => Outcome::Clean,
        _ => Outcome::Residue,
    })
}

fn told(parts: &[(String, u32)]) -> String {
    let each = parts.iter().map(|(mark, calls)| format!("{mark} {calls}"));
    each.collect::<Vec<_>>().join(", ")
}

/// As many from each part, at an equal share of it each.
fn sample(parts: &[(String, u32)], points: usize, seed: u64) -> Vec<(u32, When)> {
    let mut dice = Dice::of(seed, "conductor");
    let mut chosen = Vec::new();
    let mut from = 1;
    for (number, (_, to)) in parts.iter().enumerate() {
        let share = (points + number) / parts.len();
        for part in 0..share as u32 {
            let edge = |part: u32| from + (to - from) / share as u32 * part;
            let when = [When::Before, When::After][usize::from(dice.within(0, 1) == 1)];
            chosen.push((dice.within(edge(part), edge(part + 1)), when));
        }
        from = *to;
    }
    chosen
}

/// The built program beside this one.
fn beside(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|cause| cause.to_string())?;
    Ok(own.with_file_name(name))
}

/// The folder of this program, with another agent in it.
fn programs_with(agent: &Path) -> Result<tempfile::TempDir, String> {
    let attempt = || {
        let folder = tempfile::tempdir()?;
        let link =
            |from: &Path, name: &str| std::os::unix::fs::symlink(from, folder.path().join(name));
        for entry in fs::read_dir(std::env::current_exe()?.with_file_name(""))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_file() && name != AGENT {
                link(&entry.path(), &name)?;
            }
        }
        link(&agent.canonicalize()?, AGENT)?;
        Ok(folder)
    };
    attempt().map_err(|cause: std::io::Error| format!("{}: {cause}", agent.display()))
}

/// Two cells of plain hosts; they are taken down with this value.
struct Lab {
    name: String,
    nodes: Vec<String>,
    _programs: Option<tempfile::TempDir>,
}

impl Lab {
    fn up(agent: Option<&Path>) -> Result<Self, String> {
        let name = format!("crash-{}", std::process::id());
        let programs = agent.map(programs_with).transpose()?;
        let place = programs
            .as_ref()
            .map(|folder| folder.path().display().to_string());
        let mut lab = Self {
            name,
            nodes: Vec::new(),
            _programs: programs,
        };
        let up = "lab up --kind plain --cells 2 --name";
        let mut words: Vec<&str> = up.split(' ').chain([lab.name.as_str()]).collect();
        words.extend(place.iter().flat_map(|place| ["--bin-dir", place]));
        lab.cellwall(&words)?;
        let text = lab.cellwall(&["lab", "status", "--name", &lab.name])?;
        let agents = text.lines().filter(|line| line.contains(" agent "));
        lab.nodes = agents
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect();
        match lab.nodes.is_empty() {
            true => Err(format!("the lab has no agents: {text}")),
            false => Ok(lab),
        }
    }

    fn cellwall(&self, words: &[&str]) -> Result<String, String> {
        program::run(&beside("cellwall")?.display().to_string(), words, "")
    }

    fn status(&self) -> Result<String, String> {
        self.cellwall(&["status", "--lab", &self.name])
    }

    /// How many agents have a drill in hand.
    fn held(&self) -> Result<usize, String> {
        let text = self.status()?;
        let held = text.lines().filter(|line| {
            let state = line.split_whitespace().nth(2);
            matches!(state, Some("armed" | "firing"))
        });
        Ok(held.count())
    }

    fn until_clean(&self) -> Result<Duration, String> {
        let begun = Instant::now();
        loop {
            let held = self.held();
            if held == Ok(0) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > CLEAN_PATIENCE {
                let seconds = CLEAN_PATIENCE.as_secs();
                return Err(format!(
                    "after {seconds} s {held:?} agents have a drill in hand"
                ));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn inventories(&self) -> Result<Vec<(String, Inventory)>, String> {
        let own = beside("crash")?.display().to_string();
        let look = |node: &String| {
            let words = ["lab", "exec", "--lab", &self.name, node, "--", &own, "look"];
            let text = self.cellwall(&words)?;
            let seen = serde_json::from_str(&text).map_err(|cause| format!("{node}: {cause}"))?;
            Ok((node.clone(), seen))
        };
        self.nodes.iter().map(look).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(why) = self.cellwall(&["lab", "down", "--name", &self.name]) {
            eprintln!("crash: {why}");
        }
    }
}

/// What `crash look` says: the network of the node that it runs on.
pub fn look() -> Result<(), String> {
    // Not by /sys, which shows the devices of the namespace in which it was mounted.
    let links = nix::net::if_::if_nameindex().map_err(|cause| cause.to_string())?;
    let names: Vec<String> = links
        .iter()
        .map(|link| link.name().to_string_lossy().into_owned())
        .collect();
    let devices: Vec<&str> = names.iter().map(String::as_str).collect();
    let seen = Inventory::of_network(&devices)?;
    println!(
        "{}",
        serde_json::to_string(&seen).map_err(|cause| cause.to_string())?
    );
    Ok(())
}

fn differences(before: &[(String, Inventory)], now: &[(String, Inventory)]) -> String {
    let mut text = String::new();
    for ((node, before), (_, now)) in before.iter().zip(now) {
        for (section, difference) in before.differences(now) {
            text += &format!("\n{node} {section:?}:\n{difference}");
        }
    }
    text
}

/// The real command, its scenario and its history.
struct Drill {
    folder: tempfile::TempDir,
    lab: String,
}

impl Drill {
    fn prepare(lab: &Lab) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|cause| cause.to_string())?;
        let text = scenarios::library::get(SCENARIO).ok_or("the library lacks the scenario")?;
        let text = text.replace(MARGIN.0, MARGIN.1);
        let path = folder.path().join("scenario.yaml");
        fs::write(&path, text).map_err(|cause| format!("{}: {cause}", path.display()))?;
        Ok(Self {
            folder,
            lab: lab.name.clone(),
        })
    }

    fn history(&self) -> PathBuf {
        self.folder.path().join("history.jsonl")
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("output.txt")
    }

    /// What the command has printed.
    fn said(&self) -> String {
        fs::read_to_string(self.output()).unwrap_or_default()
    }

    fn start(&self) -> Result<Tracee, String> {
        let _ = fs::remove_file(self.history());
        let output = fs::File::create(self.output()).map_err(|cause| cause.to_string())?;
        let errors = output.try_clone().map_err(|cause| cause.to_string())?;
        let mut command: Command = Tracee::command(&beside("cellwall")?);
        command
            .arg("run")
            .arg(self.folder.path().join("scenario.yaml"))
            .args(["--lab", &self.lab])
            .args(SIZE)
            .arg("--history")
            .arg(self.history())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let mut tracee = Tracee::start(&mut command, false)?;
        tracee.patience = DRILL_PATIENCE;
        Ok(tracee)
    }

    /// How many system calls an undisturbed drill has made at each mark of its history.
    fn counted(&self) -> Result<Vec<(String, u32)>, String> {
        let mut tracee = self.start()?;
        let (calls, over) = (AtomicU32::new(0), AtomicBool::new(false));
        let history = self.history();
        let (met, mut parts) = std::thread::scope(|scope| {
            let marks = scope.spawn(|| watch(&history, &calls, &over));
            let met = tracee.run(None, &mut Ended::default(), &mut |call, _| {
                calls.store(call, Ordering::Relaxed);
            });
            over.store(true, Ordering::Relaxed);
            (met, marks.join())
        });
        match met? {
            // Traced it may be too slow for a pass.
            Met::Ended(WaitStatus::Exited(_, code)) if code < LEFT_SOMETHING => {}
            other => return Err(format!("the undisturbed drill: {other:?}: {}", self.said())),
        }
        let parts = parts.as_mut().map_err(|_| "the watcher panicked")?;
        match parts.len() == MARKS.len() {
            true => Ok(std::mem::take(parts)),
            false => Err(format!(
                "the undisturbed drill came no further than {}: {}",
                told(parts),
                self.said()
            )),
        }
    }

    /// Where in the drill it was; none if it has ended before that call.
    fn killed_at(&self, call: u32, when: When) -> Result<Option<String>, String> {
        let mut ended = Ended::default();
        let mut tracee = self.start()?;
        let met = tracee.run(Some((call, when)), &mut ended, &mut |_, _| {})?;
        match met {
            Met::Call => tracee.kill(&mut ended)?,
            // Calls are not the same in number each time.
            Met::Ended(_) => return Ok(None),
        }
        let marks = marks(&self.history());
        Ok(Some(match marks.last() {
            Some(last) => format!("after the mark {last:?}"),
            None => "before the first mark".to_owned(),
        }))
    }
}

fn watch(history: &Path, calls: &AtomicU32, over: &AtomicBool) -> Vec<(String, u32)> {
    let mut parts: Vec<(String, u32)> = Vec::new();
    loop {
        let last = over.load(Ordering::Relaxed);
        for mark in marks(history).into_iter().skip(parts.len()) {
            parts.push((mark, calls.load(Ordering::Relaxed)));
        }
        if last {
            return parts;
        }
        std::thread::sleep(LOOK);
    }
}

/// Those of [`MARKS`] that the history has.
fn marks(history: &Path) -> Vec<String> {
    let text = fs::read_to_string(history).unwrap_or_default();
    let has = |mark: &&&str| text.contains(&format!("\"phase\":\"{mark}\""));
    MARKS
        .iter()
        .filter(has)
        .map(|mark| (*mark).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_points_in_every_part() {
        let parts: Vec<(String, u32)> = MARKS
            .iter()
            .zip([1_000, 5_000, 90_000, 91_000])
            .map(|(mark, calls)| ((*mark).to_owned(), calls))
            .collect();
        let chosen = sample(&parts, 10, 3);
        assert_eq!(chosen.len(), 10);
        let mut from = 1;
        for (mark, to) in &parts {
            let within = chosen
                .iter()
                .filter(|(call, _)| (from..=*to).contains(call));
            assert!(within.count() >= 2, "{mark}: {chosen:?}");
            from = *to;
        }
        assert_eq!(chosen, sample(&parts, 10, 3));
        assert_ne!(chosen, sample(&parts, 10, 4));
    }

    #[test]
    fn a_difference_names_its_node() {
        let seen = |line: &str| {
            let text = format!("{{\"Nft\":[{line:?}]}}");
            vec![("n1".to_owned(), serde_json::from_str(&text).unwrap())]
        };
        let told = differences(&seen("a"), &seen("b"));
        assert!(told.contains("n1 Nft") && told.contains("+ b"), "{told}");
        assert_eq!(differences(&seen("a"), &seen("a")), "");
    }
}
