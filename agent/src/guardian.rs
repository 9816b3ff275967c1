//! The guardian: a second process that ends a drill when the agent can no longer do it.
//!
//! It is the agent's child in a session of its own, and outlives it. It never edits a table while
//! the agent lives: a dead agent's drill it reverts; an agent that is still there a second past the
//! deadline, or past a halt, it kills first. It holds none of the agent's sockets (all are close-on-exec).

use std::io::Write;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::boottime::Boottime;
use crate::changes::Hands;
use crate::halt::Halt;
use crate::journal;
use crate::kernel::process::ProcessHandle;
use crate::revert::take_over;

const READY: u8 = b'r';
const READY_PATIENCE: Duration = Duration::from_secs(3);
/// How long past the deadline, or past a halt, a living agent may still be at it.
const GRACE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(200);
/// An agent that lives but never journals gave up arming.
const NO_JOURNAL_PATIENCE: Duration = Duration::from_secs(60);
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How often a revert that did not come out clean is tried.
const ATTEMPTS: u32 = 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot start the guardian: {0}; nothing was altered")]
    Start(std::io::Error),
    #[error("the guardian was not ready within 3 s; nothing was altered")]
    NotReady,
}

/// The agent's hold on its guardian.
pub struct Guardian {
    child: Child,
}

impl Guardian {
    /// Starts one and waits until it watches this process. It must exist before any permit does.
    pub async fn start(journal: &Path) -> Result<Self, Error> {
        let mut child = Command::new("/proc/self/exe")
            .arg("guardian")
            .arg("--journal")
            .arg(journal)
            .arg("--agent-pid")
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::Start)?;
        let mut pipe = child.stdout.take();
        let mut word = [0_u8; 1];
        let ready = async {
            match &mut pipe {
                Some(pipe) => pipe.read_exact(&mut word).await.is_ok(),
                None => false,
            }
        };
        let ready = tokio::time::timeout(READY_PATIENCE, ready)
            .await
            .unwrap_or(false);
        if ready && word[0] == READY {
            return Ok(Self { child });
        }
        let _ = child.start_kill();
        Err(Error::NotReady)
    }

    /// Comes back when the guardian is gone, which it must not be while a drill is held.
    pub async fn lost(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends a guardian of a drill that was never journaled.
    pub fn dismiss(mut self) {
        let _ = self.child.start_kill();
    }

    /// Lets it end by itself when it reads that the journal is closed; the runtime reaps it.
    pub fn release(self) {}
}

/// The guardian's whole life. An answer says what was left on the host.
pub fn run(journal: &Path, agent_pid: u32) -> Result<(), String> {
    detach()?;
    let agent = watch_agent(agent_pid)?;
    let state = journal.parent().and_then(Path::parent);
    let hands = state.map_or_else(Hands::open, Hands::of);
    let mut hands = hands.map_err(|error| error.to_string())?;
    let mut ready = std::io::stdout();
    ready
        .write_all(&[READY])
        .and_then(|()| ready.flush())
        .map_err(|error| error.to_string())?;
    let started = Boottime::now();
    let halt = Halt::beside(journal);
    let mut halted: Option<Boottime> = None; // since when the file was seen
    let cause = loop {
        let gone = match &agent {
            Some(agent) => agent
                .ended_within(POLL)
                .map_err(|error| error.to_string())?,
            None => true,
        };
        if gone {
            break "guardian: the agent died";
        }
        let contents = journal::read(journal).ok();
        if contents.as_ref().is_some_and(|contents| contents.closed) {
            return Ok(());
        }
        halted = match halt.file_is_there() {
            true => halted.or_else(|| Some(Boottime::now())),
            false => None,
        };
        let past = |instant: Boottime| instant.plus(GRACE).passed();
        match contents.and_then(|contents| contents.over_by()) {
            Some(over_by) if past(over_by) => {
                tracing::warn!("the agent is still at it past the deadline: killing it");
                agent.as_ref().map_or(Ok(()), end)?;
                break "guardian: the agent hung past the deadline";
            }
            Some(_) if halted.is_some_and(past) => {
                tracing::warn!("the agent is still at it although it is halted: killing it");
                agent.as_ref().map_or(Ok(()), end)?;
                break "guardian: halt, and the agent hung";
            }
            None if started.plus(NO_JOURNAL_PATIENCE).passed() => return Ok(()),
            _ => {}
        }
    };
    if !journal.exists() {
        return Ok(()); // it died before it had altered anything
    }
    revert(journal, &mut hands, cause)
}

/// Its own session, so that the agent's terminal or process group does not take it along; signals
/// meant for the agent do not end it either.
fn detach() -> Result<(), String> {
    nix::unistd::setsid().map_err(|error| format!("setsid: {error}"))?;
    let mut deaf = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGPIPE,
    ] {
        deaf.add(signal);
    }
    deaf.thread_block()
        .map_err(|error| format!("sigmask: {error}"))
}

/// A handle on the agent; none if it is dead already. As long as it is our parent its id cannot
/// have been given to another process.
fn watch_agent(pid: u32) -> Result<Option<ProcessHandle>, String> {
    let handle = ProcessHandle::open(pid).map_err(|error| format!("pidfd: {error}"));
    let parent = nix::unistd::getppid().as_raw();
    if u32::try_from(parent) == Ok(pid) {
        handle.map(Some)
    } else {
        Ok(None)
    }
}

fn end(agent: &ProcessHandle) -> Result<(), String> {
    loop {
        agent
            .kill()
            .map_err(|error| format!("cannot kill the agent: {error}"))?;
        if agent
            .ended_within(POLL)
            .map_err(|error| error.to_string())?
        {
            return Ok(());
        }
    }
}

fn revert(journal: &Path, hands: &mut Hands, cause: &str) -> Result<(), String> {
    let mut left = String::new();
    for _ in 0..ATTEMPTS {
        match take_over(journal, LOCK_PATIENCE, hands, cause) {
            Ok(None) => return Ok(()), // the next agent was quicker
            Ok(Some(outcome)) if outcome.clean() => return Ok(()),
            Ok(Some(outcome)) => left = outcome.residue().join("; "),
            Err(_) if !journal.exists() => return Ok(()), // never permitted anything
            Err(error) => left = error.to_string(),
        }
        std::thread::sleep(POLL);
    }
    Err(left)
}
