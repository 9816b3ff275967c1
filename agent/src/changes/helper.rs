//! A process of the agent's own that uses something up, and whose undo is its end.
//!
//! The kernel kills it when the agent ends; whoever reverts finds it by the name in its command line.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use scenarios::change::{HelperChange, HelperWork};
use serde::{Deserialize, Serialize};

use super::{Error, Hands, OURS, Place, Reversible};
use crate::helper::READY;
use crate::journal::Permit;
use crate::kernel::nft::Gate;
use crate::kernel::process::{ProcessHandle, reap};
use crate::kernel::procfs;

const PATIENCE: Duration = Duration::from_secs(2);
/// Threads for each processor beyond which the machine would only queue.
const THREADS_EACH: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// What its command line holds.
    pub name: String,
}

impl Reversible for HelperChange {
    type Undo = Undo;

    fn capture(&self, _: &mut Hands, place: &Place) -> Result<Undo, Error> {
        let refuse = |why: String| Error::Refused {
            what: self.summary(),
            why,
        };
        match self.work {
            HelperWork::BurnCpu { threads } => {
                let processors = std::thread::available_parallelism().map_or(1, usize::from);
                let most = processors * THREADS_EACH;
                if !(1..=most).contains(&(threads as usize)) {
                    return Err(refuse(format!("there may be 1 to {most} threads here")));
                }
            }
            HelperWork::HoldMemory { bytes } => {
                let there = procfs::memory_available().map_err(|cause| Error::Capture {
                    what: "see how much memory there is".to_owned(),
                    cause: cause.into(),
                })?;
                let most = there / 10 * 9;
                if bytes > most {
                    return Err(refuse(format!("at most {most} bytes can be had now")));
                }
            }
        }
        let name = place.name();
        match living(&name).map_err(look)?.first() {
            Some(pid) => Err(refuse(format!("process {pid} bears its name {name}"))),
            None => Ok(Undo { name }),
        }
    }

    fn apply(&self, undo: &Undo, _: &mut Hands, _: Gate, _: &Permit) -> Result<(), Error> {
        let not_applied = |why: String| Error::NotApplied {
            what: self.summary(),
            why,
        };
        let (work, size) = match self.work {
            HelperWork::BurnCpu { threads } => ("burn-cpu", u64::from(threads)),
            HelperWork::HoldMemory { bytes } => ("hold-memory", bytes),
        };
        let child = Command::new("/proc/self/exe")
            .args(["helper", "--name", &undo.name])
            .args(["--parent", &std::process::id().to_string()])
            .args([work, &size.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|cause| not_applied(cause.to_string()))?;
        // It speaks when the kernel has promised to end it with us; its end would end the pipe.
        let mut word = [0];
        let heard = match child.stdout.take() {
            Some(mut pipe) => pipe.read_exact(&mut word).is_ok(),
            None => false,
        };
        if heard && word[0] == READY {
            return Ok(());
        }
        Err(Error::Act {
            what: format!("have it so that {}", self.summary()),
            cause: "the helper ended at once".into(),
        })
    }

    fn undo(undo: &Undo, _: &mut Hands, _: &Permit) -> Result<Vec<String>, Error> {
        let back = |cause: io::Error| Error::Back {
            what: format!("end the helper {}", undo.name),
            cause: cause.into(),
            now: "it may still be at work".to_owned(),
            next: "end it by its process id, then run `cellwall-agent revert --all`",
        };
        for pid in living(&undo.name).map_err(back)? {
            let Ok(handle) = ProcessHandle::open(pid) else {
                continue; // it has just ended
            };
            // The number may have changed hands between the look and the handle.
            if bears(pid, &undo.name) {
                handle.kill().map_err(back)?;
                if !handle.ended_within(PATIENCE).map_err(back)? {
                    return Err(back(io::ErrorKind::TimedOut.into()));
                }
                reap(pid);
            }
        }
        match living(&undo.name).map_err(back)?.first() {
            Some(pid) => Err(back(io::Error::other(format!("process {pid} is there")))),
            None => Ok(Vec::new()),
        }
    }

    fn may_repeat(_: &Undo) -> bool {
        true
    }
}

fn look(cause: io::Error) -> Error {
    Error::Capture {
        what: "look for helpers".to_owned(),
        cause: cause.into(),
    }
}

/// The name of a helper in a command line, if it is one of any drill.
fn name_of(pid: u32) -> Option<String> {
    let words = procfs::command_line(pid);
    let is_helper = words.get(1).is_some_and(|word| word == "helper");
    let name = words.get(3).filter(|name| name.starts_with(OURS))?;
    is_helper.then(|| name.clone())
}

fn bears(pid: u32, name: &str) -> bool {
    name_of(pid).as_deref() == Some(name)
}

/// A zombie has no command line any more, so these are alive.
fn living(name: &str) -> io::Result<Vec<u32>> {
    let pids = procfs::pids()?;
    Ok(pids.into_iter().filter(|pid| bears(*pid, name)).collect())
}

/// Every helper of any drill, in words.
pub fn seen() -> Result<Vec<String>, Error> {
    let pids = procfs::pids().map_err(look)?;
    let named = pids
        .into_iter()
        .filter_map(|pid| Some((pid, name_of(pid)?)));
    Ok(named
        .map(|(pid, name)| format!("helper {name}, process {pid}"))
        .collect())
}
