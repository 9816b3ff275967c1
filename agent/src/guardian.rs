//! The guardian: a second process that ends a drill when the agent can no longer do it.
//!
//! It is the agent's child in a session of its own, and outlives it. It undoes nothing while the agent
//! can act: a dead agent's drill it reverts; an agent that is still at it a second past the deadline, past
//! the end of its lease, or past a halt, it kills first. It holds none of the agent's sockets (all are
//! close-on-exec).
//!
//! A guardian that someone stops (SIGSTOP) is not missed: the agent's own ways out hold, and behind
//! them the next start and `revert --all`, as if there were none.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::boottime::Boottime;
use crate::changes::Hands;
use crate::halt::Halt;
use crate::journal;
use crate::kernel::hierarchies::{self, Stay};
use crate::kernel::process::{ProcessHandle, set_oom_score};
use crate::kernel::procfs;
use crate::revert::{Ahead, take_over_behind};

mod home;
mod lease;
pub use home::{Home, Protection};
use lease::{Heard, Told};

const READY_PATIENCE: Duration = Duration::from_secs(3);
/// How long past the deadline, its lease, or a halt, a living agent may still be at it.
const GRACE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(200);
/// How long a killed agent may take to end before that is told, and how often it is told again.
const DYING: Duration = Duration::from_secs(1);
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// An agent that lives but never journals gave up arming.
const NO_JOURNAL_PATIENCE: Duration = Duration::from_secs(60);
/// OOM_SCORE_ADJ_MIN of linux/oom.h: the kernel takes any other process.
const OOM_NEVER: i32 = -1000;
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// The longest time from one try of a revert to the next.
pub const TRIED_EVERY: Duration = Duration::from_secs(10);
/// How often a revert is tried at least that did not come out clean.
const ATTEMPTS: u32 = 20;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[arg(long, required_unless_present = "trial")]
    pub journal: Option<PathBuf>,
    #[arg(long, required_unless_present = "trial")]
    pub agent_pid: Option<u32>,
    /// Control groups to live in, one for each hierarchy
    #[arg(long = "cgroup", value_name = "DIR")]
    pub groups: Vec<PathBuf>,
    /// Only says how it would be protected
    #[arg(long)]
    pub trial: bool,
}

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
    lease: Told,
}

