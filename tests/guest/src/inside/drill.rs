//! A drill of this node alone, run by the real agent.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::time::{ClockId, clock_gettime};
use scenarios::change::Change;

const AGENT: &str = "/bin/cellwall-agent";
/// What the agent logs; read when something went wrong.
const LOG: &str = "/run/agent.log";
/// Nobody renews it, so it is longer than any fault here.
const LEASE: &str = "60m";

/// Ends with this value, as hard as can be.
pub struct Drill {
    child: Child,
    stdout: BufReader<ChildStdout>,
    state: PathBuf,
}

/// How a program ended, and all that it said.
pub struct Ended {
    pub code: Option<i32>,
    pub text: String,
}

impl Drill {
    pub fn start(state: &Path, changes: &[Change], lasts_ms: u64) -> Result<Self, String> {
        let list = Path::new("/run/changes.json");
        let text = serde_json::to_string(changes).map_err(|cause| cause.to_string())?;
        fs::write(list, text).map_err(|cause| format!("{}: {cause}", list.display()))?;
        let failed = |cause: std::io::Error| format!("{AGENT} change: {cause}");
        let mut child = Command::new(AGENT)
            .args([
                "change",
                "--drill",
                &unused_name(),
                "--lease",
                LEASE,
                "--state-dir",
            ])
            .arg(state)
            .args(["--duration", &format!("{lasts_ms}ms")])
            .arg(list)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(LOG).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take().ok_or("the agent has no output")?;
        Ok(Self {
            child,
            stdout: BufReader::new(stdout),
            state: state.to_owned(),
        })
    }

    /// Waits until it says that its changes are in force.
    pub fn in_force(self) -> Result<Self, String> {
        self.says("in force")
    }

    /// Waits for a line.
    pub fn says(mut self, word: &str) -> Result<Self, String> {
        let mut line = String::new();
        while line.trim_end() != word {
            line.clear();
            let read = self.stdout.read_line(&mut line);
            if read.map_err(|cause| cause.to_string())? == 0 {
                return Err(format!(
                    "the agent has not said {word:?}: {}",
                    self.ends()?.text
                ));
            }
        }
        Ok(self)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The only child of the agent.
    pub fn guardian(&self) -> Result<u32, String> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let text = fs::read_to_string(&path).map_err(|cause| format!("{path}: {cause}"))?;
        let pid = text.split_whitespace().next();
        pid.and_then(|pid| pid.parse().ok())
            .ok_or_else(|| format!("the agent's children are {text:?}"))
    }

    pub fn kill(&mut self) -> Result<(), String> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|cause| cause.to_string())
    }

    pub fn ends(mut self) -> Result<Ended, String> {
        let mut text = String::new();
        let read = self.stdout.read_to_string(&mut text);
        read.map_err(|cause| cause.to_string())?;
        let status = self.child.wait().map_err(|cause| cause.to_string())?;
        text += &fs::read_to_string(LOG).unwrap_or_default();
        Ok(Ended {
            code: status.code(),
            text,
        })
    }

    /// Waits until the guardian has closed the journal of an agent that is dead.
    pub fn closed_by_guardian(&self) -> Result<(), String> {
        for _ in 0..2_000 {
            if reverted(&self.state)?.text.contains("nothing") {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Err("the guardian has not closed the journal within 20 s".to_owned())
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A drill's id is used once, also across boots and jumps of the wall clock.
fn unused_name() -> String {
    let (wall, boot) = (
        clock_gettime(ClockId::Realtime),
        clock_gettime(ClockId::Boottime),
    );
    format!("d{}-{}-{}", wall.tv_sec, boot.tv_sec, boot.tv_nsec)
}

/// `revert --all`, as the boot unit of deploy/ calls it.
pub fn reverted(state: &Path) -> Result<Ended, String> {
    let output = Command::new(AGENT)
        .args(["revert", "--all", "--state-dir"])
        .arg(state)
        .output()
        .map_err(|cause| format!("{AGENT} revert: {cause}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Ended {
        code: output.status.code(),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}
