//! An undo that something stands in the way of is tried until it succeeds, by whoever is left.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use scenarios::change::{Change, FileAct, FileChange};
use wire::State;

use crate::support::make::freeze;
use crate::support::*;

const BEFORE: &str = "as it was\n";
/// Longer than the first twenty tries once took.
const LONG: Duration = Duration::from_secs(7);
/// Behind these tries come others every ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);

fn replaced(path: &Path) -> Change {
    Change::File(FileChange {
        path: path.display().to_string(),
        act: FileAct::Replace {
            content: "ours\n".to_owned(),
        },
    })
}

fn comes_back(read: impl Fn() -> String) {
    let begun = Instant::now();
    while read() != BEFORE {
        assert!(begun.elapsed() < PATIENCE, "{:?}", read());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// With a file on a disk that will be read-only for a while, and a process that is let go at once.
struct Obstructed {
    host: Host,
    disk: PathBuf,
    sleeper: Sleeper,
    changing: Changing,
}

impl Obstructed {
    fn new() -> Self {
        let host = Host::new();
        let disk = host.tmpfs("fs", "size=1m");
        let conf = disk.join("conf");
        host.write(&conf, BEFORE);
        let sleeper = Sleeper::new();
        let changes = [freeze(&sleeper), replaced(&conf)];
        let mut changing = host.change("d", &changes, "60s");
        assert!(changing.says("in force"), "{:?}", changing.ends());
        until("it bites", || sleeper.state() == 'T');
        let obstructed = Self {
            host,
            disk,
            sleeper,
            changing,
        };
        obstructed.remount("ro");
        obstructed
    }

    fn remount(&self, how: &str) {
        let arguments = format!("-o remount,{how} {}", self.disk.display());
        self.host.command("mount", &arguments);
    }

    fn journal(&self) -> String {
        std::fs::read_to_string(self.host.state().join("journal/d.journal")).unwrap()
    }

    fn given_back(&self) {
        let conf = self.disk.join("conf");
        self.remount("rw");
        comes_back(|| self.host.read(&conf).unwrap_or_default());
        self.host.closes("d");
    }
}

#[test]
#[ignore = "needs root: mount namespaces"]
fn a_guardian_does_not_give_up_nor_undo_anything_twice() {
    let mut it = Obstructed::new();
    it.changing.crash();
    until("what nothing stands in the way of is undone", || {
        it.sleeper.state() == 'S'
    });
    // Somebody else's, from now on.
    it.sleeper.signal(Signal::SIGSTOP);
    std::thread::sleep(LONG);
    let open = it.journal();
    assert!(
        open.contains("undo_failed") && !open.contains("\"closed\""),
        "{open}"
    );
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(it.journal(), open, "it does not grow while nothing is new");
    it.given_back();
    assert_eq!(it.sleeper.state(), 'T');
}

/// One that holds it for longer than the guardian waits for the lock.
#[test]
#[ignore = "needs root: mount namespaces"]
fn a_guardian_that_cannot_have_the_lock_for_a_while_goes_on() {
    let mut it = Obstructed::new();
    it.changing.crash();
    until("the guardian has tried", || {
        it.journal().contains("undo_failed")
    });
    let path = it.host.state().join("journal/d.journal");
    let held = std::fs::File::open(path).unwrap();
    held.lock().unwrap();
    std::thread::sleep(Duration::from_secs(12));
    drop(held);
    it.given_back();
}

/// An agent whose state and whose file are in mount namespaces of their own.
struct Idle {
    site: Site,
    agent: AgentProcess,
    client: Client,
    disk: PathBuf,
    state: PathBuf,
}

impl Idle {
    /// Its drill is over, its guardian dead, and the file's disk read-only.
    fn new() -> Self {
        let site = Site::new();
        let folder = site.state.path();
        let policy = "allow: [file]\nlongest: 10m\nclients: [conductor]\n";
        std::fs::write(folder.join("policy.yaml"), policy).unwrap();
        let (disk, state) = (folder.join("disk"), folder.join("state"));
        std::fs::create_dir(&disk).unwrap();
        std::fs::create_dir(&state).unwrap();
        let conf = disk.join("conf");
        let script = format!(
            "mount -t tmpfs none {0} && printf '{BEFORE}' > {1} && exec \"$@\"",
            disk.display(),
            conf.display()
        );
        let around = [
            "unshare",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-c",
            &script,
            "sh",
        ];
        let around = around.map(str::to_owned);
        let way = Way {
            files: folder,
            around: &around,
            ..Way::usual(&state)
        };
        let agent = AgentProcess::start_as(&way, &site.node, &site.pki);
        let client = site.client();
        let it = Self {
            site,
            agent,
            client,
            disk,
            state,
        };
        it.client.cut(
            "d",
            &plan(30_000, vec![step(0, 0, 60_000, replaced(&conf))]),
        );
        assert_eq!(it.read(), "ours\n");
        it.remount("ro");
        kill(guardian_of(it.agent.pid()), Signal::SIGKILL).unwrap();
        until("the loss of its guardian ends the drill", || {
            it.client.status().unwrap().state() == State::Reverted
        });
        it
    }

    fn read(&self) -> String {
        let root = format!(
            "/proc/{}/root{}/conf",
            self.agent.pid(),
            self.disk.display()
        );
        std::fs::read_to_string(root).unwrap_or_default()
    }

    fn remount(&self, how: &str) {
        let pid = self.agent.pid().to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-t", &pid, "-m", "mount", "-o", &format!("remount,{how}")]);
        assert!(nsenter.arg(&self.disk).status().unwrap().success());
    }

    fn residue(&self) -> Vec<String> {
        self.client.status().unwrap().residue
    }

    fn given_back(&self) {
        self.remount("rw");
        comes_back(|| self.read());
        self.agent.closed("d", PATIENCE);
        until("nothing is told any more", || self.residue().is_empty());
    }
}

/// Without its guardian, and asked by nobody.
#[test]
#[ignore = "needs root: network and mount namespaces"]
fn nor_does_an_agent_that_holds_no_drill() {
    let it = Idle::new();
    std::thread::sleep(LONG);
    let residue = it.residue();
    assert!(
        residue.iter().any(|line| line.contains("conf")),
        "{residue:?}"
    );
    it.given_back();
    assert_eq!(it.site.node.our_tables(), 0);
}

#[test]
#[ignore = "needs root: network and mount namespaces"]
fn journals_that_are_out_of_sight_for_a_while_are_not_forgotten() {
    let it = Idle::new();
    let (journals, away) = (it.state.join("journal"), it.state.join("away"));
    std::fs::rename(&journals, &away).unwrap();
    until("that is told", || {
        let residue = it.residue();
        residue
            .iter()
            .any(|line| line.contains("not there any more"))
    });
    std::thread::sleep(Duration::from_secs(2));
    assert!(!it.residue().is_empty());
    std::fs::rename(&away, &journals).unwrap();
    it.given_back();
}
