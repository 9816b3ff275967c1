//! What befalls the prober is told as that: never a pass, and never a cell's fault.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proof::drill::{BRIEF, Drill, Running, start};
use proof::lab::Lab;
use proof::seen::blind;
use proof::traffic::until;
use scenarios::verdict::Outcome;

use crate::aborted::all_agents_are_clean;
use crate::users::users_reach_target;

/// A drill whose prober meets something while the fault is in force.
fn disturbed(lab: &Lab, disturb: impl FnOnce(&Running)) -> Drill {
    let running = start(lab, "black-hole-cloud", &BRIEF);
    running.until_fired();
    disturb(&running);
    let drill = running.finish();
    assert_eq!(
        drill.verdict.outcome,
        Outcome::Inconclusive,
        "{}",
        drill.text
    );
    assert!(![0, 1, 4].contains(&drill.exit_code), "{}", drill.text);
    drill.assert_reason(&["prober"]);
    until("users reach the target", Duration::from_secs(9), || {
        users_reach_target(lab)
    });
    until("agents are clean", Duration::from_secs(9), || {
        all_agents_are_clean(lab)
    });
    drill
}

fn signal(running: &Running, signal: Signal) {
    kill(Pid::from_raw(running.pid()), signal).expect("the conductor is there");
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_prober_that_is_stopped_for_three_seconds_proves_nothing() {
    let lab = Lab::up("prober-stopped", &[]);
    let drill = disturbed(&lab, |running| {
        signal(running, Signal::SIGSTOP);
        std::thread::sleep(Duration::from_secs(3));
        signal(running, Signal::SIGCONT);
    });
    assert!(
        blind(&drill).is_some(),
        "other tests would take that for an answer: {:?}",
        drill.verdict.reasons
    );
}

/// All of the conductor's network is gone, the way to its agents too.
#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_prober_without_its_uplink_blames_no_cell() {
    let lab = Lab::up("prober-uplink", &[]);
    let nft = |words: &str| {
        let words: Vec<&str> = ["nft"].into_iter().chain(words.split(' ')).collect();
        let output = lab.exec("operator", &words);
        assert!(output.status.success(), "{output:?}");
    };
    nft("add table inet uplink");
    nft("add chain inet uplink in { type filter hook input priority 0 ; }");
    disturbed(&lab, |_| {
        nft("add rule inet uplink in iifname != lo drop");
        std::thread::sleep(Duration::from_secs(9)); // the lease has ended the fault
        nft("delete table inet uplink");
    });
}

/// A control group of the test's own, removed with this value.
struct Starved(PathBuf);

impl Starved {
    /// 1 % of one processor.
    fn new() -> Self {
        let name = format!("cellwall-test-starved-{}", std::process::id());
        let group = PathBuf::from("/sys/fs/cgroup/cpu").join(name);
        std::fs::create_dir(&group).expect("root may make a group");
        std::fs::write(group.join("cpu.cfs_quota_us"), "1000").expect("a quota");
        Self(group)
    }

    fn holds(&self, pid: i32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("the process is there");
    }

    fn feeds(&self) {
        std::fs::write(self.0.join("cpu.cfs_quota_us"), "-1").expect("no quota");
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        self.feeds();
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
#[ignore = "needs root: a lab in network namespaces, a cpu control group"]
fn a_starved_prober_proves_nothing_needs_v1() {
    let lab = Lab::up("prober-starved", &[]);
    let group = Starved::new();
    disturbed(&lab, |running| {
        group.holds(running.pid());
        std::thread::sleep(Duration::from_secs(4));
        group.feeds();
    });
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_prober_without_descriptors_blames_no_cell() {
    let lab = Lab::up("prober-descriptors", &[]);
    disturbed(&lab, |running| {
        let limited = Command::new("prlimit")
            .args(["--pid", &running.pid().to_string(), "--nofile=16:16"])
            .status();
        assert!(limited.expect("prlimit runs").success());
    });
}