impl Guardian {
    /// Starts one and waits until it watches this process. It must exist before any permit does.
    pub async fn start(journal: &Path, home: &Home) -> Result<Self, Error> {
        let (lease, heard) = Told::new().map_err(Error::Start)?;
        let mut child = Command::new("/proc/self/exe")
            .arg("guardian")
            .arg("--journal")
            .arg(journal)
            .arg("--agent-pid")
            .arg(std::process::id().to_string())
            .args(home.arguments())
            .stdin(heard)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::Start)?;
        let pipe = child.stdout.take().map(BufReader::new);
        let mut line = String::new();
        let ready = async {
            match pipe {
                Some(mut pipe) => pipe.read_line(&mut line).await.is_ok(),
                None => false,
            }
        };
        let ready = tokio::time::timeout(READY_PATIENCE, ready)
            .await
            .unwrap_or(false);
        match Protection::read(&line).filter(|_| ready) {
            Some(protection) => {
                protection.log();
                Ok(Self { child, lease })
            }
            None => {
                // Only of a dead guardian can the group be removed.
                let _ = child.kill().await;
                home.tidy();
                Err(Error::NotReady)
            }
        }
    }

    /// When the lease ends now, unless it is renewed: the guardian ends a drill whose agent lets that pass.
    pub fn tell_lease(&self, ends: Boottime) {
        if let Err(error) = self.lease.tell(ends) {
            tracing::warn!(%error, "the guardian knows of no renewal, and may end the drill at the lease");
        }
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
pub fn run(options: &Options) -> Result<(), String> {
    detach()?;
    let (_stays, protection) = protect(&options.groups);
    let (Some(journal), Some(agent_pid), false) =
        (&options.journal, options.agent_pid, options.trial)
    else {
        return protection.say();
    };
    let agent = watch_agent(agent_pid)?;
    let state = journal.parent().and_then(Path::parent);
    let mut hands = Hands::closed(state);
    let lease = Heard::of(std::io::stdin().as_fd()).map_err(|error| format!("stdin: {error}"))?;
    protection.say()?;
    let mut journal = Seen::of(journal);
    let ward = Ward {
        agent,
        pid: agent_pid,
        lease,
    };
    let mut ahead = Ahead::default();
    let Some(cause) = ward.until_over(&mut journal, &mut hands, &mut ahead) else {
        return Ok(());
    };
    let place = journal.place();
    if !place.exists() {
        if let Some(directory) = place.parent() {
            journal::sweep(directory);
        }
        return Ok(()); // it died before it had altered anything
    }
    revert(&mut journal, &mut hands, &cause, &ahead)
}

/// The agent that is watched, and what it lets its guardian know.
struct Ward {
    /// None: it is dead already.
    agent: Option<ProcessHandle>,
    pid: u32,
    lease: Heard,
}

impl Ward {
    /// Comes back when the guardian must end the drill, with the cause; none if there is nothing to end.
    fn until_over(
        &self,
        journal: &mut Seen,
        hands: &mut Hands,
        ahead: &mut Ahead,
    ) -> Option<String> {
        let started = Boottime::now();
        let halt = Halt::beside(&journal.path);
        let mut halted: Option<Boottime> = None; // since when the file was seen
        // As it was last read: a look may fail, and the drill ends all the same.
        let mut over_by: Option<Boottime> = None;
        loop {
            if self.agent.as_ref().is_none_or(has_ended) {
                return Some("guardian: the agent died".to_owned());
            }
            // Asked before it is read: whoever lets go of it closes it first.
            let let_go = journal::is_free(&journal.place());
            let contents = journal::read(&journal.place()).ok();
            if contents.as_ref().is_some_and(|contents| contents.closed) {
                return None;
            }
            if let_go
                && contents
                    .as_ref()
                    .is_some_and(|contents| contents.armed.is_some())
            {
                return Some("guardian: the agent has left it open".to_owned());
            }
            halted = match halt.file_is_there() {
                true => halted.or_else(|| Some(Boottime::now())),
                false => None,
            };
            let past = |instant: Boottime| instant.plus(GRACE).passed();
            over_by = contents.and_then(|contents| contents.over_by()).or(over_by);
            let limit = match over_by {
                Some(over_by) if past(over_by) => "the deadline",
                Some(_) if self.lease.ends().is_some_and(past) => "the end of its lease",
                Some(_) if halted.is_some_and(past) => "a halt",
                None if started.plus(NO_JOURNAL_PATIENCE).passed() => return None,
                _ => continue,
            };
            tracing::warn!("the agent is still at it past {limit}: killing it");
            if let Some(agent) = &self.agent {
                end(agent, self.pid, || {
                    walk_ahead(ahead, &journal.place(), hands)
                });
            }
            return Some(format!("guardian: the agent hung past {limit}"));
        }
    }
}

/// The journal where it should be, or, when it was taken away from there, as it was opened before: what
/// it says is owed all the same.
struct Seen {
    path: PathBuf,
    held: Option<File>,
}

impl Seen {
    fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            held: None,
        }
    }

    fn is_gone(&self) -> bool {
        !self.path.exists()
    }

    fn place(&mut self) -> PathBuf {
        let gone = self.is_gone();
        if !gone && self.held.is_none() {
            let opened = journal::open_regular(&self.path, OpenOptions::new().read(true));
            self.held = opened.ok();
        }
        match &self.held {
            Some(held) if gone => PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())),
            _ => self.path.clone(),
        }
    }
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

/// Waits a little for that. A look that fails says nothing, and must not end a guardian.
fn has_ended(agent: &ProcessHandle) -> bool {
    agent.ended_within(POLL).unwrap_or_else(|error| {
        tracing::error!(%error, "cannot see whether the agent has ended");
        std::thread::sleep(POLL);
        false
    })
}

