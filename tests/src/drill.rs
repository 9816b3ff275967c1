//! Drills run by the real binary, and their results.

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use scenarios::history::{Ledger, Phase, Record, Residue};
use scenarios::verdict::{Row, Verdict};
use tempfile::TempDir;

use crate::cellwall;
use crate::lab::{Lab, words};
use crate::traffic::until;

/// A drill that ended by itself.
pub struct Drill {
    pub exit_code: i32,
    pub text: String,
    pub verdict: Verdict,
    pub records: Vec<Record>,
}

/// A drill under way; killed with -9 if the test ends before it does.
pub struct Running {
    pub child: Child,
    folder: TempDir,
}

/// How long a drill looks, and how small a damage it must be able to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub window: &'static str,
    pub rate: &'static str,
    /// `isolatedWithin`, in place of the library's 2 %.
    pub margin: &'static str,
}

pub const fn size(window: &'static str, rate: &'static str, margin: &'static str) -> Size {
    Size {
        window,
        rate,
        margin,
    }
}

/// What the library's scenarios promise, in the shortest windows that show it on plain hosts.
pub const WHOLE: Size = size("26s", "40/s", "2%");

/// For a damage that is far beyond the margin.
pub const COARSE: Size = size("7s", "50/s", "5%");

/// For tests that end the fault themselves as soon as it bites.
pub const BRIEF: Size = size("9s", "50/s", "5%");

/// For tests that must tell a lease, a gate or an abort from the deadline.
pub const LONG: Size = size("14s", "50/s", "5%");

/// For drills with several probers on one machine, and a damage that is far beyond the margin.
pub const GENTLE: Size = size("12s", "20/s", "5%");

/// What the library's scenarios promise, on clusters; their APIs are asked at the fleet's own rate.
/// Faster, three clusters and their prober take more than the two processors of a small machine.
pub const WHOLE_CLUSTERS: Size = size("50s", "20/s", "2%");

/// For a damage on clusters that is far beyond the margin.
pub const COARSE_CLUSTERS: Size = size("20s", "20/s", "5%");

/// Runs a drill to its end.
///
/// # Errors
/// What the drill said if it was refused.
pub fn try_run(lab: &Lab, scenario: &str, size: &Size) -> Result<Drill, String> {
    start(lab, scenario, size).end()
}

/// Starts a drill and returns at once.
pub fn start(lab: &Lab, scenario: &str, size: &Size) -> Running {
    start_text(lab, library(scenario), size, Stdio::piped())
}

/// The text of one of the library's scenarios.
pub fn library(scenario: &str) -> &'static str {
    scenarios::library::get(scenario).unwrap_or_else(|| panic!("the library has no {scenario}"))
}

/// Starts a drill of a text, with a standard output of the caller's.
pub fn start_text(lab: &Lab, text: &str, size: &Size, stdout: Stdio) -> Running {
    let folder = tempfile::tempdir().expect("a temporary folder");
    hand_over(folder.path());
    let scenario = folder.path().join("scenario.yaml");
    let margin = "isolatedWithin: 2%";
    assert!(text.contains(margin), "{text}");
    let text = text.replace(margin, &format!("isolatedWithin: {}", size.margin));
    std::fs::write(&scenario, text).expect("a scenario file");
    let child = cellwall()
        .arg("run")
        .arg(&scenario)
        .args(["--lab", &lab.name])
        .args(["--window", size.window, "--rate", size.rate])
        .arg("--history")
        .arg(folder.path().join("history.jsonl"))
        .arg("--json")
        .arg(folder.path().join("report.json"))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("cellwall runs");
    Running { child, folder }
}

/// Under sudo a drill on a lab runs as the caller, who must be able to write here.
fn hand_over(folder: &Path) {
    let id = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        std::os::unix::fs::chown(folder, Some(user), Some(group)).expect("root may hand it over");
    }
}

/// Runs a command to its end without any expectation.
pub fn cli(arguments: &[&str]) -> Output {
    cellwall()
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("cellwall runs")
}

