//! What the agent does to its own process and, as the guardian, to a hung agent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal};

use super::procfs::{self, Pinned};
use crate::journal::Permit;

/// Ends with its parent, whatever ends that. The parent may be gone already: look after this.
pub fn end_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(
        Signal::KILL,
    ))?)
}

/// How soon the kernel ends this process when memory runs out, -1000 (never) to 1000 (first). Less than
/// it was needs CAP_SYS_RESOURCE (proc_pid_oom_score_adj(5)).
pub fn set_oom_score(score: i32) -> io::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    std::fs::write(FILE, score.to_string())?;
    match std::fs::read_to_string(FILE)?.trim() == score.to_string() {
        true => Ok(()),
        false => Err(io::Error::other("the kernel did not take it")),
    }
}

/// Whether something can be read (or the writer is gone) within `patience`.
pub fn readable_within(pipe: impl AsFd, patience: Duration) -> io::Result<bool> {
    let timeout = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(&pipe, PollFlags::IN)];
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A core dump of a large process takes seconds, in which its sockets, and with them its tables,
/// stay alive. So there is none.
pub fn forbid_core_dumps() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(rustix::process::setrlimit(Resource::Core, none)?)
}

/// A handle on one process that can never come to mean another one.
pub struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a process id"))?;
        Ok(Self(rustix::process::pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Whether the process has ended; waits up to `patience` for it.
    pub fn ended_within(&self, patience: Duration) -> io::Result<bool> {
        readable_within(&self.0, patience)
    }

    pub fn kill(&self) -> io::Result<()> {
        self.send(Signal::KILL)
    }

    /// SIGSTOP: no thread of it runs any more, and its parent is told so (SIGCHLD).
    pub fn stop(&self, _: &Permit) -> io::Result<()> {
        self.send(Signal::STOP)
    }

    /// SIGCONT.
    pub fn go_on(&self, _: &Permit) -> io::Result<()> {
        self.send(Signal::CONT)
    }

    /// A process that has ended takes any signal.
    fn send(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(self.0.as_fd(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A handle on exactly this process; none if it has ended, whoever has its number now, or if its number
    /// is one of another PID namespace.
    pub fn pinned(process: Pinned) -> io::Result<Option<Self>> {
        if let Some(namespace) = process.namespace
            && procfs::pid_namespace()? != namespace
        {
            return Ok(None);
        }
        let handle = match Self::open(process.pid) {
            Ok(handle) => handle,
            Err(cause) if is_gone(&cause) => return Ok(None),
            Err(cause) => return Err(cause),
        };
        // The number cannot have changed hands after the handle was opened.
        let same = procfs::stat(process.pid)?.is_some_and(|stat| stat.started == process.started);
        Ok(same.then_some(handle))
    }
}

/// pidfd_open(2) of a number that no process has: ESRCH. If another process has given it to one of its
/// threads since: EINVAL, since Linux 6.16 ENOENT.
fn is_gone(cause: &io::Error) -> bool {
    let gone = [Errno::ESRCH, Errno::EINVAL, Errno::ENOENT];
    let told = cause.raw_os_error();
    gone.iter().any(|errno| told == Some(*errno as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_of_the_same_number_is_not_meant() {
        let me = std::process::id();
        let started = procfs::stat(me).unwrap().unwrap().started;
        let namespace = None;
        let pinned = |pid, started| {
            let process = Pinned {
                pid,
                started,
                namespace,
            };
            ProcessHandle::pinned(process).unwrap()
        };
        assert!(pinned(me, started).is_some());
        assert!(pinned(me, started + 1).is_none(), "another start time");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(pinned(child.id(), started).is_none(), "no such process");
        std::thread::spawn(move || {
            let thread = u32::try_from(nix::unistd::gettid().as_raw()).unwrap();
            let started = procfs::stat(thread).unwrap().unwrap().started;
            let pinned = ProcessHandle::pinned(Pinned {
                pid: thread,
                started,
                namespace: None,
            })
            .unwrap();
            assert!(pinned.is_none(), "a thread has the number");
        })
        .join()
        .unwrap();
    }
}
