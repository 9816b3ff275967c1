//! What keeps a guardian alive when its agent is not: its own control group, and patience.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::make::freeze;
use crate::support::*;

fn start(host: &Host, sleeper: &Sleeper, lasts: &str, homes: &[String]) -> Changing {
    let more: Vec<&str> = homes
        .iter()
        .flat_map(|home| ["--guardian-cgroup", home.as_str()])
        .collect();
    let mut changing = host.change_with("d", &[freeze(sleeper)], lasts, &more);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    until("it bites", || sleeper.state() == 'T');
    changing
}

fn is_in(pid: i32, group: &str) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let name = Path::new(group).file_name().unwrap().to_str().unwrap();
    groups.lines().any(|line| line.ends_with(name))
}

/// A group for guardians beside each of these.
fn homes(groups: &[Group]) -> Vec<String> {
    groups
        .iter()
        .map(|group| group.path() + "-guardian")
        .collect()
}

#[test]
#[ignore = "needs root: control groups"]
fn it_lives_in_a_group_of_its_own_and_leaves_none_behind() {
    let (host, sleeper, groups) = (Host::new(), Sleeper::new(), Group::freezers());
    let homes = homes(&groups);
    let mut changing = start(&host, &sleeper, "1s", &homes);
    let guardian = guardian_of(changing.pid()).as_raw();
    for home in &homes {
        assert!(
            is_in(guardian, home) && !is_in(changing.pid() as i32, home),
            "{home}"
        );
    }
    let (code, text) = changing.ends();
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("a control group of its own"), "{text}");
    for home in &homes {
        assert!(!Path::new(home).exists(), "{home}");
    }
}

#[test]
#[ignore = "needs root: control groups"]
fn what_a_killed_guardian_leaves_is_removed_at_the_next_start() {
    let (host, sleeper, groups) = (Host::new(), Sleeper::new(), Group::freezers());
    let homes = homes(&groups);
    let mut changing = start(&host, &sleeper, "60s", &homes);
    changing.crash_with_guardian();
    host.revert_clean();
    assert_eq!(sleeper.state(), 'S');
    assert!(Path::new(&homes[0]).exists(), "nobody could remove it");
    let mut again = host.change_with(
        "e",
        &[freeze(&sleeper)],
        "200ms",
        &["--guardian-cgroup", &homes[0]],
    );
    again.ends_clean();
    assert!(!Path::new(&homes[0]).exists());
    for home in &homes[1..] {
        std::fs::remove_dir(home).unwrap();
    }
}

#[test]
#[ignore = "needs root: control groups"]
fn a_group_that_cannot_be_had_is_told_and_does_not_stop_a_drill() {
    let (host, sleeper) = (Host::new(), Sleeper::new());
    let place = host.path("no-group").display().to_string();
    let mut changing = start(&host, &sleeper, "300ms", std::slice::from_ref(&place));
    let (code, text) = changing.ends();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("a control group of its own"), "{text}");
    assert!(text.contains("below no mounted cgroup hierarchy"), "{text}");
    assert!(!Path::new(&place).exists());
    let mut changing = start(&Host::new(), &sleeper, "300ms", &[]);
    let (_, text) = changing.ends();
    assert!(text.contains("--guardian-cgroup"), "{text}");
}

/// A pod or service that is killed as a whole takes everything in its group along.
#[test]
#[ignore = "needs root: v2 control groups"]
fn it_outlives_the_kill_of_the_agents_whole_group_needs_v2() {
    let group = Group::new("v2").expect("a v2 hierarchy");
    let homes = homes(std::slice::from_ref(&group));
    let (host, sleeper) = (Host::new(), Sleeper::new());
    let mut changing = start(&host, &sleeper, "60s", &homes);
    group.put(changing.pid());
    group.write("cgroup.kill", "1");
    changing.child.wait().unwrap();
    host.closes("d");
    assert_eq!(sleeper.state(), 'S');
    until("the group is gone", || !Path::new(&homes[0]).exists());
}

/// Only a cut has a gate in the kernel. Nothing but the guardian ends the rest of what a hung agent holds.
#[test]
#[ignore = "needs root: signals, control groups"]
fn what_a_stopped_agent_holds_ends_a_second_past_its_lease() {
    let (host, sleeper) = (Host::new(), Sleeper::new());
    let mut changing = host.change_with("d", &[freeze(&sleeper)], "60s", &["--lease", "2s"]);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    until("it bites", || sleeper.state() == 'T');
    kill(Pid::from_raw(changing.pid() as i32), Signal::SIGSTOP).unwrap();
    host.closes("d");
    assert_eq!(sleeper.state(), 'S');
    let (code, text) = changing.ends();
    assert_eq!(code, None, "killed: {text}");
    let told = "the agent is still at it past the end of its lease: killing it";
    assert!(text.contains(told), "{text}");
}

/// In a v1 freezer not even SIGKILL ends the agent; in v2 it does.
#[test]
#[ignore = "needs root: control groups"]
fn what_an_undying_agent_holds_ends_before_it_and_is_closed_after_it() {
    for group in Group::freezers() {
        let homes = homes(std::slice::from_ref(&group));
        let (host, sleeper) = (Host::new(), Sleeper::new());
        let mut changing = start(&host, &sleeper, "500ms", &homes);
        group.put(changing.pid());
        group.freeze(true);
        if group.path.join("freezer.state").exists() {
            until("what it froze runs again", || sleeper.state() == 'S');
            assert_eq!(state_of(changing.pid()), 'D', "killed, and not gone");
            assert!(!host.has_closed("d"), "the frozen agent holds the lock");
            // Somebody else's, and not undone a second time.
            sleeper.signal(Signal::SIGSTOP);
            until("somebody stops it", || sleeper.state() == 'T');
            group.freeze(false);
        }
        host.closes("d");
        let v1 = group.path.join("freezer.state").exists();
        assert_eq!(sleeper.state(), if v1 { 'T' } else { 'S' });
        let (code, text) = changing.ends();
        assert_eq!(code, None, "killed: {text}");
        assert!(text.contains("past the deadline: killing it"), "{text}");
        let told = format!("it is frozen in {}", group.path());
        assert_eq!(text.contains(&told), v1, "{text}");
        until("the group is gone", || !Path::new(&homes[0]).exists());
    }
}