impl Running {
    pub fn history(&self) -> PathBuf {
        self.folder.path().join("history.jsonl")
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    /// Waits until the fault is in force.
    /// The mark is written up to a second before T; agents act at T.
    pub fn until_fired(&self) {
        self.until_fire_is_marked();
        std::thread::sleep(Duration::from_millis(2000));
    }

    /// Waits until all agents have said that they will fire, which is before they do.
    pub fn until_fire_is_marked(&self) {
        until("fire", Duration::from_secs(120), || {
            let records = read_records(&self.history());
            let ended = records.iter().find_map(|record| match record {
                Record::Interrupted(interrupted) => Some(&interrupted.why),
                _ => None,
            });
            assert_eq!(ended, None, "the drill ended before it fired");
            let fired = |record: &Record| matches!(record, Record::Phase(mark) if mark.phase == Phase::Fire);
            records.iter().any(fired)
        });
    }

    /// The drill's id, from the head of its history.
    pub fn drill_id(&self) -> String {
        let records = read_records(&self.history());
        let header = records.iter().find_map(|record| match record {
            Record::Header(header) => Some(header.drill.clone()),
            _ => None,
        });
        header.expect("a history begins with its header")
    }

    pub fn finish(self) -> Drill {
        self.end().unwrap_or_else(|why| panic!("{why}"))
    }

    /// Waits for the end of a drill, which may have been refused; then what was said is the error.
    pub fn end(mut self) -> Result<Drill, String> {
        let stdout = self.child.stdout.take();
        let stderr = self.child.stderr.take();
        let status = self.child.wait().expect("the drill ends");
        let text = read_all(stdout) + &read_all(stderr);
        let records = read_records(&self.history());
        let verdict = records.iter().rev().find_map(|record| match record {
            Record::Verdict(verdict) => Some(verdict.as_ref().clone()),
            _ => None,
        });
        let verdict = verdict.ok_or_else(|| format!("no verdict: {status}\n{text}"))?;
        let exit_code = status.code().unwrap_or(-1);
        self.assert_judged_alike(exit_code, &verdict);
        Ok(Drill {
            exit_code,
            text,
            verdict,
            records,
        })
    }
}

impl Running {
    /// The history alone must lead to the same verdict again.
    fn assert_judged_alike(&self, exit_code: i32, verdict: &Verdict) {
        let history = self.history().display().to_string();
        let again = cli(&["verdict", &history, "--json", "-"]);
        assert_eq!(again.status.code(), Some(exit_code), "judged again");
        let judged: serde_json::Value =
            serde_json::from_slice(&again.stdout).expect("the verdict is JSON");
        let judged: Verdict =
            serde_json::from_value(judged["verdict"].clone()).expect("it holds the verdict");
        assert_eq!(&judged, verdict, "judged again");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, or ended now: either way it does not outlive the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl AsRef<Drill> for Drill {
    fn as_ref(&self) -> &Drill {
        self
    }
}

impl Drill {
    /// All rows of a stream.
    pub fn rows(&self, stream: &str) -> Vec<&Row> {
        self.verdict
            .rows
            .iter()
            .filter(|row| row.stream == stream)
            .collect()
    }

    pub fn ledgers(&self) -> Vec<&Ledger> {
        let mut ledgers = Vec::new();
        for record in &self.records {
            if let Record::Ledger(ledger) = record {
                ledgers.push(ledger);
            }
        }
        ledgers
    }

    pub fn residue(&self) -> Vec<&Residue> {
        let mut residues = Vec::new();
        for record in &self.records {
            if let Record::Residue(residue) = record {
                residues.push(residue);
            }
        }
        residues
    }

    pub fn assert_exit(&self, code: i32) {
        assert_eq!(
            self.exit_code, code,
            "{:?}\n{}",
            self.verdict.reasons, self.text
        );
    }

    /// Some reason holds all of these words.
    pub fn assert_reason(&self, words: &[&str]) {
        let found = self
            .verdict
            .reasons
            .iter()
            .any(|r| words.iter().all(|word| r.contains(word)));
        assert!(
            found,
            "no reason holds {words:?}: {:#?}",
            self.verdict.reasons
        );
    }
}

/// The records of a history that may still be growing: a torn last line is left out.
pub fn read_records(path: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn read_all(pipe: Option<impl std::io::Read>) -> String {
    let mut text = String::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_string(&mut text);
    }
    text
}

/// What a failed command said must hold these words.
pub fn assert_says(output: &Output, code: i32, wanted: &[&str]) {
    let text = words(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in wanted {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}
