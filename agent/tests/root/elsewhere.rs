//! Where a way back cannot be walked or kept: in another namespace than the change was made in what cannot
//! be seen is not gone and stays owed, and a state directory of others is none.

use agent::kernel::procfs;
use scenarios::change::{
    CgroupLimit, Change, FileAct, FileChange, FilesystemAct, FilesystemChange, Limit, ProcessAct,
    ProcessChange, Processes,
};
use serde_json::json;

use crate::support::*;

/// Reverts with these programs around, which must leave it and say so; then where the change was made.
fn owed_until_it_is_seen(host: &Host, around: &[&str], word: &str, bites: impl Fn() -> bool) {
    for _ in 0..2 {
        let output = host.revert_all_in(around);
        let told = text(&output);
        assert_eq!(output.status.code(), Some(4), "{told}");
        assert!(told.contains(word), "{told}");
        assert!(bites(), "{told}");
    }
    host.revert_clean();
    assert!(!bites());
}

fn crashed(host: &Host, around: &[&str], change: Change, bites: impl Fn() -> bool) {
    let mut changing = host.change_in(around, "d", &[change], "1h", &[]);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    until("it bites", &bites);
    changing.crash_with_guardian();
}

/// Hides what is mounted at the path.
fn without(point: &str) -> [String; 6] {
    let line = format!("umount -l {point} && exec \"$@\"");
    ["unshare", "--mount", "sh", "-c", &line, "sh"].map(str::to_owned)
}

#[test]
#[ignore = "needs root: mounts"]
fn a_file_in_memory() {
    let host = Host::new();
    let point = host.tmpfs("memory", "size=1m");
    let path = point.join("f");
    host.write(&path, "kept");
    let change = Change::File(FileChange {
        path: path.display().to_string(),
        act: FileAct::MoveAway,
    });
    let bites = || host.read(&path).is_none();
    crashed(&host, &[], change, bites);
    let around = without(&point.display().to_string());
    let around: Vec<&str> = around.iter().map(String::as_str).collect();
    owed_until_it_is_seen(&host, &around, "sees it, and not here", bites);
}

#[test]
#[ignore = "needs root: mounts"]
fn a_full_file_system_in_memory() {
    let host = Host::new();
    let point = host.tmpfs("memory", "size=1m");
    let change = Change::Filesystem(FilesystemChange {
        path: point.display().to_string(),
        act: FilesystemAct::Fill { leave_bytes: 0 },
    });
    let probe = point.join("probe").display().to_string();
    let bites = || !host.succeeds("dd", &format!("if=/dev/zero of={probe} bs=64k count=1"));
    crashed(&host, &[], change, bites);
    let around = without(&point.display().to_string());
    let around: Vec<&str> = around.iter().map(String::as_str).collect();
    owed_until_it_is_seen(&host, &around, "sees it, and not here", bites);
}

#[test]
#[ignore = "needs root: control groups"]
fn a_group_whose_hierarchy_is_hidden_needs_v1() {
    let host = Host::new();
    let group = Group::new("cpu").expect("a hierarchy of v1 with the controller cpu");
    let change = Change::Cgroup(CgroupLimit {
        path: group.path(),
        limit: Limit::Cpu { millis: 250 },
    });
    let before = group.read("cpu.cfs_quota_us");
    let bites = || group.read("cpu.cfs_quota_us") != before;
    crashed(&host, &[], change, bites);
    let around = without("/sys/fs/cgroup/cpu");
    let around: Vec<&str> = around.iter().map(String::as_str).collect();
    owed_until_it_is_seen(&host, &around, "cpu.cfs_quota_us", bites);
}

/// Enters this group and a cgroup namespace of its own, and mounts there what the path is in anew: only what
/// is below the group is seen.
fn below(group: &Group, options: &str) -> [String; 4] {
    let point = group.path.parent().unwrap().display();
    let line = format!(
        "echo $$ > {}/cgroup.procs && exec unshare --cgroup --mount sh -c \
         'umount -l {point} && mount {options} none {point} && exec \"$@\"' sh \"$@\"",
        group.path()
    );
    ["sh", "-c", &line, "sh"].map(str::to_owned)
}

#[test]
#[ignore = "needs root: namespaces, control groups"]
fn a_frozen_group_of_another_cgroup_namespace() {
    for (hierarchy, options) in [("v2", "-t cgroup2"), ("freezer", "-t cgroup -o freezer")] {
        let Some(group) = Group::new(hierarchy) else {
            continue; // the test of limits needs v1, and all others v2
        };
        let (host, member, beside) = (Host::new(), Sleeper::new(), Group::new(hierarchy).unwrap());
        group.put(member.pid());
        let change = Change::Process(ProcessChange {
            processes: Processes::Cgroup(group.path()),
            act: ProcessAct::Freeze,
        });
        let bites = || group.is_frozen();
        crashed(&host, &[], change, bites);
        let around = below(&beside, options);
        let around: Vec<&str> = around.iter().map(String::as_str).collect();
        owed_until_it_is_seen(&host, &around, "another part of its hierarchy", bites);
    }
}

#[test]
#[ignore = "needs root: namespaces, control groups"]
fn a_limit_of_another_cgroup_namespace_needs_v1() {
    let host = Host::new();
    let (group, beside) = (Group::new("cpu").unwrap(), Group::new("cpu").unwrap());
    let change = Change::Cgroup(CgroupLimit {
        path: group.path(),
        limit: Limit::Cpu { millis: 250 },
    });
    let before = group.read("cpu.cfs_quota_us");
    let bites = || group.read("cpu.cfs_quota_us") != before;
    crashed(&host, &[], change, bites);
    let around = below(&beside, "-t cgroup -o cpu");
    let around: Vec<&str> = around.iter().map(String::as_str).collect();
    owed_until_it_is_seen(&host, &around, "another part of its hierarchy", bites);
}

