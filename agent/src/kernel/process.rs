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

/// Takes the exit status of a child that has ended, so that no zombie is left; nothing of another's.
pub fn reap(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    let flags = nix::sys::wait::WaitPidFlag::WNOHANG;
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), Some(flags));
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
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
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

    /// A handle on exactly this process; none if it has ended, whoever has its number now.
    pub fn pinned(process: Pinned) -> io::Result<Option<Self>> {
        let handle = match Self::open(process.pid) {
            Ok(handle) => handle,
            Err(cause) if cause.raw_os_error() == Some(Errno::ESRCH as i32) => return Ok(None),
            Err(cause) => return Err(cause),
        };
        // The number cannot have changed hands after the handle was opened.
        let same = procfs::stat(process.pid)?.is_some_and(|stat| stat.started == process.started);
        Ok(same.then_some(handle))
    }
}
