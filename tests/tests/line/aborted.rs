//! A fault always ends: whoever dies or is stopped, real traffic flows again.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proof::drill::{BRIEF, LONG, assert_says, cli, library, start, start_text};
use proof::lab::Lab;
use proof::traffic::until;
use scenarios::verdict::Row;

use crate::users::{users_lost_target, users_reach_target};

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("the process is there");
}

/// After the conductor is gone every agent must say that it is done and clean.
pub fn all_agents_are_clean(lab: &Lab) -> bool {
    let output = cli(&["status", "--lab", &lab.name]);
    let text = String::from_utf8_lossy(&output.stdout).to_string();
    output.status.success() && !text.contains("firing") && !text.contains("armed")
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn ctrl_c_and_sigterm_revert_first() {
    let lab = Lab::up("interrupted", &[]);
    for asked in [Signal::SIGINT, Signal::SIGTERM] {
        let running = start(&lab, "black-hole-cloud", &BRIEF);
        running.until_fired();
        assert!(users_lost_target(&lab), "the fault bites");
        signal(running.pid(), asked);
        let drill = running.finish();
        drill.assert_exit(3);
        assert!(drill.text.contains("reverting first"), "{}", drill.text);
        assert!(users_reach_target(&lab), "reverted before the exit");
        assert!(all_agents_are_clean(&lab));
    }
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_conductor_killed_with_9_ends_the_fault_at_the_lease() {
    let lab = Lab::up("orphaned", &[]);
    let running = start(&lab, "black-hole-cloud", &LONG);
    running.until_fired();
    assert!(users_lost_target(&lab), "the fault bites");
    signal(running.pid(), Signal::SIGKILL);
    // The lease is 5 s; a look takes up to 2 s.
    let took = until("the lease ends the fault", Duration::from_secs(9), || {
        users_reach_target(&lab)
    });
    assert!(
        took > Duration::from_secs(1),
        "it was the lease, not the death: {took:?}"
    );
    until("agents are clean", Duration::from_secs(5), || {
        all_agents_are_clean(&lab)
    });
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn agents_that_are_killed_or_stopped_end_their_fault() {
    let mut lab = Lab::up("agents-die", &[]);
    let running = start(&lab, "black-hole-cloud", &BRIEF);
    running.until_fired();
    assert!(users_lost_target(&lab), "the fault bites");

    // The balancer is the only way in, so its agent alone decides what users see.
    signal(lab.agent_pid("gd-aliyun", "balancer"), Signal::SIGKILL);
    until(
        "the owner flag ends the fault",
        Duration::from_secs(4),
        || users_reach_target(&lab),
    );
    let drill = running.finish();
    drill.assert_exit(3);
    drill.assert_reason(&["gd-aliyun/balancer", "ended its part of the fault early"]);
    let truncated = |row: &&Row| row.notes.iter().any(|note| note.starts_with("truncated"));
    assert!(
        drill.rows("gd-aws/home").iter().any(truncated),
        "an agent that came back is no whole fault: {:?}",
        drill.rows("gd-aws/home")
    );
    until("agents are clean", Duration::from_secs(10), || {
        all_agents_are_clean(&lab)
    });

    lab.refresh();
    let running = start(&lab, "black-hole-cloud", &LONG);
    running.until_fired();
    assert!(users_lost_target(&lab), "the fault bites");
    let stopped = lab.agent_pid("gd-aliyun", "balancer");
    signal(stopped, Signal::SIGSTOP);
    until(
        "the kernel gate ends the fault",
        Duration::from_secs(9),
        || users_reach_target(&lab),
    );
    // The guardian kills the stopped agent after the deadline; the supervisor starts another.
    let drill = running.finish();
    assert_ne!(
        drill.exit_code, 0,
        "an agent that was lost is never a pass\n{}",
        drill.text
    );
    until(
        "the guardian ended it and another runs",
        Duration::from_secs(10),
        || {
            lab.refresh();
            let now = lab.running_agent_pid("gd-aliyun", "balancer");
            now.is_some_and(|now| now != stopped)
        },
    );
    until("agents are clean", Duration::from_secs(10), || {
        all_agents_are_clean(&lab)
    });
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn revert_ends_a_drill_from_outside() {
    let lab = Lab::up("reverted", &[]);
    let running = start(&lab, "black-hole-cloud", &BRIEF);
    running.until_fired();
    assert!(users_lost_target(&lab), "the fault bites");
    let drill = running.drill_id();
    assert_says(
        &cli(&["revert", &drill, "--lab", &lab.name]),
        0,
        &["gd-aliyun/balancer: clean"],
    );
    assert!(users_reach_target(&lab), "reverted");
    assert_says(&cli(&["revert", &drill, "--lab", &lab.name]), 0, &["clean"]);
    let ended = running.finish();
    assert_ne!(
        ended.exit_code, 0,
        "a fault that was cut short proves nothing\n{}",
        ended.text
    );
}

/// Half a fault proves nothing: an agent that dies between its answer to fire and the fire itself must
/// not go unnoticed, however long the lease is. Found by review: this ended in PASS.
#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn an_agent_that_dies_just_before_fire_denies_a_pass() {
    let lab = Lab::up("early-death", &["managed-database"]);
    let long_lease =
        library("black-hole-cloud").replace("  allow: [others]", "  allow: [others]\n  lease: 60s");
    let running = start_text(&lab, &long_lease, &BRIEF, Stdio::piped());
    running.until_fire_is_marked();
    signal(lab.agent_pid("gd-tencent", "front-1"), Signal::SIGKILL);
    signal(lab.agent_pid("gd-tencent", "front-2"), Signal::SIGKILL);
    let drill = running.finish();
    drill.assert_exit(3);
    drill.assert_reason(&["gd-tencent/front-"]);
}

/// A terminal that stands still (a pager, Ctrl-S) must not hold up the abort. Found by review.
#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_reader_that_stands_still_does_not_hold_up_the_abort() {
    let lab = Lab::up("paused", &["shared-config"]);
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut filler = writer.try_clone().expect("its other end");
    let running = start_text(&lab, library("black-hole-cloud"), &LONG, writer.into());
    running.until_fire_is_marked();
    std::thread::spawn(move || filler.write_all(&[b'.'; 1 << 20]));
    std::thread::sleep(Duration::from_secs(3));
    assert!(users_lost_target(&lab), "the fault bites");
    // The abort speaks 4.5 s after fire; the deadline is 20 s after it.
    until("the abort reverts", Duration::from_secs(9), || {
        users_reach_target(&lab)
    });
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    running.finish().assert_exit(1);
}