const NEW_PID_NAMESPACE: [&str; 4] = ["unshare", "--pid", "--fork", "--mount-proc"];

#[test]
#[ignore = "needs root: namespaces, signals"]
fn a_process_of_another_pid_namespace() {
    let (host, sleeper) = (Host::new(), Sleeper::new());
    let change = Change::Process(ProcessChange {
        processes: Processes::Pids(vec![sleeper.pid()]),
        act: ProcessAct::Freeze,
    });
    let bites = || sleeper.state() == 'T';
    crashed(&host, &[], change, bites);
    owed_until_it_is_seen(
        &host,
        &NEW_PID_NAMESPACE,
        "which is not seen from here",
        bites,
    );
}

/// A container that is started anew: whoever sees every process of the machine knows that all of the old one
/// have ended.
#[test]
#[ignore = "needs root: namespaces, signals"]
fn a_process_that_ended_with_its_pid_namespace() {
    let host = Host::new();
    let line = "sleep 600 & echo \"[{\\\"process\\\":{\\\"processes\\\":{\\\"pids\\\":[$!]},\
                \\\"act\\\":\\\"freeze\\\"}}]\" > $0; \"$@\"";
    let file = host.path("inner.json");
    let name = file.display().to_string();
    let around = [
        &NEW_PID_NAMESPACE[..],
        &["--kill-child", "sh", "-c", line, &name],
    ]
    .concat();
    let mut changing = host.change_file_in(&around, "d", &file, "1h", &[]);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    changing.crash(); // and with its first process all of the namespace
    let journal = host.state().join("journal/d.journal");
    until("its guardian is gone too", || {
        !text(&host.revert_all_in(&NEW_PID_NAMESPACE)).contains("locked")
    });
    assert!(
        std::fs::read_to_string(&journal)
            .unwrap()
            .contains("undo_failed")
    );
    host.revert_clean();
}

/// The only process of a PID namespace but its first, until this is dropped.
struct Below {
    first: std::process::Child,
    /// Its number in that namespace, and here.
    inside: u32,
    outside: u32,
}

impl Below {
    fn new() -> Self {
        let mut command = std::process::Command::new("unshare");
        let line = "sleep 600 & wait";
        command.args(["--pid", "--fork", "--kill-child", "sh", "-c", line]);
        let first = command.spawn().unwrap();
        let mut chain = vec![first.id()];
        until("it sleeps", || {
            let sleeper = child_of(first.id()).and_then(child_of);
            sleeper.is_some_and(|pid| {
                procfs::command_line(pid)
                    .first()
                    .is_some_and(|w| w == "sleep")
            })
        });
        chain.extend(child_of(first.id()));
        chain.extend(chain.last().copied().and_then(child_of));
        Self {
            first,
            inside: 2,
            outside: chain[2],
        }
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// What an agent in a PID namespace has journaled, read above it: its number means another process.
#[test]
#[ignore = "needs root: namespaces, signals"]
fn a_process_of_a_pid_namespace_below() {
    let (host, below) = (Host::new(), Below::new());
    let started = procfs::stat(below.outside).unwrap().unwrap().started;
    let pinned = |pid, started| {
        procfs::seen_from_above(procfs::Pinned {
            pid,
            started,
            namespace: None,
        })
        .unwrap()
    };
    assert_eq!(pinned(below.inside, started), Some(below.outside));
    assert_eq!(pinned(below.inside, started + 100), None, "another one");
    let undo = json!({ "process": { "stopped": [{ "pid": below.inside, "started": started }] } });
    host.journals("process", serde_json::from_value(undo).unwrap());
    let outside = nix::unistd::Pid::from_raw(below.outside as i32);
    nix::sys::signal::kill(outside, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let stands_still = || state_of(below.outside) == 'T';
    until("it stands still", stands_still);
    let output = host.revert_all();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(4), "{told}");
    let word = format!("it is process {} here", below.outside);
    assert!(told.contains(&word) && stands_still(), "{told}");
    let target = below.outside.to_string();
    let inside = ["nsenter", "--target", &target, "--pid"];
    let line = "mount -t proc proc /proc && exec \"$@\"";
    let inside = [&inside[..], &["unshare", "--mount", "sh", "-c", line, "sh"]].concat();
    let output = host.revert_all_in(&inside);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!stands_still());
}

/// In a sticky folder nobody but its owner moves what belongs to others.
#[test]
#[ignore = "needs root: chown"]
fn a_sticky_state_directory_is_no_excuse_for_its_foreign_owner() {
    let host = Host::new();
    let sleeper = Sleeper::new();
    let change = Change::Process(ProcessChange {
        processes: Processes::Pids(vec![sleeper.pid()]),
        act: ProcessAct::Freeze,
    });
    std::fs::create_dir_all(host.state()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(host.state(), mode).unwrap();
    std::os::unix::fs::chown(host.state(), Some(1000), None).unwrap();
    let (code, told) = host.change("d", std::slice::from_ref(&change), "1s").ends();
    assert_eq!(code, Some(70), "{told}");
    assert!(told.contains("belongs to user 1000"), "{told}");
    assert_eq!(sleeper.state(), 'S');
    std::os::unix::fs::chown(host.state(), Some(0), None).unwrap();
    host.change("e", &[change], "100ms").ends_clean();
}
