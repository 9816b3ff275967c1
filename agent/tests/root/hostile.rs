//! Surroundings that fail the agent: full and read-only disks, and another agent on the same node.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use scenarios::change::Direction;
use scenarios::plan::Plan;
use wire::State;

use crate::support::make::freeze;
use crate::support::*;

fn cut_of(peer: &str) -> Plan {
    let cut = cut(&[peer], Direction::Both);
    plan(30_000, vec![step(0, 0, 60_000, cut)])
}

/// An agent whose state directory is a small file system of its own, in a mount namespace.
struct Small {
    site: Site,
    agent: AgentProcess,
    client: Client,
    path: UdpPath,
    disk: PathBuf,
}

impl Small {
    fn new() -> Self {
        Self::on("mount -t tmpfs -o size=64k,mode=700 none")
    }

    /// A shell line that the folder is put behind mounts a file system there; the image `disk.img` is
    /// beside it.
    fn on(mount: &str) -> Self {
        let site = Site::new();
        let disk = site.state.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let agent = Self::agent(&site, &disk, mount);
        let client = site.client();
        Echo::start(&site.peer, ECHO);
        let path = UdpPath::open(&site.node, PEER, ECHO);
        Self {
            site,
            agent,
            client,
            path,
            disk,
        }
    }

    fn agent(site: &Site, disk: &Path, mount: &str) -> AgentProcess {
        let folder = site.state.path().display();
        let script = format!("cd {folder} && {mount} {0} && exec \"$@\"", disk.display());
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
        let files = site.state.path();
        let way = Way {
            files,
            around: &around,
            ..Way::usual(disk)
        };
        AgentProcess::start_as(&way, &site.node, &site.pki)
    }

    /// A shell line in the agent's mount namespace.
    fn shell(&self, line: &str) -> Output {
        let pid = self.agent.pid().to_string();
        let script = format!("cd {} && {line}", self.disk.display());
        Command::new("nsenter")
            .args(["-t", &pid, "-m", "sh", "-c", &script])
            .output()
            .unwrap()
    }

    fn done(&self, line: &str) {
        let output = self.shell(line);
        assert!(output.status.success(), "{line}: {output:?}");
    }

    fn fill(&self) {
        let output = self.shell("cat /dev/zero > fill");
        assert!(!output.status.success(), "it must end for want of room");
    }

    fn remount(&self, how: &str) {
        self.done(&format!(
            "cd / && mount -o remount,{how} {}",
            self.disk.display()
        ));
    }

    fn assert_open(&self) {
        assert_eq!(self.path.ask(Duration::from_millis(300)), Reach::Answered);
        assert_eq!(self.site.node.our_tables(), 0);
    }
}

#[test]
#[ignore = "needs root: network and mount namespaces, nftables"]
fn without_a_disk_nothing_is_armed_and_nothing_altered() {
    let small = Small::new();
    type Step<'a> = &'a dyn Fn();
    let (full, room) = (|| small.fill(), || small.done("rm fill"));
    let (closed, open) = (|| small.remount("ro"), || small.remount("rw"));
    for (number, (spoil, mend, word)) in [
        (&full as Step, &room as Step, "No space left"),
        (&closed, &open, "Read-only file system"),
    ]
    .into_iter()
    .enumerate()
    {
        let drill = format!("d{number}");
        spoil();
        let refused = words(small.client.arm(&drill, &cut_of(PEER)));
        assert!(refused.contains(word), "{refused}");
        assert!(refused.contains("nothing was altered"), "{refused}");
        small.assert_open();
        let halted = small.client.halt("no disk").unwrap();
        assert!(halted.verified && halted.residue.is_empty(), "{halted:?}");
        // tmpfs has room for a file without a word in it.
        let durable = halted.not_durable.is_empty();
        assert_eq!(durable, word == "No space left", "{halted:?}");
        assert!(small.client.status().unwrap().halted, "in memory at least");
        mend();
        small.client.resume().unwrap();
        small
            .client
            .arm(&drill, &cut_of(PEER))
            .expect("as if it had never been asked");
        small.client.revert_clean(&drill);
    }
}

#[test]
#[ignore = "needs root: network and mount namespaces, nftables"]
fn a_disk_that_fills_while_a_fault_is_in_force_does_not_keep_it() {
    let small = Small::new();
    // So many that their records do not fit into what is left of the journal's last page.
    let steps = (0..45).map(|id| step(id, 0, 60_000, cut(&[PEER], Direction::Both)));
    small.client.cut("d", &plan(30_000, steps.collect()));
    assert_eq!(small.path.ask(Duration::from_millis(150)), Reach::Silent);
    small.fill();
    let reply = small.client.revert("d").unwrap();
    small.assert_open();
    let residue = reply.residue.join("; ");
    assert!(
        residue.contains("everything is undone, but the journal is open"),
        "{residue}"
    );
    assert!(words(small.client.arm("e", &cut_of(PEER))).contains("still open"));
    small.done("rm fill");
    small.client.revert_clean("d");
    small.client.arm("e", &cut_of(PEER)).unwrap();
    small.client.revert_clean("e");
}

