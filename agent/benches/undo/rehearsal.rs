//! One drill of the agent's program, without a conductor: `cellwall-agent change`.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scenarios::change::Change;

use crate::root::support::{Namespace, guardian_of};

const PATIENCE: Duration = Duration::from_secs(20);
/// Nothing that is measured waits for this.
const LOOK: Duration = Duration::from_millis(5);

pub struct Rehearsal {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
    journal: PathBuf,
    guardian: Option<Pid>,
}

impl Rehearsal {
    /// `files` keeps the state of all drills; each has another id.
    pub fn start(
        node: &Namespace,
        files: &Path,
        drill: &str,
        lease: Duration,
        change: &Change,
    ) -> Self {
        let (asked, log) = (files.join("changes.json"), files.join("log"));
        let text = serde_json::to_vec(&[change]).expect("JSON");
        std::fs::write(&asked, text).expect("the list of changes");
        let state = files.join("state");
        let journal = agent::journal::path_of(&agent::journal::directory(&state), drill);
        // It dies with the namespace's thread, so also with a bench that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(env!("CARGO_BIN_EXE_cellwall-agent"));
        command.args(["change", "--duration", "60s", "--drill", drill, "--lease"]);
        command.arg(format!("{}ms", lease.as_millis()));
        command.arg("--state-dir").arg(state).arg(asked);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(&log).expect("a log"));
        command.process_group(0); // Ctrl-C ends the bench, and this with it
        let mut child = node.run(move || command.spawn().expect("setpriv"));
        let pipe = child.stdout.take().expect("a pipe");
        Self {
            child,
            lines: BufReader::new(pipe).lines(),
            log,
            journal,
            guardian: None,
        }
    }

    /// When it said a line that begins so.
    pub fn until(&mut self, word: &str) -> Instant {
        loop {
            match self.lines.next() {
                Some(Ok(line)) if line.starts_with(word) => return Instant::now(),
                Some(Ok(_)) => {}
                _ => panic!("it never said `{word}`: {}", text(&self.log)),
            }
        }
    }

    pub fn guardian(&mut self) -> Pid {
        *self
            .guardian
            .get_or_insert_with(|| guardian_of(self.child.id()))
    }

    /// Kills it as a crash would, right after the instant that comes back.
    pub fn crash(&mut self) -> Instant {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let since = Instant::now();
        kill(pid, Signal::SIGKILL).expect("a live agent");
        since
    }

    /// Waits until it and its guardian are gone, and wants nothing left.
    pub fn end(mut self) {
        self.child.wait().expect("a child");
        let begun = Instant::now();
        while self.guardian.is_some_and(is_there) {
            let late = begun.elapsed() > PATIENCE;
            assert!(!late, "its guardian does not end: {}", text(&self.log));
            std::thread::sleep(LOOK);
        }
        let journal = text(&self.journal);
        let closed = journal.lines().last().unwrap_or_default();
        let clean = closed.contains("\"closed\"") && closed.contains("\"residue\":[]");
        assert!(clean, "it did not end well: {journal}{}", text(&self.log));
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that nobody has reaped yet is gone.
fn is_there(pid: Pid) -> bool {
    let stat = agent::kernel::procfs::stat(pid.as_raw().cast_unsigned());
    matches!(stat, Ok(Some(stat)) if stat.state != 'Z')
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
