//! Processes that stand still or are killed: the freezer of a control group, or signals.
//!
//! A stopped process (SIGSTOP) is seen by its parent, which is told by SIGCHLD: a shell takes the
//! terminal back, a supervisor may restart it. The freezer tells nobody.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use scenarios::change::{ProcessAct, ProcessChange, Processes};
use serde::{Deserialize, Serialize};

use super::{Error, Hands, Place, Reversible};
use crate::journal::Permit;
use crate::kernel::cgroups::Folder;
use crate::kernel::nft::Gate;
use crate::kernel::process::ProcessHandle;
use crate::kernel::procfs::{self, Pinned};

/// How long a process may take to stop, to go on or to end after it was told.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_micros(200);
const NEXT: &str = "look at it with `ps`, then run `cellwall-agent revert --all`";

/// Whom the change meets. A killed process has no way back; its record says what was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Undo {
    Stopped(Vec<Pinned>),
    Frozen(Freezer),
    Killed(Vec<Pinned>),
}

/// The freezer of a control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freezer {
    group: Folder,
    v2: bool,
}

impl Reversible for ProcessChange {
    type Undo = Undo;

    fn capture(&self, _: &mut Hands, _: &Place) -> Result<Undo, Error> {
        let capture = |cause: io::Error| Error::Capture {
            what: format!("look at what would be changed ({})", self.summary()),
            cause: cause.into(),
        };
        let refuse = |why: String| Error::Refused {
            what: self.summary(),
            why,
        };
        let (pids, group) = match &self.processes {
            Processes::Pids(pids) => (pids.clone(), None),
            Processes::Cgroup(path) => {
                let group = Folder::open(Path::new(path)).map_err(capture)?;
                (group.members().map_err(capture)?, Some(group))
            }
        };
        if let Some(why) = pids.iter().find_map(|pid| never(*pid)) {
            return Err(refuse(why));
        }
        match (self.act, group) {
            (ProcessAct::Freeze, Some(group)) => {
                let freezer = Freezer::of(group).map_err(capture)?;
                match freezer.is_frozen().map_err(capture)? {
                    true => Err(refuse("it is frozen already".to_owned())),
                    false => Ok(Undo::Frozen(freezer)),
                }
            }
            (act, _) => {
                let pinned = pin(&pids, act).map_err(refuse)?;
                Ok(match act {
                    ProcessAct::Freeze => Undo::Stopped(pinned),
                    ProcessAct::Kill => Undo::Killed(pinned),
                })
            }
        }
    }

    fn apply(&self, undo: &Undo, _: &mut Hands, _: Gate, permit: &Permit) -> Result<(), Error> {
        let act = |cause: io::Error| Error::Act {
            what: format!("have it so that {}", self.summary()),
            cause: cause.into(),
        };
        match undo {
            Undo::Frozen(freezer) => {
                // Whoever has frozen it since must not have it thawed by us.
                let looked = freezer.is_frozen().map_err(act)?;
                if looked || !freezer.group.is_there() {
                    return Err(Error::NotApplied {
                        what: self.summary(),
                        why: "the group is gone or frozen since arm".to_owned(),
                    });
                }
                freezer.set(true, permit).map_err(act)
            }
            Undo::Stopped(processes) => processes.iter().try_for_each(|process| {
                let Some(handle) = ProcessHandle::pinned(*process).map_err(act)? else {
                    return Ok(()); // it has ended
                };
                handle.stop(permit).map_err(act)?;
                until(|| all_threads(*process, |stopped| stopped)).map_err(act)
            }),
            Undo::Killed(processes) => processes.iter().try_for_each(|process| {
                let Some(handle) = ProcessHandle::pinned(*process).map_err(act)? else {
                    return Ok(());
                };
                handle.kill().map_err(act)?;
                match handle.ended_within(PATIENCE).map_err(act)? {
                    true => Ok(()),
                    false => Err(act(io::ErrorKind::TimedOut.into())),
                }
            }),
        }
    }

