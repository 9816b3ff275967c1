//! A wall clock that jumps an hour forth and back: faults end by the time since boot, and the prober tells.

use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use scenarios::change::{Change, FileAct, FileChange};

use super::drill::Drill;
use crate::report::Report;

const FILE: &str = "/run/altered.conf";
const BEFORE: &str = "as it was\n";
const HOUR: i64 = 3_600;
const LASTS_MS: u64 = 3_000;
/// So long the prober has nothing to tell of clocks that run together.
const QUIET: Duration = Duration::from_millis(600);
/// More than the emulated machine takes for arm and revert.
const SLACK: Duration = Duration::from_millis(1_500);

pub fn play(report: &mut Report) -> Result<(), String> {
    std::fs::write(FILE, BEFORE).map_err(|cause| cause.to_string())?;
    for (name, jump) in [("forth", HOUR), ("back", -HOUR)] {
        for killed in [false, true] {
            jumped(report, name, jump, killed)?;
        }
        told_by_the_prober(report, name, jump)?;
    }
    Ok(())
}

/// Once, by how much, and nothing before it.
fn told_by_the_prober(report: &mut Report, name: &str, jump: i64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.map_err(|cause| cause.to_string())?;
    runtime.block_on(async {
        let mut clocks = probes::Clocks::since(tokio::time::Instant::now());
        let mut next = async || tokio::time::timeout(QUIET, clocks.next()).await.ok();
        let before = next().await;
        step(jump)?;
        let (told, after) = (next().await, next().await);
        let by = told.as_ref().map(|step| (step.wall_ms, step.suspended_ms));
        let near = by.is_some_and(|(wall, slept)| (wall - jump * 1_000).abs() < 100 && slept == 0);
        report.holds(
            &format!("the clock jumps an hour {name}: the prober tells it, once"),
            near && before.is_none() && after.is_none(),
            format!("before {before:?}, then {told:?}, then {after:?}"),
        );
        Ok(())
    })
}

fn step(seconds: i64) -> Result<(), String> {
    let wall = clock_gettime(ClockId::Realtime);
    let there = Timespec {
        tv_sec: wall.tv_sec + seconds,
        tv_nsec: wall.tv_nsec,
    };
    clock_settime(ClockId::Realtime, there).map_err(|cause| format!("set the clock: {cause}"))
}

/// Either the agent ends it, or its guardian after the agent was killed: at the deadline, not before.
fn jumped(report: &mut Report, name: &str, jump: i64, stopped: bool) -> Result<(), String> {
    let change = Change::File(FileChange {
        path: FILE.to_owned(),
        act: FileAct::Replace {
            content: "altered\n".to_owned(),
        },
    });
    let drill = Drill::start(Path::new("/run/state"), &[change], LASTS_MS)?.in_force()?;
    let begun = since_boot();
    step(jump)?;
    if stopped {
        let agent = nix::unistd::Pid::from_raw(drill.pid() as i32);
        let signal = nix::sys::signal::Signal::SIGSTOP;
        nix::sys::signal::kill(agent, signal).map_err(|cause| cause.to_string())?;
    }
    while std::fs::read_to_string(FILE).is_ok_and(|text| text != BEFORE) {
        if since_boot() > begun + Duration::from_secs(60) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = since_boot() - begun;
    let asked = Duration::from_millis(LASTS_MS);
    // A guardian waits another second for an agent that lives.
    let latest = asked + SLACK + Duration::from_secs(u64::from(stopped));
    let who = if stopped {
        "the guardian of a stopped agent"
    } else {
        "the agent"
    };
    report.holds(
        &format!("the clock jumps an hour {name}: {who} ends the fault in time"),
        took + Duration::from_millis(100) > asked && took < latest,
        format!("after {} ms of {LASTS_MS}", took.as_millis()),
    );
    if !stopped {
        let ended = drill.ends()?;
        if ended.code != Some(0) {
            report.holds("the agent says that nothing is left", false, ended.text);
        }
    }
    Ok(())
}

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
