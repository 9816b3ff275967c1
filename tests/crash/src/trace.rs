//! Stops a process at its n-th system call (ptrace(2)), over all of its threads.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::point::When;

/// `PTRACE_SYSCALL_INFO_ENTRY` of `linux/ptrace.h`.
const ENTRY: u8 = 1;
/// Nothing that is traced here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// In place of a number that nobody needs: each costs three calls of the tracer.
const UNREAD: u64 = u64::MAX;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// It stands still at the call that was asked for.
    Call,
    Ended(WaitStatus),
}

/// Processes that are not traced any more, or never were, as they end.
#[derive(Debug, Default)]
pub struct Ended(BTreeMap<i32, WaitStatus>);

impl Ended {
    fn note(&mut self, status: WaitStatus) {
        if let WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) = status {
            self.0.insert(pid.as_raw(), status);
        }
    }

    /// Takes in whoever has ended; as PID 1 all orphans come here.
    pub fn reap(&mut self) {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
        while let Ok(status) = waitpid(None, Some(flags)) {
            if status == WaitStatus::StillAlive {
                return;
            }
            self.note(status);
        }
    }

    pub fn of(&self, pid: Pid) -> Option<WaitStatus> {
        self.0.get(&pid.as_raw()).copied()
    }
}

/// One traced process.
pub struct Tracee {
    pub leader: Pid,
    /// The number of the call that each thread is in.
    threads: BTreeMap<i32, u32>,
    /// Numbers of its system calls, in order of entry over all threads. On the way to a call those before
    /// it are [`UNREAD`].
    pub calls: Vec<u64>,
    counting: bool,
    /// What takes longer hangs.
    pub patience: Duration,
}

impl Tracee {
    /// Starts a program, which does not run yet; what it executes is counted from its exec on.
    /// With `children` it can be asked for its next child.
    pub fn start(command: &mut Command, children: bool) -> Result<Self, String> {
        let child = command
            .spawn()
            .map_err(|cause| format!("{command:?}: {cause}"))?;
        let leader = pid(child.id());
        let stopped = waitpid(leader, Some(WaitPidFlag::WUNTRACED));
        if !matches!(stopped, Ok(WaitStatus::Stopped(..))) {
            return Err(format!(
                "the program did not wait to be traced: {stopped:?}"
            ));
        }
        let mut options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC;
        if children {
            options |= Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK;
        }
        ptrace::seize(leader, options).map_err(|cause| format!("seize: {cause}"))?;
        kill(leader, Signal::SIGCONT).map_err(|cause| format!("continue: {cause}"))?;
        Ok(Self::new(leader))
    }

    fn new(leader: Pid) -> Self {
        Self {
            leader,
            threads: BTreeMap::from([(leader.as_raw(), 0)]),
            calls: Vec::new(),
            counting: false,
            patience: PATIENCE,
        }
    }

    /// Takes hold of a process that runs; it stands still afterwards and its calls count from here.
    pub fn seize(leader: Pid, ended: &mut Ended) -> Result<Option<Self>, String> {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACECLONE;
        match ptrace::seize(leader, options).and_then(|()| ptrace::interrupt(leader)) {
            Ok(()) => {}
            Err(Errno::ESRCH | Errno::EPERM) if !alive(leader) => return Ok(None),
            Err(cause) => return Err(format!("seize the guardian: {cause}")),
        }
        let mut tracee = Self::new(leader);
        tracee.counting = true;
        match wait(leader)? {
            WaitStatus::PtraceEvent(..) => Ok(Some(tracee)),
            status => {
                ended.note(status);
                Ok(None)
            }
        }
    }

