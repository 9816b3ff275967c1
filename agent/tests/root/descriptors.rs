//! Who has no file descriptors left, or too few, has not seen that a fault is over, and must not say so.

use scenarios::change::{
    CgroupLimit, Change, FileAct, FileChange, Limit, ProcessAct, ProcessChange, Processes,
};

use crate::support::*;

/// Those that every process has.
const FEW: u32 = 3;
/// More than any undo needs.
const MANY: u32 = 64;

/// Kills agent and guardian, then reverts with one descriptor more each time: whatever says clean is
/// clean, and some number is enough.
fn only_what_is_over_is_called_clean(host: &Host, change: Change, bites: impl Fn() -> bool) {
    let mut changing = host.change("d", &[change], "1h");
    assert!(changing.says("in force"), "{:?}", changing.ends());
    until("it bites", &bites);
    changing.crash_with_guardian();
    for count in FEW..=MANY {
        let output = host.revert_all_in(&["prlimit", &format!("--nofile={count}")]);
        if output.status.success() {
            let told = text(&output);
            assert!(!bites(), "{count} descriptors, and it says clean: {told}");
            assert!(count > FEW, "never too few");
            host.revert_clean();
            return;
        }
    }
    panic!("{MANY} descriptors are not enough");
}

fn of_processes(processes: Processes) -> Change {
    let act = ProcessAct::Freeze;
    Change::Process(ProcessChange { processes, act })
}

#[test]
#[ignore = "needs root: signals"]
fn a_stopped_process() {
    let (host, sleeper) = (Host::new(), Sleeper::new());
    let change = of_processes(Processes::Pids(vec![sleeper.pid()]));
    only_what_is_over_is_called_clean(&host, change, || sleeper.state() == 'T');
}

#[test]
#[ignore = "needs root: control groups"]
fn a_frozen_group() {
    for group in Group::freezers() {
        let (host, member) = (Host::new(), Sleeper::new());
        group.put(member.pid());
        let change = of_processes(Processes::Cgroup(group.path()));
        only_what_is_over_is_called_clean(&host, change, || group.is_frozen());
    }
}

#[test]
#[ignore = "needs root: control groups"]
fn a_limited_group_needs_v1() {
    let host = Host::new();
    let group = Group::new("cpu").expect("a hierarchy of v1 with the controller cpu");
    let change = Change::Cgroup(CgroupLimit {
        path: group.path(),
        limit: Limit::Cpu { millis: 250 },
    });
    let quota = || group.read("cpu.cfs_quota_us");
    let before = quota();
    only_what_is_over_is_called_clean(&host, change, || quota() != before);
}

#[test]
#[ignore = "needs root: files"]
fn a_file_that_was_moved_away() {
    let host = Host::new();
    let path = host.path("f");
    host.write(&path, "kept");
    let change = Change::File(FileChange {
        path: path.display().to_string(),
        act: FileAct::MoveAway,
    });
    only_what_is_over_is_called_clean(&host, change, || host.read(&path).is_none());
}
