//! What /proc tells of processes, and what this agent's own look like.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::namespaces::NamespaceId;

/// PF_KTHREAD of linux/sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// `PROC_PID_INIT_INO` of linux/proc_ns.h: the machine's own.
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// A process that cannot be taken for a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    pub pid: u32,
    /// Clock ticks after boot when it began, field 22 of proc_pid_stat(5).
    pub started: u64,
    /// The PID namespace in which it has this number; none in old journals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceId>,
}

/// A process that this PID namespace has not under its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    Ended,
    /// It is in a PID namespace below, and has this number here.
    Below(u32),
    /// In a PID namespace that cannot be seen from here, which may have ended too.
    OutOfSight(NamespaceId),
}

/// Of proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z`, `X`, ...
    pub state: char,
    pub is_kernel_thread: bool,
    pub started: u64,
}

impl Stat {
    /// The name in parentheses may hold anything, also parentheses and spaces.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let flags: u64 = fields.get(6)?.parse().ok()?;
        Some(Self {
            state: fields.first()?.chars().next()?,
            is_kernel_thread: flags & KERNEL_THREAD != 0,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// None if there is no such process.
pub fn stat(pid: u32) -> io::Result<Option<Stat>> {
    read_stat(&format!("/proc/{pid}/stat"))
}

fn read_stat(path: &str) -> io::Result<Option<Stat>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Stat::parse(&text)
            .map(Some)
            .ok_or_else(|| io::Error::other(format!("{path} makes no sense"))),
        Err(cause) if is_gone(&cause) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// A process that ends while it is looked at gives ENOENT or ESRCH.
pub fn is_gone(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::NotFound
        || cause.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)
}

/// A process that has ended, or that this user may not look at.
pub fn is_hidden(cause: &io::Error) -> bool {
    is_gone(cause) || cause.kind() == io::ErrorKind::PermissionDenied
}

/// The states of all threads of a process; none if it is gone.
pub fn threads(pid: u32) -> io::Result<Vec<Stat>> {
    let folder = format!("/proc/{pid}/task");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(cause) if is_gone(&cause) => return Ok(Vec::new()),
        Err(cause) => return Err(cause),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = match entry {
            Err(cause) if is_gone(&cause) => return Ok(Vec::new()),
            entry => entry?,
        };
        let path = entry.path().join("stat");
        all.extend(read_stat(&path.display().to_string())?);
    }
    Ok(all)
}

/// What proc_pid_status(5) says behind this word; none if the process is gone.
fn status(pid: u32, word: &str) -> io::Result<Option<String>> {
    let text = match std::fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(text) => text,
        Err(cause) if is_gone(&cause) => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(word));
    Ok(lines.next().map(|rest| rest.trim().to_owned()))
}

/// Whether SIGSTOP was sent to it and none of its threads has taken it yet, as long as they wait for a
/// disk or are frozen. Look at [`threads`] after this: whoever takes it stands still before the kernel
/// shows it as taken.
pub fn stop_is_pending(pid: u32) -> io::Result<bool> {
    let mask = status(pid, "ShdPnd:")?.unwrap_or_default();
    let mask = u64::from_str_radix(&mask, 16).unwrap_or(0);
    Ok(mask >> (rustix::process::Signal::STOP.as_raw() - 1) & 1 == 1)
}

/// The PID namespace of this process.
pub fn pid_namespace() -> io::Result<NamespaceId> {
    pid_namespace_of("self")
}

fn pid_namespace_of(pid: &str) -> io::Result<NamespaceId> {
    let seen = std::fs::metadata(format!("/proc/{pid}/ns/pid"))?;
    Ok(NamespaceId {
        device: seen.dev(),
        inode: seen.ino(),
    })
}

/// Numbers mean nothing outside of the namespace that gave them.
pub fn whereabouts(process: Pinned) -> io::Result<Whereabouts> {
    if let Some(pid) = seen_from_above(process)? {
        return Ok(Whereabouts::Below(pid));
    }
    let Some(wanted) = process.namespace else {
        return Ok(Whereabouts::Ended);
    };
    let own = pid_namespace()?;
    // From the first namespace of all every process is seen.
    if own == wanted || own.inode == FIRST_PID_NAMESPACE {
        return Ok(Whereabouts::Ended);
    }
    let in_it = |pid: u32| pid_namespace_of(&pid.to_string()).is_ok_and(|its| its == wanted);
    // Who sees one process of a namespace sees all.
    Ok(match pids()?.into_iter().any(in_it) {
        true => Whereabouts::Ended,
        false => Whereabouts::OutOfSight(wanted),
    })
}