    fn undo(undo: &Undo, _: &mut Hands, permit: &Permit) -> Result<Vec<String>, Error> {
        let back = |what: String, cause: io::Error| Error::Back {
            what,
            cause: cause.into(),
            now: "processes may stand still".to_owned(),
            next: NEXT,
        };
        match undo {
            Undo::Frozen(freezer) => {
                let what = || format!("thaw {}", freezer.group.path().display());
                // A group that is gone had no process any more, and one of its name is another's.
                if freezer.group.is_there()
                    && freezer.is_frozen().map_err(|cause| back(what(), cause))?
                {
                    let thawed = freezer.set(false, permit);
                    thawed.map_err(|cause| back(what(), cause))?;
                }
            }
            Undo::Stopped(processes) => {
                for process in processes {
                    go_on(*process, permit).map_err(|cause| {
                        back(format!("let process {} go on", process.pid), cause)
                    })?;
                }
            }
            Undo::Killed(_) => {}
        }
        Ok(Vec::new())
    }
}

fn go_on(process: Pinned, permit: &Permit) -> io::Result<()> {
    let Some(handle) = ProcessHandle::pinned(process)? else {
        return Ok(());
    };
    let stopped = procfs::threads(process.pid)?;
    if stopped.iter().any(procfs::Stat::is_stopped) {
        handle.go_on(permit)?;
        until(|| all_threads(process, |stopped| !stopped))?;
    }
    Ok(())
}

/// Why a process is never touched: what would bring it back must not stand still itself.
fn never(pid: u32) -> Option<String> {
    if pid == 1 {
        return Some("process 1 is among them, and nothing would end its children".to_owned());
    }
    if procfs::is_ours(pid) {
        return Some(format!(
            "process {pid} is this agent or its guardian, which must be able to end the fault"
        ));
    }
    None
}

fn pin(pids: &[u32], act: ProcessAct) -> Result<Vec<Pinned>, String> {
    if pids.is_empty() {
        return Err("there is no process".to_owned());
    }
    let pin = |pid: &u32| {
        let stat = procfs::stat(*pid).map_err(|cause| format!("process {pid}: {cause}"))?;
        let stat = stat.ok_or_else(|| format!("there is no process {pid}"))?;
        if stat.is_kernel_thread {
            return Err(format!("process {pid} is the kernel's own"));
        }
        if act == ProcessAct::Freeze && stat.is_stopped() {
            return Err(format!("process {pid} is stopped already"));
        }
        Ok(Pinned {
            pid: *pid,
            started: stat.started,
        })
    };
    pids.iter().map(pin).collect()
}

/// Whether every thread is stopped, or none is; a process that has ended satisfies both.
fn all_threads(process: Pinned, wanted: impl Fn(bool) -> bool) -> io::Result<bool> {
    let same = procfs::stat(process.pid)?.filter(|stat| stat.started == process.started);
    if same.is_none_or(|stat| stat.is_dead()) {
        return Ok(true);
    }
    let threads = procfs::threads(process.pid)?;
    let alive = threads.iter().filter(|thread| !thread.is_dead());
    Ok(alive.map(procfs::Stat::is_stopped).all(wanted))
}

fn until(mut done: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let begun = Instant::now();
    while !done()? {
        if begun.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

impl Freezer {
    fn of(group: Folder) -> io::Result<Self> {
        let v2 = group.has("cgroup.freeze");
        if !v2 && !group.has("freezer.state") {
            return Err(io::Error::other(
                "the group has no freezer: of v1, name its folder in the freezer hierarchy",
            ));
        }
        Ok(Self { group, v2 })
    }

    /// Whether anything stands still in it or is about to, by its own doing or from above.
    fn is_frozen(&self) -> io::Result<bool> {
        if self.v2 {
            let events = self.group.read("cgroup.events")?;
            let frozen = events.lines().any(|line| line == "frozen 1");
            return Ok(frozen || self.group.read("cgroup.freeze")? == "1");
        }
        Ok(self.group.read("freezer.state")? != "THAWED")
    }

    /// Returns when the kernel says that it is so.
    fn set(&self, frozen: bool, permit: &Permit) -> io::Result<()> {
        let (file, value, told, word) = match (self.v2, frozen) {
            (true, true) => ("cgroup.freeze", "1", "cgroup.events", "frozen 1"),
            (true, false) => ("cgroup.freeze", "0", "cgroup.events", "frozen 0"),
            (false, true) => ("freezer.state", "FROZEN", "freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED", "freezer.state", "THAWED"),
        };
        self.group.write(file, value, permit)?;
        until(|| {
            let said = self.group.read(told)?.lines().any(|line| line == word);
            // The kernel does not count an empty group as frozen.
            let empty =
                self.v2 && frozen && self.group.read("cgroup.events")?.contains("populated 0");
            Ok(said || empty)
        })
    }
}
