//! Processes of the agent's own that use something up, and that never outlive it.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use agent::kernel::procfs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scenarios::change::{Change, HelperChange, HelperWork};

use crate::support::*;

const HELD: u64 = 48 << 20;

fn change(work: HelperWork) -> Change {
    Change::Helper(HelperChange { work })
}

fn burn() -> Change {
    change(HelperWork::BurnCpu { threads: 2 })
}

/// Helpers of the agent that keeps its journals in this host's folder.
fn helpers(host: &Host) -> Vec<u32> {
    let journals = host.state().join("journal").display().to_string();
    let pids = procfs::pids().unwrap().into_iter();
    pids.filter(|pid| {
        let words = procfs::command_line(*pid);
        procfs::stat(*pid).unwrap().is_some()
            && words.get(1).is_some_and(|word| word == "helper")
            && words.contains(&journals)
    })
    .collect()
}

fn firing(host: &Host, change: Change, lasts: &str) -> (Changing, u32) {
    let mut changing = host.change("d", &[change], lasts);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    // A helper is there a moment before it has said that it is ready.
    let journal = host.state().join("journal/d.journal");
    until("the change is in force", || {
        std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("\"applied\""))
    });
    (changing, helpers(host)[0])
}

/// Bytes that a process really has, of proc_pid_statm(5).
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .map_or(0, |pages| pages.parse().unwrap());
    pages * rustix::param::page_size() as u64
}

#[test]
#[ignore = "needs root: as the agent does"]
fn each_work_is_done_and_ends_with_its_time() {
    let host = Host::new();
    let (mut changing, helper) = firing(&host, burn(), "1500ms");
    until("two threads burn", || {
        let threads = procfs::threads(helper).unwrap();
        threads.iter().filter(|thread| thread.state == 'R').count() == 2
    });
    let score = std::fs::read_to_string(format!("/proc/{helper}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "1000", "the first to go");
    let fds = std::fs::read_dir(format!("/proc/{helper}/fd"))
        .unwrap()
        .flatten();
    let fds: Vec<_> = fds
        .map(|fd| std::fs::read_link(fd.path()).unwrap())
        .collect();
    for agents in ["socket:", "journal", "pidfd", "eventpoll"] {
        let inherited = fds.iter().any(|fd| fd.to_string_lossy().contains(agents));
        assert!(!inherited, "{agents}: {fds:?}");
    }
    changing.ends_clean();
    assert_eq!(state_of(helper), '-');

    let host = Host::new();
    let (mut changing, helper) =
        firing(&host, change(HelperWork::HoldMemory { bytes: HELD }), "3s");
    until("the memory is really there", || resident(helper) >= HELD);
    changing.ends_clean();
    assert_eq!(state_of(helper), '-');
}

#[test]
#[ignore = "needs root: as the agent does"]
fn it_ends_with_the_agent_whoever_is_left() {
    let host = Host::new();
    let (mut changing, helper) = firing(&host, burn(), "60s");
    kill(guardian_of_two(&changing, helper), Signal::SIGKILL).unwrap();
    changing.crash();
    until("the kernel ends it", || state_of(helper) == '-');
    host.revert_clean();

    let host = Host::new();
    let (mut changing, helper) = firing(&host, burn(), "60s");
    changing.crash();
    host.closes("d");
    assert!(helpers(&host).is_empty());
    until("it is reaped", || state_of(helper) == '-');
}

/// The agent's other child.
fn guardian_of_two(changing: &Changing, helper: u32) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", changing.pid());
    let children = std::fs::read_to_string(children).unwrap();
    let mut pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
    Pid::from_raw(pids.find(|pid| *pid != helper as i32).unwrap())
}

#[test]
#[ignore = "needs root: as the agent does"]
fn one_that_ends_before_its_time_is_told() {
    let host = Host::new();
    let (mut changing, helper) = firing(&host, burn(), "1500ms");
    kill(Pid::from_raw(helper as i32), Signal::SIGKILL).unwrap();
    let (code, text) = changing.ends();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("has ended before its time"), "{text}");
}

#[test]
#[ignore = "needs root: as the agent does"]
fn what_the_machine_has_not_got_is_refused() {
    let there = procfs::memory_available().unwrap();
    for (work, why) in [
        (HelperWork::BurnCpu { threads: 0 }, "threads here"),
        (HelperWork::BurnCpu { threads: 9_999 }, "threads here"),
        (HelperWork::HoldMemory { bytes: 0 }, "can be had now"),
        (HelperWork::HoldMemory { bytes: there }, "can be had now"),
    ] {
        let host = Host::new();
        let (code, text) = host.change("d", &[change(work)], "5s").ends();
        assert_eq!(code, Some(70), "{text}");
        assert!(text.contains(why), "{text}");
        assert!(helpers(&host).is_empty());
    }
}

/// Agents of several nodes share a machine in a lab, and a drill has one name on all of them.
#[test]
#[ignore = "needs root: as the agent does"]
fn another_agents_helper_of_the_same_drill_is_left_alone() {
    let (host, other) = (Host::new(), Host::new());
    let (_long, theirs) = firing(&other, burn(), "60s");
    let (mut changing, _) = firing(&host, burn(), "300ms");
    changing.ends_clean();
    host.revert_clean();
    assert_eq!(helpers(&other), [theirs]);
}

#[test]
#[ignore = "needs root: as the agent does"]
fn a_foreign_process_with_a_helpers_command_line_is_left_alone() {
    let host = Host::new();
    let folder = host.path("imposter");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("helper"), "read _").unwrap();
    let mut imposter = Command::new("sh")
        .arg0("/proc/self/exe")
        .args(["helper", "--name", "cellwall_d_0_0", "--journals"])
        .arg(host.state().join("journal"))
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    until("it looks like one", || helpers(&host) == [imposter.id()]);
    let (code, text) = host.change("d", &[burn()], "300ms").ends();
    let lives = imposter.try_wait().unwrap().is_none();
    drop(imposter.stdin.take());
    imposter.wait().unwrap();
    assert_eq!(code, Some(0), "{text}");
    assert!(lives, "it was killed");
}
