//! Processes that stand still or are killed: the freezer of a control group, or signals.
//!
//! A stopped process (SIGSTOP) is seen by its parent, which is told by SIGCHLD: a shell takes the
//! terminal back, a supervisor may restart it. The freezer tells nobody. What waits for a disk, or
//! stands still in a v1 freezer, takes neither SIGSTOP nor SIGKILL before it goes on.

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
use crate::kernel::procfs::{self, Pinned, Whereabouts};

mod freezer;
pub use freezer::Freezer;

/// How long a process may take to stop, to go on or to end after it was told.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_micros(200);
const NEXT: &str = "look at it with `ps`, then run `cellwall-agent revert --all`";

/// Whom the change meets. What is killed has no way back; its record says what was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Undo {
    Stopped(Vec<Pinned>),
    Frozen(Freezer),
    Killed(Vec<Pinned>),
    /// Whoever is in the group when the change is made.
    Emptied(Folder),
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
        match &self.processes {
            Processes::Pids(pids) => {
                let mut pids = pids.clone();
                pids.sort_unstable();
                pids.dedup();
                let pinned = pin(&pids, self.act).map_err(refuse)?;
                Ok(match self.act {
                    ProcessAct::Freeze => Undo::Stopped(pinned),
                    ProcessAct::Kill => Undo::Killed(pinned),
                })
            }
            Processes::Cgroup(path) => {
                let group = Folder::open(Path::new(path)).map_err(capture)?;
                let members = group.members().map_err(capture)?;
                if let Some(why) = members.iter().find_map(|pid| never(*pid)) {
                    return Err(refuse(why));
                }
                if self.act == ProcessAct::Kill {
                    return match members.is_empty() {
                        true => Err(refuse("there is no process".to_owned())),
                        false => Ok(Undo::Emptied(group)),
                    };
                }
                let freezer = Freezer::of(group).map_err(capture)?;
                match freezer.is_frozen().map_err(capture)? {
                    true => Err(refuse("it is frozen already".to_owned())),
                    false => Ok(Undo::Frozen(freezer)),
                }
            }
        }
    }

    fn apply(&self, undo: &Undo, _: &mut Hands, _: Gate, permit: &Permit) -> Result<(), Error> {
        let act = |cause: io::Error| Error::Act {
            what: format!("have it so that {}", self.summary()),
            cause: cause.into(),
        };
        if let Some(why) = changed_since_arm(undo).map_err(act)? {
            return Err(Error::NotApplied {
                what: self.summary(),
                why,
            });
        }
        match undo {
            Undo::Frozen(freezer) => freezer.freeze(permit).map_err(act),
            Undo::Stopped(processes) => processes
                .iter()
                .try_for_each(|process| stop(*process, permit))
                .map_err(act),
            Undo::Killed(processes) => processes
                .iter()
                .try_for_each(|process| kill(*process))
                .map_err(act),
            Undo::Emptied(group) => empty(group, permit).map_err(act),
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
            Undo::Frozen(freezer) => freezer
                .thaw(permit)
                .map(|drifted| drifted.into_iter().collect())
                .map_err(|cause| back(format!("thaw {}", freezer.path().display()), cause)),
            Undo::Stopped(processes) => {
                let mut failed = None;
                for process in processes {
                    if let Err(cause) = go_on(*process, permit) {
                        let what = format!("let process {} go on", process.pid);
                        failed.get_or_insert_with(|| back(what, cause));
                    }
                }
                failed.map_or_else(|| Ok(Vec::new()), Err)
            }
            Undo::Killed(_) | Undo::Emptied(_) => Ok(Vec::new()),
        }
    }

    fn lapsed(undo: &Undo) -> Vec<String> {
        match undo {
            Undo::Stopped(processes) => processes
                .iter()
                .filter(|process| stands_still(**process).is_ok_and(|stands| !stands))
                .map(|process| format!("process {} has ended or went on early", process.pid))
                .collect(),
            Undo::Frozen(freezer)
                if freezer.group().is_gone()
                    || freezer.is_frozen_by_itself().is_ok_and(|frozen| !frozen) =>
            {
                let path = freezer.path().display();
                vec![format!("{path} was removed or thawed early")]
            }
            Undo::Frozen(_) | Undo::Killed(_) | Undo::Emptied(_) => Vec::new(),
        }
    }
}

/// Why it must not be done any more. Looked at for all before anything is done to one: whoever has
/// stopped or frozen something since must not have it undone by us.
fn changed_since_arm(undo: &Undo) -> io::Result<Option<String>> {
    let group = match undo {
        Undo::Stopped(processes) => {
            let mut alive = 0;
            for process in processes {
                if ProcessHandle::pinned(*process)?.is_some() {
                    alive += 1;
                    if procfs::stop_is_pending(process.pid)? || stands_still(*process)? {
                        let pid = process.pid;
                        return Ok(Some(format!("process {pid} was stopped since arm")));
                    }
                }
            }
            let none = alive == 0;
            return Ok(none.then(|| "none of them is there any more".to_owned()));
        }
        Undo::Killed(_) => return Ok(None),
        Undo::Emptied(group) => group,
        Undo::Frozen(freezer) => {
            if !freezer.group().is_gone() && freezer.is_frozen()? {
                return Ok(Some("the group was frozen since arm".to_owned()));
            }
            freezer.group()
        }
    };
    if group.is_gone() {
        return Ok(Some("the group is gone since arm".to_owned()));
    }
    Ok(group.members()?.into_iter().find_map(never))
}