/// Frozen, so that whoever writes waits in the kernel; thawed also when the test fails.
struct Hanging<'a>(&'a Small);

impl<'a> Hanging<'a> {
    fn disk_of(small: &'a Small) -> Self {
        let disk = small.disk.display();
        small.done(&format!("cd / && fsfreeze -f {disk}"));
        Self(small)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        let disk = self.0.disk.display();
        self.0.shell(&format!("cd / && fsfreeze -u {disk}"));
    }
}

/// The agent waits in the kernel to journal that the fault is in force, and not even SIGKILL ends it.
#[test]
#[ignore = "needs root: network and mount namespaces, nftables, loop device"]
fn a_disk_that_hangs_does_not_keep_a_fault() {
    let mut small =
        Small::on("truncate -s 24M disk.img && mkfs.ext4 -q -F disk.img && mount -o loop disk.img");
    let sleeper = Sleeper::new();
    let policy = small.site.state.path().join("policy.yaml");
    std::fs::write(
        policy,
        "allow: [firewall, process]\nlongest: 10m\nclients: [conductor]\n",
    )
    .unwrap();
    let cut = cut(&[PEER], Direction::Both);
    let steps = vec![
        step(0, 0, 60_000, cut),
        step(1, 0, 60_000, freeze(&sleeper)),
    ];
    small.client.arm("d", &plan(2_000, steps)).unwrap();
    let ahead = Duration::from_secs(1);
    small.client.fire_in("d", ahead).unwrap();
    let guardian = guardian_of(small.agent.pid());
    let hanging = Hanging::disk_of(&small);
    until("it bites", || sleeper.state() == 'T');
    // Nobody renews its lease.
    until("it is over", || sleeper.state() == 'S');
    assert_eq!(small.path.ask(Duration::from_millis(300)), Reach::Answered);
    assert_eq!(state_of(small.agent.pid()), 'D', "killed, and not gone");
    drop(hanging);
    small.agent.wait(Duration::from_secs(10));
    let stat = format!("/proc/{guardian}/stat");
    until("the guardian has ended", || {
        std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
    });
    small.assert_open();
    let image = std::fs::read(small.disk.with_extension("img")).unwrap();
    let closed = b"guardian: the agent hung past the end of its lease";
    assert!(image.windows(closed.len()).any(|part| part == closed));
}

/// `EXT4_IOC_SHUTDOWN` without a flush (linux/ext4.h): as if its device were pulled out. What was on it is
/// there again when the disk is put in and the agent started.
const PULL_OUT: &str = "perl -e 'open(my $disk, \"<\", \".\") or die $!; my $flags = pack(\"L\", 2); \
                        ioctl($disk, 0x8004587d, $flags) or die $!'";

/// Whether a loop device holds the image.
fn is_in_use(image: &Path) -> bool {
    let output = Command::new("losetup")
        .arg("-j")
        .arg(image)
        .output()
        .unwrap();
    !output.stdout.is_empty()
}

#[test]
#[ignore = "needs root: network and mount namespaces, nftables, loop device"]
fn a_disk_that_goes_away_while_a_fault_is_in_force_does_not_keep_it() {
    let made = "truncate -s 24M disk.img && mkfs.ext4 -q -F disk.img";
    let mounted = "mount -o loop disk.img";
    // By a call, by its own deadline, and by the end of its lease.
    for (lease_ms, lasts_ms, asked) in [
        (30_000, 60_000, true),
        (30_000, 1_500, false),
        (1_500, 60_000, false),
    ] {
        let mut small = Small::on(&format!("{made} && {mounted}"));
        let step = step(0, 0, lasts_ms, cut(&[PEER], Direction::Both));
        small.client.cut("d", &plan(lease_ms, vec![step]));
        assert_eq!(small.path.ask(Duration::from_millis(150)), Reach::Silent);
        let guardian = guardian_of(small.agent.pid());
        small.done(PULL_OUT);
        assert!(
            !small.shell("touch x").status.success(),
            "nothing can be written"
        );
        if asked {
            let residue = small.client.revert("d").unwrap().residue.join("; ");
            assert!(residue.contains("the journal is open"), "{residue}");
        }
        // The kernel opens the cut by itself; who deletes the tables may be later.
        until("it is over", || {
            small.path.ask(Duration::from_millis(150)) == Reach::Answered
                && small.site.node.our_tables() == 0
        });
        let refused = words(small.client.arm("e", &cut_of(PEER)));
        assert!(
            refused.contains("nothing was altered") || refused.contains("still open"),
            "{refused}"
        );
        let _ = nix::sys::signal::kill(guardian, nix::sys::signal::Signal::SIGKILL);
        small.agent.crash();
        until("the disk is out", || {
            !is_in_use(&small.disk.with_extension("img"))
        });
        small.agent = Small::agent(&small.site, &small.disk, mounted);
        small.client.wait_until_up();
        let status = small.client.status().unwrap();
        assert!(status.residue.is_empty(), "{status:?}");
        small.assert_open();
        small.client.cut("f", &cut_of(PEER));
        small.client.revert_clean("f");
    }
}

