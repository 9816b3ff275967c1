//! A host with disks of its own: a mount namespace with a tmpfs and an ext4 image, and `cellwall-agent
//! change` in it. Nothing of it is seen outside.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use agent::changes::{Management, Place, Undo};
use agent::journal::{self, Armed, FORMAT, Intent, Journal};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use scenarios::change::Change;

use super::{Namespace, PORT, guardian_of};

pub const PATIENCE: Duration = Duration::from_secs(20);
const LAST_WORDS: Duration = Duration::from_secs(5);

pub struct Host {
    namespace: Namespace,
    folder: tempfile::TempDir,
}

impl Host {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let namespace = Namespace::new();
        std::fs::create_dir(folder.path().join("state")).unwrap();
        namespace.run(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        });
        Self { namespace, folder }
    }

    /// Runs something inside; what panics there panics here, and the host lives on to be tidied.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let done = self
            .namespace
            .run(move || catch_unwind(AssertUnwindSafe(job)));
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    pub fn command(&self, program: &'static str, arguments: &str) -> String {
        self.namespace.command(program, arguments)
    }

    /// Whether a program succeeds.
    pub fn succeeds(&self, program: &'static str, arguments: &str) -> bool {
        let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            Command::new(program)
                .args(words)
                .output()
                .unwrap()
                .status
                .success()
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// A tmpfs under this name.
    pub fn tmpfs(&self, name: &str, options: &str) -> PathBuf {
        let point = self.path(name);
        std::fs::create_dir(&point).unwrap();
        self.command(
            "mount",
            &format!("-t tmpfs -o {options} none {}", point.display()),
        );
        point
    }

    /// An ext4 file system of 24 MiB on a loop device, which ends with its last mount.
    pub fn ext4(&self, name: &str) -> PathBuf {
        let (point, image) = (self.path(name), self.path(&format!("{name}.img")));
        std::fs::create_dir(&point).unwrap();
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(24 << 20).unwrap();
        self.command("mkfs.ext4", &format!("-q -F {}", image.display()));
        self.command(
            "mount",
            &format!("-o loop {} {}", image.display(), point.display()),
        );
        point
    }

    pub fn change(&self, drill: &str, changes: &[Change], lasts: &str) -> Changing {
        self.change_with(drill, changes, lasts, &[])
    }

    /// With more arguments.
    pub fn change_with(
        &self,
        drill: &str,
        changes: &[Change],
        lasts: &str,
        more: &[&str],
    ) -> Changing {
        self.change_in(&[], drill, changes, lasts, more)
    }

    /// With programs around it that execute their arguments.
    pub fn change_in(
        &self,
        around: &[&str],
        drill: &str,
        changes: &[Change],
        lasts: &str,
        more: &[&str],
    ) -> Changing {
        let file = self.path(&format!("{drill}.json"));
        std::fs::write(&file, serde_json::to_string(changes).unwrap()).unwrap();
        self.change_file_in(around, drill, &file, lasts, more)
    }

    /// Of changes that are in a file, or will be when the program begins.
    pub fn change_file_in(
        &self,
        around: &[&str],
        drill: &str,
        file: &Path,
        lasts: &str,
        more: &[&str],
    ) -> Changing {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(around);
        command.arg(env!("CARGO_BIN_EXE_cellwall-agent"));
        command.args(["change", "--drill", drill, "--duration", lasts]);
        if !more.contains(&"--lease") {
            command.args(["--lease", "60s"]);
        }
        command.arg("--state-dir").arg(self.state()).arg(file);
        command.args(more);
        command.env("RUST_LOG", "warn").env("RUST_BACKTRACE", "0");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.run(move || command.spawn().unwrap());
        Changing {
            stdout: BufReader::new(child.stdout.take().unwrap()),
            said_instead: String::new(),
            child,
        }
    }

    /// What an agent of this boot has written that died after its change.
    pub fn journals(&self, kind: &str, undo: Undo) {
        let armed = Armed {
            format: FORMAT,
            drill: "d".into(),
            conductor: "c".into(),
            plan_sha256: String::new(),
            boot_id: agent::boottime::boot_id().unwrap(),
            expires: agent::boottime::Boottime::now(),
        };
        let intent = Intent {
            step: 0,
            index: 0,
            change: kind.to_owned(),
            undo,
        };
        std::fs::create_dir_all(self.state()).unwrap();
        let directory = journal::directory(&self.state());
        drop(Journal::create(&directory, armed, &[intent]).unwrap());
    }

    /// Where the first change of drill `d` would be captured.
    pub fn place(&self) -> Place {
        Place {
            drill: "d".into(),
            step: 0,
            index: 0,
            state: self.state().join("journal"),
            management: Management {
                operator: Vec::new(),
                port: PORT,
            },
        }
    }

    pub fn revert_all(&self) -> Output {
        self.revert_all_in(&["env"])
    }

    /// With a program around it, and its arguments.
    pub fn revert_all_in(&self, around: &[&str]) -> Output {
        let state = self.state();
        let around: Vec<String> = around.iter().copied().map(str::to_owned).collect();
        self.run(move || {
            let mut command = Command::new(&around[0]);
            command.args(&around[1..]);
            command.arg(env!("CARGO_BIN_EXE_cellwall-agent"));
            command.args(["revert", "--all", "--state-dir"]).arg(state);
            command.env("RUST_LOG", "warn").output().unwrap()
        })
    }

    /// Reverts offline and sees that nothing is left.
    pub fn revert_clean(&self) -> String {
        let output = self.revert_all();
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        text
    }

    pub fn inventory(&self, folder: &Path) -> Vec<String> {
        let folder = folder.to_owned();
        self.run(move || inventory(&folder))
    }

    pub fn read(&self, path: &Path) -> Option<String> {
        let path = path.to_owned();
        self.run(move || std::fs::read_to_string(path).ok())
    }

    pub fn write(&self, path: &Path, text: &str) {
        let (path, text) = (path.to_owned(), text.to_owned());
        self.run(move || std::fs::write(path, text).unwrap());
    }

    /// What mountinfo says of a mount point, the last one first.
    pub fn mountinfo(&self, point: &Path) -> String {
        let table = self.run(|| std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap());
        let at = format!(" {} ", point.display());
        let mut lines = table.lines().rev();
        lines
            .find(|line| line.contains(&at))
            .unwrap_or_default()
            .to_owned()
    }

    /// Waits until the guardian or whoever has closed the drill's journal.
    pub fn closes(&self, drill: &str) {
        until("the journal is closed", || self.has_closed(drill));
    }

    pub fn has_closed(&self, drill: &str) -> bool {
        let path = self.state().join(format!("journal/{drill}.journal"));
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("\"closed\""))
    }
}

