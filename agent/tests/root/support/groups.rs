//! Control groups and processes of one test, ended and removed when it is done or fails.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent::kernel::procfs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A group of this test's own in one hierarchy.
pub struct Group {
    pub path: PathBuf,
}

impl Group {
    /// None if that hierarchy (`freezer`, `cpu`, ...; `v2`) is not mounted on this machine.
    pub fn new(hierarchy: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mounts = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = mounts.into_iter().find_map(|words| {
            let of = match words[2] {
                "cgroup2" => hierarchy == "v2",
                "cgroup" => words[3].split(',').any(|word| word == hierarchy),
                _ => false,
            };
            of.then(|| PathBuf::from(words[1]))
        })?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cellwall-test-{}-{number}", std::process::id());
        let path = mount.join(name);
        std::fs::create_dir(&path).unwrap();
        Some(Self { path })
    }

    /// One in each hierarchy that has a freezer.
    pub fn freezers() -> Vec<Self> {
        let groups: Vec<Self> = ["freezer", "v2"]
            .into_iter()
            .filter_map(Self::new)
            .collect();
        assert!(!groups.is_empty(), "this machine has no freezer");
        groups
    }

    /// One in this one.
    pub fn below(&self) -> Self {
        let path = self.path.join("below");
        std::fs::create_dir(&path).unwrap();
        Self { path }
    }

    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    pub fn put(&self, pid: u32) {
        self.write("cgroup.procs", &pid.to_string());
    }

    pub fn write(&self, file: &str, value: &str) {
        let path = self.path.join(file);
        std::fs::write(&path, value).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    pub fn read(&self, file: &str) -> String {
        let path = self.path.join(file);
        let text = std::fs::read_to_string(&path);
        let text = text.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim_end().to_owned()
    }

    fn is_v2(&self) -> bool {
        self.path.join("cgroup.freeze").exists()
    }

    /// Freezes or thaws it as someone else would.
    pub fn freeze(&self, frozen: bool) {
        match (self.is_v2(), frozen) {
            (true, true) => self.write("cgroup.freeze", "1"),
            (true, false) => self.write("cgroup.freeze", "0"),
            (false, true) => self.write("freezer.state", "FROZEN"),
            (false, false) => self.write("freezer.state", "THAWED"),
        }
    }

    /// Whether what is in it stands still.
    pub fn is_frozen(&self) -> bool {
        match self.is_v2() {
            true => self.read("cgroup.events").contains("frozen 1"),
            false => self.read("freezer.state") != "THAWED",
        }
    }

    /// Removes it and makes another one of the same name; whoever is in it is killed.
    pub fn replace(&self) {
        remove(&self.path);
        assert!(!self.path.exists(), "{} stays", self.path.display());
        std::fs::create_dir(&self.path).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Thaws, kills, removes; groups below it first.
fn remove(group: &Path) {
    let _ = std::fs::write(group.join("cgroup.freeze"), "0");
    let _ = std::fs::write(group.join("freezer.state"), "THAWED");
    let below = std::fs::read_dir(group).into_iter().flatten().flatten();
    below
        .filter(|entry| entry.path().is_dir())
        .for_each(|entry| remove(&entry.path()));
    for _ in 0..200 {
        let left = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for pid in left.lines().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if std::fs::remove_dir(group).is_ok() || !group.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that only is there, until this is dropped.
pub struct Sleeper {
    child: Child,
}

impl Sleeper {
    pub fn new() -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "sleep", "600"]);
        let sleeper = Self {
            child: command.spawn().unwrap(),
        };
        super::until("it sleeps", || {
            let words = procfs::command_line(sleeper.pid());
            words.first().is_some_and(|word| word == "sleep") && state_of(sleeper.pid()) == 'S'
        });
        sleeper
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn state(&self) -> char {
        state_of(self.pid())
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // In a group that is frozen it ends only when that is removed, which may come after this.
        let _ = self.child.kill();
        let _ = self.child.try_wait();
    }
}

/// As proc_pid_stat(5) says; `-` if there is no such process.
pub fn state_of(pid: u32) -> char {
    procfs::stat(pid).unwrap().map_or('-', |stat| stat.state)
}