    /// The command that [`Self::start`] takes: it stops itself until it is traced.
    pub fn command(program: &std::path::Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]);
        command.arg(program);
        command
    }

    /// Runs it to the call, or to its end. `seen` is called at each exit with the number of the call
    /// and the kernel's number for it.
    pub fn run(
        &mut self,
        stop: Option<(u32, When)>,
        ended: &mut Ended,
        seen: &mut dyn FnMut(u32, u64),
    ) -> Result<Met, String> {
        let watchdog = Watchdog::on(self.leader, self.patience);
        if self.counting && self.calls.is_empty() {
            self.resume(self.leader, None);
        }
        loop {
            let status = wait_any()?;
            let Some(pid) = status.pid() else { continue };
            if !self.is_mine(pid) {
                self.stranger(status, ended);
                continue;
            }
            match status {
                WaitStatus::PtraceSyscall(pid) => {
                    let Some(at) = self.syscall_stop(pid, stop, seen)? else {
                        continue;
                    };
                    if stop == Some(at) {
                        return Ok(Met::Call);
                    }
                    self.resume(pid, None);
                }
                WaitStatus::PtraceEvent(pid, _, event) => {
                    self.counting |= event == Event::PTRACE_EVENT_EXEC as i32;
                    self.resume(pid, None);
                }
                WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                    self.threads.remove(&pid.as_raw());
                    if pid != self.leader {
                        continue;
                    }
                    ended.note(status);
                    return match watchdog.barked() {
                        true => Err(format!("it hung for {} s", self.patience.as_secs())),
                        false => Ok(Met::Ended(status)),
                    };
                }
                _ => {}
            }
        }
    }

    /// The number of the call and which end of it; none if the thread is gone.
    fn syscall_stop(
        &mut self,
        pid: Pid,
        stop: Option<(u32, When)>,
        seen: &mut dyn FnMut(u32, u64),
    ) -> Result<Option<(u32, When)>, String> {
        let info = match ptrace::syscall_info(pid) {
            Ok(info) => info,
            Err(Errno::ESRCH) => return Ok(None),
            Err(cause) => return Err(format!("ask for the system call: {cause}")),
        };
        if info.op == ENTRY {
            let call = u32::try_from(self.calls.len() + 1).unwrap_or(u32::MAX);
            self.calls.push(match stop {
                Some((at, _)) if at != call => UNREAD,
                _ => number_of(pid),
            });
            self.threads.insert(pid.as_raw(), call);
            return Ok(Some((call, When::Before)));
        }
        // The first stop of a thread is the exit of a call whose entry nobody saw.
        let call = self.threads.get(&pid.as_raw()).copied().unwrap_or(0);
        if let Some(number) = self.calls.get(call.wrapping_sub(1) as usize) {
            seen(call, *number);
        }
        Ok(Some((call, When::After)))
    }

    /// Its next child, which stands still and is counted from its exec; this one goes on untraced.
    pub fn leave_for_child(self, ended: &mut Ended) -> Result<Option<Self>, String> {
        let watchdog = Watchdog::on(self.leader, self.patience);
        // A child's first stop may be told before its parent's event.
        let mut stopped = Vec::new();
        let child = loop {
            let status = wait_any()?;
            match status {
                WaitStatus::PtraceEvent(pid, _, event) if self.is_mine(pid) => {
                    let forked = event == Event::PTRACE_EVENT_FORK as i32
                        || event == Event::PTRACE_EVENT_VFORK as i32;
                    if forked {
                        let child = ptrace::getevent(pid).map_err(|cause| cause.to_string())?;
                        break Pid::from_raw(i32::try_from(child).unwrap_or(0));
                    }
                    self.resume(pid, None);
                }
                WaitStatus::PtraceEvent(pid, ..) => stopped.push(pid),
                WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    ended.note(status);
                    if pid == self.leader {
                        return Ok(None);
                    }
                }
                _ => {}
            }
        };
        // Attached by the kernel; it reports its first stop.
        if !stopped.contains(&child) {
            let first = wait(child)?;
            if !matches!(first, WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)) {
                ended.note(first);
                return Err(format!("the child did not stop: {first:?}"));
            }
        }
        for thread in self.threads.keys() {
            let _ = ptrace::detach(Pid::from_raw(*thread), None);
        }
        drop(watchdog);
        let tracee = Self::new(child);
        tracee.resume(child, None);
        Ok(Some(tracee))
    }

    /// Kills it where it stands and takes in its end.
    pub fn kill(self, ended: &mut Ended) -> Result<(), String> {
        end(self.leader, ended)
    }

    fn is_mine(&self, pid: Pid) -> bool {
        let thread = format!("/proc/{}/task/{pid}", self.leader);
        self.threads.contains_key(&pid.as_raw()) || fs::exists(thread).unwrap_or(false)
    }

    /// A child of what is traced is let go; the end of anything else is noted.
    fn stranger(&self, status: WaitStatus, ended: &mut Ended) {
        match status {
            WaitStatus::PtraceEvent(pid, ..) | WaitStatus::Stopped(pid, _) => {
                let _ = ptrace::detach(pid, None);
            }
            _ => ended.note(status),
        }
    }

    /// One that was killed meanwhile needs no more.
    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        let _ = match self.counting {
            true => ptrace::syscall(pid, signal),
            false => ptrace::cont(pid, signal),
        };
    }
}