/// The process that has this number in a PID namespace below, and another one here.
pub fn seen_from_above(process: Pinned) -> io::Result<Option<u32>> {
    for pid in pids()? {
        let Some(numbers) = status(pid, "NSpid:")? else {
            continue;
        };
        let mut below = numbers.split_ascii_whitespace().skip(1);
        if below.any(|number| number.parse() == Ok(process.pid))
            && stat(pid)?.is_some_and(|stat| stat.started == process.started && !stat.is_dead())
        {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// Who traces it (ptrace), if anyone.
pub fn tracer(pid: u32) -> io::Result<Option<u32>> {
    let tracer = status(pid, "TracerPid:")?.and_then(|pid| pid.parse().ok());
    Ok(tracer.filter(|pid| *pid != 0))
}

/// The process that a number belongs to, if it is only one of its threads.
pub fn process_of_thread(tid: u32) -> io::Result<Option<u32>> {
    let process = status(tid, "Tgid:")?.and_then(|pid| pid.parse().ok());
    Ok(process.filter(|pid| *pid != tid))
}

/// Every process id that there is now.
pub fn pids() -> io::Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc")?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.iter().filter_map(number_of).collect())
}

/// Every thread that there is now, with its process: `/proc/PROCESS/task/THREAD`.
pub fn all_threads() -> io::Result<Vec<(u32, u32)>> {
    let mut all = Vec::new();
    for pid in pids()? {
        let entries = match std::fs::read_dir(format!("/proc/{pid}/task")) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
            Err(cause) => Err(cause),
        };
        match entries {
            Ok(entries) => all.extend(entries.iter().filter_map(number_of).map(|id| (pid, id))),
            // A process that has ended has no threads.
            Err(cause) if is_gone(&cause) => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(all)
}

/// `/proc/PID/fd/N` of each of its descriptors; none of a process that has ended or may not be looked at.
pub fn open_files(pid: u32) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries,
        Err(cause) if is_hidden(&cause) => return Ok(Vec::new()),
        Err(cause) => return Err(cause),
    };
    let mut found = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => found.push(entry.path()),
            Err(cause) if is_hidden(&cause) => break,
            Err(cause) => return Err(cause),
        }
    }
    Ok(found)
}

/// Those descriptors of all other processes that are namespaces. What one was opened by is no part of its
/// link, so files are told apart by where they live: nsfs.
pub fn open_namespaces() -> io::Result<Vec<PathBuf>> {
    let nsfs = std::fs::metadata("/proc/thread-self/ns/net")?.dev();
    let own = std::process::id();
    let mut found = Vec::new();
    for pid in pids()?.into_iter().filter(|pid| *pid != own) {
        for path in open_files(pid)? {
            match device_of(&path) {
                Ok(device) if device == nsfs => found.push(path),
                Ok(_) => {}
                Err(cause) if is_hidden(&cause) => {} // closed meanwhile
                Err(cause) => return Err(cause),
            }
        }
    }
    Ok(found)
}

/// Without asking the file system, which may be one that does not answer.
fn device_of(path: &Path) -> io::Result<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
    let seen = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::empty())?;
    Ok(makedev(seen.stx_dev_major, seen.stx_dev_minor))
}

fn number_of(entry: &std::fs::DirEntry) -> Option<u32> {
    entry.file_name().to_str()?.parse().ok()
}

/// The words of a process's command line; none if it is gone or a kernel thread.
pub fn command_line(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Whether it runs this program, also in another version: an agent, a guardian or a helper.
pub fn is_ours(pid: u32) -> bool {
    let file = |pid: &str| {
        let program = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
        Some((program.dev(), program.ino()))
    };
    // An update leaves the old one running, as `NAME (deleted)`.
    let name = |pid: &str| {
        let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let name = path.file_name()?.to_str()?.to_owned();
        Some(name.trim_end_matches(" (deleted)").to_owned())
    };
    let pid = pid.to_string();
    let same_file = || file("self").is_some() && file(&pid) == file("self");
    let same_name = || name("self").is_some() && name(&pid) == name("self");
    same_file() || same_name()
}

/// Bytes that could be had now, of proc_meminfo(5).
pub fn memory_available() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("/proc/meminfo has no MemAvailable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let line =
            "4711 (a) S (b c) T 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 9 9";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.started), ('T', 987_654));
        assert!(stat.is_stopped() && !stat.is_kernel_thread);
        let kernel = line.replace("4194560", "69238880");
        assert!(Stat::parse(&kernel).unwrap().is_kernel_thread);
        for bad in ["", "1 (x", "1 (x) S 1 2", "1 (x) S a b c d e f g"] {
            assert_eq!(Stat::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn this_process_is_seen_and_a_dead_one_is_not() {
        let me = std::process::id();
        assert!(!stat(me).unwrap().unwrap().is_dead());
        assert!(is_ours(me) && !is_ours(1));
        assert!(pids().unwrap().contains(&me));
        assert!(!threads(me).unwrap().is_empty() && !command_line(me).is_empty());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(stat(child.id()).unwrap(), None);
        assert!(memory_available().unwrap() > 1 << 20);
        assert!(!stop_is_pending(me).unwrap() && !stop_is_pending(child.id()).unwrap());
        assert_eq!(process_of_thread(me).unwrap(), None);
        std::thread::spawn(move || {
            let thread = u32::try_from(nix::unistd::gettid().as_raw()).unwrap();
            assert_eq!(process_of_thread(thread).unwrap(), Some(me));
        })
        .join()
        .unwrap();
    }
}