fn stop(process: Pinned, permit: &Permit) -> io::Result<()> {
    let Some(handle) = ProcessHandle::pinned(process)? else {
        return Ok(()); // it has ended
    };
    handle.stop(permit)?;
    until(|| all_threads(process, |stopped| stopped))
}

fn go_on(process: Pinned, permit: &Permit) -> io::Result<()> {
    let Some(handle) = ProcessHandle::pinned(process)? else {
        return match procfs::whereabouts(process)? {
            Whereabouts::Ended => Ok(()),
            Whereabouts::Below(pid) => Err(io::Error::other(format!(
                "it is process {pid} here: the change was made in its PID namespace, and must be \
                 undone there (nsenter --target {pid} --pid --mount cellwall-agent revert --all)"
            ))),
            Whereabouts::OutOfSight(namespace) => Err(io::Error::other(format!(
                "the change was made in the PID namespace pid:[{}], which is not seen from here; it must be \
                 undone there, or, if that has ended, where every process is seen (nsenter --target 1 --pid \
                 --mount cellwall-agent revert --all on the machine itself)",
                namespace.inode
            ))),
        };
    };
    // In this order; see `stop_is_pending`.
    if procfs::stop_is_pending(process.pid)? || stands_still(process)? {
        handle.go_on(permit)?;
        until(|| {
            let pending = procfs::stop_is_pending(process.pid)?;
            Ok(!pending && all_threads(process, |stopped| !stopped)?)
        })?;
    }
    Ok(())
}

fn kill(process: Pinned) -> io::Result<()> {
    let Some(handle) = ProcessHandle::pinned(process)? else {
        return Ok(());
    };
    handle.kill()?;
    match handle.ended_within(PATIENCE)? {
        true => Ok(()),
        false => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Kills whoever is in the group, and whoever is born into it meanwhile.
fn empty(group: &Folder, permit: &Permit) -> io::Result<()> {
    let at_once = group.has("cgroup.kill");
    if at_once {
        group.write("cgroup.kill", "1", permit)?;
    }
    until(|| {
        let pids = group.members()?;
        if !at_once {
            let open = |pid: &u32| Some((*pid, ProcessHandle::open(*pid).ok()?));
            let handles: Vec<_> = pids.iter().filter_map(open).collect();
            // A number that has changed hands before its handle was opened is not in the group now.
            let still = group.members()?;
            for (_, handle) in handles.iter().filter(|(pid, _)| still.contains(pid)) {
                handle.kill()?;
            }
        }
        Ok(pids.is_empty())
    })
}

/// Why a process is never touched: what would bring it back must not stand still itself.
pub(super) fn never(pid: u32) -> Option<String> {
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
    pids.iter().map(|pid| pin_one(*pid, act)).collect()
}

fn pin_one(pid: u32, act: ProcessAct) -> Result<Pinned, String> {
    let failed = |cause: io::Error| format!("process {pid}: {cause}");
    if let Some(why) = never(pid) {
        return Err(why);
    }
    let stat = procfs::stat(pid).map_err(failed)?;
    let stat = stat.ok_or_else(|| format!("there is no process {pid}"))?;
    if let Some(process) = procfs::process_of_thread(pid).map_err(failed)? {
        return Err(format!("{pid} is a thread of process {process}"));
    }
    if stat.is_kernel_thread {
        return Err(format!("process {pid} is the kernel's own"));
    }
    if stat.is_dead() {
        return Err(format!("process {pid} has ended already"));
    }
    if act == ProcessAct::Freeze {
        if stat.is_stopped() || procfs::stop_is_pending(pid).map_err(failed)? {
            return Err(format!("process {pid} is stopped already"));
        }
        if let Some(tracer) = procfs::tracer(pid).map_err(failed)? {
            return Err(format!(
                "process {pid} is traced by {tracer}, which decides when it goes on"
            ));
        }
    }
    Ok(Pinned {
        pid,
        started: stat.started,
        namespace: Some(procfs::pid_namespace().map_err(failed)?),
    })
}

/// Whether this very process is there and one of its threads is stopped.
fn stands_still(process: Pinned) -> io::Result<bool> {
    let same = procfs::stat(process.pid)?.filter(|stat| stat.started == process.started);
    if same.is_none_or(|stat| stat.is_dead()) {
        return Ok(false);
    }
    let threads = procfs::threads(process.pid)?;
    Ok(threads.iter().any(procfs::Stat::is_stopped))
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