/// Kills a child of ours, traced or not, and takes in its end.
pub fn end(leader: Pid, ended: &mut Ended) -> Result<(), String> {
    if ended.of(leader).is_some() {
        return Ok(());
    }
    let _ = kill(leader, Signal::SIGKILL); // gone already is as good
    loop {
        let status = wait_any()?;
        ended.note(status);
        if ended.of(leader).is_some() {
            return Ok(());
        }
    }
}

fn wait(pid: Pid) -> Result<WaitStatus, String> {
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => {}
            status => return status.map_err(|cause| format!("wait for {pid}: {cause}")),
        }
    }
}

fn wait_any() -> Result<WaitStatus, String> {
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => {}
            status => return status.map_err(|cause| format!("wait: {cause}")),
        }
    }
}

/// The kernel's number of the call that a stopped thread is in, the first word of its file.
fn number_of(pid: Pid) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = text.split_whitespace().next();
    number.and_then(|word| word.parse().ok()).unwrap_or(UNREAD)
}

pub fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

pub fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap_or(0))
}

/// Kills a process that hangs, because the wait for it has no timeout.
struct Watchdog {
    called_off: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    barked: Arc<AtomicBool>,
}

impl Watchdog {
    fn on(pid: Pid, patience: Duration) -> Self {
        let (called_off, wait) = mpsc::channel::<()>();
        let barked = Arc::new(AtomicBool::new(false));
        let tell = barked.clone();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
                tell.store(true, Ordering::SeqCst);
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        Self {
            called_off: Some(called_off),
            thread: Some(thread),
            barked,
        }
    }

    fn barked(&self) -> bool {
        self.barked.load(Ordering::SeqCst)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.called_off.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn echo(ended: &mut Ended, stop: Option<(u32, When)>) -> (Tracee, Met, Vec<u64>) {
        let mut command = Tracee::command(Path::new("/bin/true"));
        let mut tracee = Tracee::start(&mut command, false).unwrap();
        let mut seen = Vec::new();
        let met = tracee
            .run(stop, ended, &mut |call, _| seen.push(u64::from(call)))
            .unwrap();
        (tracee, met, seen)
    }

    /// One test, because a wait for any child takes in those of other tests too.
    #[test]
    fn a_program_is_counted_and_killed_at_its_call() {
        let mut ended = Ended::default();
        let (whole, met, seen) = echo(&mut ended, None);
        assert!(
            matches!(met, Met::Ended(WaitStatus::Exited(_, 0))),
            "{met:?}"
        );
        assert!(whole.calls.len() > 10, "{:?}", whole.calls);
        let names = crate::calls::Names::read().unwrap();
        let named: Vec<String> = whole.calls.iter().map(|call| names.of(*call)).collect();
        assert!(named.iter().any(|name| name == "mmap"), "{named:?}");
        assert_eq!(named.last().unwrap(), "exit_group");
        // All but the last one come back; the exit of execve itself is not counted.
        assert_eq!(seen.last(), Some(&(whole.calls.len() as u64 - 1)));

        for (call, when) in [(1, When::Before), (7, When::After)] {
            let (tracee, met, _) = echo(&mut ended, Some((call, when)));
            assert_eq!((met, tracee.calls.len()), (Met::Call, call as usize));
            let leader = tracee.leader;
            assert!(alive(leader));
            tracee.kill(&mut ended).unwrap();
            let status = ended.of(leader).unwrap();
            assert!(
                matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)),
                "{status:?}"
            );
        }

        let beyond = whole.calls.len() as u32 + 5;
        let (_, met, _) = echo(&mut ended, Some((beyond, When::Before)));
        assert!(matches!(met, Met::Ended(_)), "ran to its end: {met:?}");
    }
}
