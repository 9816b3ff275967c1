//! The janitor: starts the holder, outlives it, and removes what the kernel does not remove.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::error::{Error, Result};
use crate::guests::Guests;
use crate::process::{Handle, ProcessId};
use crate::state::{LabDirectory, Root, Step};

/// The holder tells the janitor that its namespaces can be opened now.
pub const NAMESPACES: u8 = b'n';
/// The holder tells the janitor that `up` may go now.
pub const UP: u8 = b'u';

/// Runs until the holder has ended and nothing of the lab is left. Its standard output is the
/// pipe to `up`, which the holder inherits; it keeps its own end open, so that `up` sees the end
/// of the pipe only when all is clean.
pub fn run(root: &Root, name: &str, hold_at: Option<Step>) -> Result<()> {
    let directory = root.lab(name);
    let mut record = directory.record()?;
    record.keeper = ProcessId::own().map_err(Error::kernel("read /proc/self/stat"))?;
    directory.write_record(&record)?;

    let held = start_holder(root, name, hold_at).map(|(holder, line)| {
        let guests = watch(&holder, &line, &directory);
        (holder, guests)
    });
    let outcome = match held {
        Ok((holder, guests)) => {
            // Every process of a PID namespace is dead before its first one can be waited for.
            let waited = rustix::process::waitid(
                rustix::process::WaitId::PidFd(holder.0.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            );
            guests.end();
            waited
                .map(|_| ())
                .map_err(Error::kernel("wait for the holder"))
        }
        Err(error) => Err(error),
    };
    root.remove(&directory)?;
    outcome
}

fn start_holder(root: &Root, name: &str, hold_at: Option<Step>) -> Result<(Handle, UnixStream)> {
    unshare(CloneFlags::CLONE_NEWPID)
        .map_err(Error::kernel("make a PID namespace for the holder"))?;
    let (line, holders_end) =
        UnixStream::pair().map_err(Error::kernel("make a pair of sockets"))?;
    // The path of the binary and not /proc/self/exe, so that `ps` shows what it is.
    let own: PathBuf = std::env::current_exe().map_err(Error::kernel("find the own binary"))?;
    let mut command = Command::new(own);
    command
        .args(["holder", "--name", name, "--root"])
        .arg(&root.0)
        .stdin(Stdio::from(OwnedFd::from(holders_end)));
    if let Some(step) = hold_at {
        command.args(["--hold-at", &step.word()]);
    }
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    crate::child::in_new_namespaces(&mut command, namespaces);
    let child = command.spawn().map_err(Error::kernel("start the holder"))?;
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .map_err(Error::kernel("open a pidfd of the holder"))?;
    Ok((Handle(pidfd), line))
}

/// Until the holder ends. Kills it when `up` goes away before the lab is up.
fn watch(holder: &Handle, line: &UnixStream, directory: &LabDirectory) -> Guests {
    let stdout = std::io::stdout();
    let mut guests = Guests::default();
    let mut up_waits = true;
    loop {
        let mut fds = vec![
            PollFd::new(&holder.0, PollFlags::IN),
            PollFd::new(line, PollFlags::IN),
            // No event is asked for: only the reader's going away is reported.
            PollFd::new(&stdout, PollFlags::empty()),
        ];
        if !up_waits {
            fds.pop();
        }
        if poll(&mut fds, None).is_err() {
            continue;
        }
        let spoke = !fds[1].revents().is_empty();
        let up_left = up_waits && !fds[2].revents().is_empty();
        if !fds[0].revents().is_empty() {
            return guests;
        }
        if spoke {
            let mut word = [0];
            match std::io::Read::read(&mut &*line, &mut word) {
                Ok(1) if word[0] == NAMESPACES => guests = Guests::of(directory),
                Ok(1) if word[0] == UP => up_waits = false,
                // The holder closed its end: it is ending.
                _ => {
                    holder.ended_within(Duration::from_secs(5));
                    holder.signal(Signal::KILL);
                    holder.ended_within(Duration::from_secs(5));
                    return guests;
                }
            }
            continue;
        }
        if up_left {
            holder.signal(Signal::KILL);
            holder.ended_within(Duration::from_secs(5));
            return guests;
        }
    }
}
