//! Processes told apart by pid and start time, so that a reused pid is never taken for ours.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process of this boot, as the host's `/proc` numbers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat` (proc(5)): clock ticks after boot.
    pub started: u64,
    /// `/proc/sys/kernel/random/boot_id`: start times begin anew with every boot.
    pub boot: String,
}

impl ProcessId {
    /// The process with this pid now.
    pub fn of(pid: i32) -> io::Result<ProcessId> {
        Ok(ProcessId {
            pid,
            started: start_time(pid)?,
            boot: boot_id()?,
        })
    }

    /// The calling process.
    pub fn own() -> io::Result<ProcessId> {
        ProcessId::of(std::process::id() as i32)
    }

    /// A handle that stays on this very process, or none if it has ended.
    pub fn open(&self) -> Option<Handle> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        let handle = Handle(pidfd);
        // The order matters: the descriptor first, then the check that it is the right process.
        let same = boot_id().ok()? == self.boot && start_time(self.pid).ok()? == self.started;
        (same && !handle.ended_within(Duration::ZERO)).then_some(handle)
    }
}

/// A pidfd.
pub struct Handle(pub OwnedFd);

impl Handle {
    /// Sends a signal; a process that has ended is no failure.
    pub fn signal(&self, signal: Signal) {
        // ESRCH is the only error left once the descriptor is open and the caller is root.
        let _ = pidfd_send_signal(&self.0, signal);
    }

    /// Waits for the end of the process. True when it has ended.
    pub fn ended_within(&self, limit: Duration) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let Ok(limit) = Timespec::try_from(limit) else {
            return false;
        };
        loop {
            match poll(&mut fds, Some(&limit)) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_string())
}

/// Field 22 of `/proc/PID/stat`; counted from the last `)`, because a command name may hold any.
fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
    // The first word after the name is field 3.
    let ticks = after_name
        .split_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok());
    ticks.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat is too short"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_while_it_lives_and_not_after() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        let handle = id.open().expect("it lives");
        assert!(!handle.ended_within(Duration::from_millis(20)));
        handle.signal(Signal::KILL);
        assert!(handle.ended_within(Duration::from_secs(5)));
        // Still a zombie here: its pid is taken, and it counts as ended all the same.
        assert!(id.open().is_none());
        child.wait().unwrap();
        assert!(id.open().is_none());
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_taken_for_it() {
        let own = ProcessId::own().unwrap();
        assert!(own.open().is_some());
        assert!(
            ProcessId {
                started: own.started + 1,
                ..own.clone()
            }
            .open()
            .is_none()
        );
        assert!(
            ProcessId {
                boot: "another".into(),
                ..own
            }
            .open()
            .is_none()
        );
    }
}