impl Drop for Host {
    /// A frozen image would outlive its namespace, and so does a guardian to which something is owed.
    fn drop(&mut self) {
        end_guardians_of(&self.state());
        let inside = self.folder.path().display().to_string();
        let table = self.run(|| std::fs::read_to_string("/proc/thread-self/mountinfo"));
        for line in table.unwrap_or_default().lines().rev() {
            let point = line.split(' ').nth(4).unwrap_or_default().to_owned();
            if point.starts_with(&inside) {
                self.succeeds("fsfreeze", &format!("-u {point}"));
                self.succeeds("umount", &format!("-l {point}"));
            }
        }
    }
}

/// A running `cellwall-agent change`; killed when the test ends, and its guardian then cleans up.
pub struct Changing {
    pub child: Child,
    stdout: BufReader<ChildStdout>,
    /// All that it said while something else was waited for in vain.
    said_instead: String,
}

impl Changing {
    /// Waits for a line; false if the program ended without it.
    pub fn says(&mut self, word: &str) -> bool {
        let mut said = String::new();
        loop {
            let before = said.len();
            if self.stdout.read_line(&mut said).unwrap() == 0 {
                self.said_instead = said;
                return false;
            }
            if said[before..].starts_with(word) {
                return true;
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Nobody is left to end what it holds.
    pub fn crash_with_guardian(&mut self) {
        kill(guardian_of(self.pid()), Signal::SIGKILL).unwrap();
        self.crash();
    }

    pub fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its exit code, and all that it and its guardian still say on both streams, at most for some seconds behind
    /// its end: as long as something is owed the guardian goes on.
    pub fn ends(&mut self) -> (Option<i32>, String) {
        let mut text = std::mem::take(&mut self.said_instead);
        text.push_str(&String::from_utf8_lossy(self.stdout.buffer()));
        let stdout = self.stdout.get_mut().as_fd().try_clone_to_owned();
        let stderr: OwnedFd = self.child.stderr.take().unwrap().into();
        let mut readers = [stdout.unwrap(), stderr].map(|pipe| {
            let (tell, told) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(std::fs::File::from(pipe)).lines();
                while let Some(Ok(line)) = lines.next() {
                    if tell.send(line).is_err() {
                        return;
                    }
                }
            });
            told
        });
        let code = self.child.wait().unwrap().code();
        let last = Instant::now() + LAST_WORDS;
        for told in &mut readers {
            let left = || last.saturating_duration_since(Instant::now());
            while let Ok(line) = told.recv_timeout(left()) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        (code, text)
    }

    pub fn ends_clean(&mut self) {
        let (code, text) = self.ends();
        assert_eq!(code, Some(0), "{text}");
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn end_guardians_of(state: &Path) {
    let state = state.display().to_string();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split('\0').skip(1);
        let is_guardian = words.next() == Some("guardian");
        if is_guardian && words.any(|word| word.starts_with(&state)) {
            let pid = entry.file_name().to_string_lossy().parse();
            let _ = pid.map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
    }
}

pub fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

pub fn until(what: &str, reached: impl Fn() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All that there is to see of every file in a folder but the times of inode changes; looking leaves
/// no trace.
fn inventory(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let seen = path.symlink_metadata().unwrap();
        let mut line = format!(
            "{} inode {} mode {:o} owner {}:{} links {} size {} mtime {}.{:09} atime {}.{:09}",
            path.display(),
            seen.ino(),
            seen.mode(),
            seen.uid(),
            seen.gid(),
            seen.nlink(),
            seen.len(),
            seen.mtime(),
            seen.mtime_nsec(),
            seen.atime(),
            seen.atime_nsec(),
        );
        if seen.is_file() {
            let flags = OFlags::RDONLY | OFlags::NOATIME;
            let file = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
            let mut file = std::fs::File::from(file);
            line += &format!(" xattrs {:?}", attributes(&file));
            let mut digest = <sha2::Sha256 as sha2::Digest>::new();
            std::io::copy(&mut file, &mut digest).unwrap();
            line += &format!(" content {:x}", sha2::Digest::finalize(digest));
        }
        lines.push(line);
    }
    lines.sort();
    lines
}

fn attributes(file: &std::fs::File) -> Vec<(String, Vec<u8>)> {
    let mut list = [0; 4096];
    let size = rustix::fs::flistxattr(file, &mut list[..]).unwrap();
    let names = list[..size]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = [0; 4096];
        let size = rustix::fs::fgetxattr(file, name, &mut value[..]).unwrap();
        (
            String::from_utf8_lossy(name).into_owned(),
            value[..size].to_vec(),
        )
    };
    names.map(value).collect()
}