/// Kills the agent and waits for its end. Until then the journal's lock is its own; if that takes long, `ahead`
/// does what can be done without it.
///
/// A killed process never runs again, whatever keeps it: each of its threads has the signal pending, and ends
/// before it would return from the kernel. What one of them has asked of the kernel already may still be done:
/// what could not bear that waits ([`Ahead`]), and the revert after its end finds the rest.
fn end(agent: &ProcessHandle, pid: u32, mut ahead: impl FnMut()) {
    let mut tell = Boottime::now().plus(DYING);
    loop {
        if let Err(error) = agent.kill() {
            tracing::error!(%error, "the agent cannot be killed: it is tried again");
        }
        if has_ended(agent) {
            return;
        }
        if tell.passed() {
            tracing::error!("{}", undying(pid));
            ahead();
            tell = Boottime::now().plus(TOLD_AGAIN);
        }
    }
}

fn undying(pid: u32) -> String {
    let state = procfs::stat(pid).ok().flatten();
    let state = state.map_or('?', |stat| stat.state);
    let why = match hierarchies::frozen_in(pid) {
        Some(group) => format!(
            "it is frozen in {0}; write THAWED to {0}/freezer.state",
            group.display()
        ),
        None => "the kernel waits for something, as a disk, on its behalf".to_owned(),
    };
    format!(
        "agent {pid} was killed but does not end (state {state}): {why}. Until it ends it holds the \
         lock of its journal and its tables, which let everything pass once their time is over; what else \
         it owes is undone now, but for files and filled disks, which wait for its end"
    )
}

fn walk_ahead(ahead: &mut Ahead, journal: &Path, hands: &mut Hands) {
    match ahead.walk(journal, hands) {
        Ok(failed) if failed.is_empty() => tracing::info!("undone ahead of the agent's end"),
        Ok(failed) => tracing::error!(?failed, "not all is undone ahead of the agent's end"),
        Err(error) => tracing::error!(%error, "nothing is undone ahead of the agent's end"),
    }
}

/// Away from what may befall the agent, as far as it goes here.
fn protect(groups: &[PathBuf]) -> (Vec<Stay>, Protection) {
    let mut stays = Vec::new();
    let mut missing = Vec::new();
    for group in groups {
        match Stay::enter(group) {
            Ok(stay) => stays.push(stay),
            Err(cause) => missing.push(format!("{}: {cause}", group.display())),
        }
    }
    let cgroup = match (groups.is_empty(), missing.is_empty()) {
        (true, _) => Some(
            "it lives in the agent's own: give the agent --guardian-cgroup, or let systemd run it \
             with DelegateSubgroup=agent"
                .to_owned(),
        ),
        (false, false) => Some(missing.join("; ")),
        (false, true) => None,
    };
    let oom = set_oom_score(OOM_NEVER).err();
    let oom = oom.map(|cause| format!("oom_score_adj {OOM_NEVER}: {cause}"));
    (stays, Protection { cgroup, oom })
}

/// As long as an undo is owed: what stands in its way may go away at any time, and nobody else may be there to try
/// again. Whoever moves the journal away, for some minutes at least, has ended its drill by hand. A journal that
/// cannot be read or closed is left to the next start.
fn revert(journal: &mut Seen, hands: &mut Hands, cause: &str, ahead: &Ahead) -> Result<(), String> {
    let (mut told, mut owed, mut gone_for) = (String::new(), false, 0);
    for attempt in 1_u32.. {
        let place = journal.place();
        gone_for = if journal.is_gone() { gone_for + 1 } else { 0 };
        let left = match take_over_behind(&place, LOCK_PATIENCE, hands, cause, ahead) {
            Ok(None) => return Ok(()), // the next agent was quicker
            Ok(Some(outcome)) if outcome.clean() => return Ok(()),
            Ok(Some(outcome)) => {
                owed = outcome.owed;
                outcome.residue().join("; ")
            }
            Err(_) if !place.exists() => return Ok(()), // put away by the next agent
            Err(error) => error.to_string(),            // what is owed is as before
        };
        let tried = if owed { gone_for } else { attempt };
        if tried >= ATTEMPTS {
            return Err(left);
        }
        if left != told {
            tracing::error!(%left, "not all is undone yet: it is tried again until it is");
            told = left;
        }
        std::thread::sleep((POLL * attempt).min(TRIED_EVERY));
    }
    Ok(())
}