/// It has let go of its journal, so its guardian has no reason to kill it.
#[test]
#[ignore = "needs root: network and mount namespaces, nftables"]
fn an_agent_that_cannot_close_its_journal_is_left_alone() {
    let small = Small::new();
    let steps = (0..45).map(|id| step(id, 0, 1_500, cut(&[PEER], Direction::Both)));
    small.client.cut("d", &plan(30_000, steps.collect()));
    small.fill();
    until("it is over", || {
        small.path.ask(Duration::from_millis(150)) == Reach::Answered
    });
    // Past the guardian's grace, and a few of its attempts.
    std::thread::sleep(Duration::from_secs(3));
    small.assert_open();
    small.client.status().expect("the agent lives");
    small.done("rm fill");
    small.client.revert_clean("d");
}

#[test]
#[ignore = "needs root: network and mount namespaces, nftables"]
fn what_a_read_only_disk_says_is_undone() {
    let small = Small::new();
    let journal = crate::golden::of_this_boot(crate::golden::V2);
    let text = small.site.state.path().join("d.journal");
    std::fs::write(&text, journal).unwrap();
    small.done(&format!(
        "mkdir -p journal && cp {} journal/",
        text.display()
    ));
    small.remount("ro");
    small
        .site
        .node
        .command("nft", "add table inet cellwall_d_0_0");
    let reply = small.client.revert("d").unwrap();
    small.assert_open();
    let residue = reply.residue.join("; ");
    assert!(residue.contains("the journal is open"), "{residue}");
    small.remount("rw");
    small.client.revert_clean("d");
}

/// A second agent of the node, on another port.
fn second(site: &Site, state: &Path) -> (AgentProcess, Client) {
    let port = PORT + 1;
    let way = Way {
        port,
        ..Way::usual(state)
    };
    let agent = AgentProcess::start_as(&way, &site.node, &site.pki);
    let tls = site.pki.client("conductor");
    (agent, Client::at_port(&site.operator, tls, NODE, port))
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn the_same_state_directory_is_refused() {
    let (site, mut first, client) = Site::with_agent();
    client.cut("d", &cut_of(PEER));
    let (mut other, _) = second(&site, site.state.path());
    assert!(!other.wait(Duration::from_secs(20)).success());
    assert_eq!(
        client.status().unwrap().state(),
        State::Firing,
        "undisturbed"
    );
    assert_eq!(site.node.our_tables(), 2);
    first.crash();
    first.closed("d", Duration::from_secs(5));
    let (_other, client) = second(&site, site.state.path());
    client.wait_until_up();
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn agents_with_directories_of_their_own_do_not_meet() {
    let (site, mut first, client) = Site::with_agent();
    let state = tempfile::tempdir().unwrap();
    let (_second, other) = second(&site, state.path());
    other.wait_until_up();
    Echo::start(&site.peer, ECHO);
    let four = UdpPath::open(&site.node, PEER, ECHO);
    let six = UdpPath::open(&site.node, PEER_6, ECHO);
    let both = || [&four, &six].map(|path| path.ask(Duration::from_millis(300)));
    assert_eq!(both(), [Reach::Answered, Reach::Answered]);
    client.cut("one", &cut_of(PEER));
    other.cut("two", &cut_of(PEER_6));
    assert_eq!(both(), [Reach::Silent, Reach::Silent]);
    // A drill of the same name is the first one's, and is not taken over.
    other.revert_clean("two");
    assert_eq!(both(), [Reach::Silent, Reach::Answered], "only its own");
    let taken = words(other.arm("one", &cut_of(PEER_6)));
    assert!(taken.contains("is there already"), "{taken}");
    assert!(taken.contains("nothing was altered"), "{taken}");
    other.cut("three", &cut_of(PEER_6));
    let halted = client.halt("the first alone").unwrap();
    assert!(halted.verified && halted.residue.is_empty(), "{halted:?}");
    assert_eq!(both(), [Reach::Answered, Reach::Silent]);
    client.resume().unwrap();
    client.cut("four", &cut_of(PEER));
    first.crash();
    first.closed("four", Duration::from_secs(5));
    assert_eq!(both(), [Reach::Answered, Reach::Silent], "nor its guardian");
    other.revert_clean("three");
    assert_eq!(both(), [Reach::Answered, Reach::Answered]);
    assert_eq!(site.node.our_tables(), 0);
}
