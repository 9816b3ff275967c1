//! A process of the agent's own that uses something up, and whose undo is its end.
//!
//! The kernel kills it when the agent ends; whoever reverts finds it by the name in its command line.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use scenarios::change::{HelperChange, HelperWork};
use serde::{Deserialize, Serialize};

use super::{Error, Hands, OURS, Place, Reversible};
use crate::helper::READY;
use crate::journal::Permit;
use crate::kernel::nft::Gate;
use crate::kernel::process::{ProcessHandle, readable_within};
use crate::kernel::procfs;

const PATIENCE: Duration = Duration::from_secs(2);
/// Threads for each processor beyond which the machine would only queue.
const THREADS_EACH: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// `cellwall_DRILL_STEP_INDEX`, in its command line.
    pub name: String,
    /// Also there: agents of several nodes may run on one machine, with helpers of the same name.
    pub journals: PathBuf,
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
                if !(1..=most).contains(&bytes) {
                    return Err(refuse(format!("1 to {most} bytes can be had now")));
                }
            }
        }
        let undo = Undo {
            name: place.name(),
            journals: absolute(&place.state),
        };
        match living(&undo).map_err(look)?.first() {
            Some(pid) => Err(refuse(format!(
                "process {pid} bears its name {}",
                undo.name
            ))),
            None => Ok(undo),
        }
    }

    fn apply(&self, undo: &Undo, hands: &mut Hands, _: Gate, _: &Permit) -> Result<(), Error> {
        let (work, size) = match self.work {
            HelperWork::BurnCpu { threads } => ("burn-cpu", u64::from(threads)),
            HelperWork::HoldMemory { bytes } => ("hold-memory", bytes),
        };
        let child = Command::new("/proc/self/exe")
            .args(["helper", "--name", &undo.name, "--journals"])
            .arg(&undo.journals)
            .args(["--parent", &std::process::id().to_string()])
            .args([work, &size.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|cause| Error::NotApplied {
            what: self.summary(),
            why: cause.to_string(),
        })?;
        let heard = hear(&mut child);
        hands.helpers.push(child);
        heard.map_err(|cause| Error::Act {
            what: format!("have it so that {}", self.summary()),
            cause: cause.into(),
        })
    }

    fn undo(undo: &Undo, hands: &mut Hands, _: &Permit) -> Result<Vec<String>, Error> {
        let back = |cause: io::Error| Error::Back {
            what: format!("end the helper {}", undo.name),
            cause: cause.into(),
            now: "it may still be at work".to_owned(),
            next: "end it by its process id, then run `cellwall-agent revert --all`",
        };
        for pid in living(undo).map_err(back)? {
            let Ok(handle) = ProcessHandle::open(pid) else {
                continue; // it has just ended
            };
            // The number may have changed hands between the look and the handle.
            if is_it(pid, undo) {
                handle.kill().map_err(back)?;
                if !handle.ended_within(PATIENCE).map_err(back)? {
                    return Err(back(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        // Else they would stay zombies as long as this process lives; so also what ended by itself.
        let ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
        hands.helpers.retain_mut(|child| !ended(child));
        match living(undo).map_err(back)?.first() {
            Some(pid) => Err(back(io::Error::other(format!("process {pid} is there")))),
            None => Ok(Vec::new()),
        }
    }

    fn lapsed(undo: &Undo) -> Vec<String> {
        match living(undo) {
            Ok(pids) if !pids.is_empty() => Vec::new(),
            Ok(_) => vec![format!(
                "the helper {} has ended before its time",
                undo.name
            )],
            Err(cause) => vec![format!("cannot look for the helper {}: {cause}", undo.name)],
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

/// Its first word comes when the kernel has promised to end it with us; its end would end the pipe.
fn hear(child: &mut Child) -> io::Result<()> {
    let mut word = [0];
    let mut pipe = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    if !readable_within(&pipe, PATIENCE)? {
        return Err(io::Error::other("the helper does not say that it works"));
    }
    match pipe.read_exact(&mut word) {
        Ok(()) if word[0] == READY => Ok(()),
        _ => Err(io::Error::other("the helper ended at once")),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What a command line says, if it is one of a helper of any drill and agent. A zombie has none any more.
fn of(words: &[String]) -> Option<Undo> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [
            "/proc/self/exe",
            "helper",
            "--name",
            name,
            "--journals",
            journals,
            ..,
        ] if name.starts_with(OURS) => Some(Undo {
            name: name.to_owned(),
            journals: journals.into(),
        }),
        _ => None,
    }
}

fn is_it(pid: u32, helper: &Undo) -> bool {
    of(&procfs::command_line(pid)).as_ref() == Some(helper) && procfs::is_ours(pid)
}

fn living(helper: &Undo) -> io::Result<Vec<u32>> {
    let pids = procfs::pids()?;
    Ok(pids.into_iter().filter(|pid| is_it(*pid, helper)).collect())
}

/// Every helper of any drill of this agent, in words. One of another agent, which has its journals
/// elsewhere, ends with that.
pub fn seen(hands: &Hands) -> Result<Vec<String>, Error> {
    let mine = hands.journals().map(absolute);
    let is_mine = |helper: &Undo| mine.as_ref().is_none_or(|mine| *mine == helper.journals);
    let mut words = Vec::new();
    for pid in procfs::pids().map_err(look)? {
        let helper = of(&procfs::command_line(pid)).filter(is_mine);
        if let Some(helper) = helper.filter(|_| procfs::is_ours(pid)) {
            words.push(format!("helper {}, process {pid}", helper.name));
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_a_helpers_command_line_names_one() {
        let of = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            super::of(&words).map(|helper| helper.name)
        };
        let line =
            "/proc/self/exe helper --name cellwall_d_0_1 --journals /s --parent 7 burn-cpu 1";
        assert_eq!(of(line).as_deref(), Some("cellwall_d_0_1"));
        for other in [
            line.replace("/proc/self/exe", "bash"),
            line.replace("helper", "guardian"),
            line.replace("cellwall_d_0_1", "db"),
            line.replace(" --journals /s", ""),
            String::new(),
        ] {
            assert_eq!(of(&other), None, "{other}");
        }
    }
}
