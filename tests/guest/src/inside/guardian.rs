//! The guardian of an agent whose control group runs out of memory, or stands still.

use std::path::Path;
use std::time::Duration;

use scenarios::change::{Change, FileAct, FileChange};

use super::drill::Drill;
use super::groups;
use crate::report::Report;

const STATE: &str = "/run/state";
const FILE: &str = "/run/altered.conf";
const BEFORE: &str = "as it was\n";

pub fn play(report: &mut Report) -> Result<(), String> {
    groups::mounted()?;
    // As systemd does for a unit with Delegate and DelegateSubgroup=agent.
    let unit = groups::make("unit")?;
    groups::hand_down(&unit)?;
    let agent = groups::make("unit/agent")?;
    std::fs::write(FILE, BEFORE).map_err(|cause| cause.to_string())?;

    let drill = in_force(&agent, 600_000)?;
    let guardian = drill.guardian()?;
    let proc = |name: &str| groups::read(Path::new(&format!("/proc/{guardian}/{name}")));
    let (home, score) = (proc("cgroup")?, proc("oom_score_adj")?);
    report.holds(
        "the guardian lives beside the agent's group",
        home == "0::/unit/guardian",
        home,
    );
    report.holds("the kernel never chooses it", score == "-1000", score);

    // All in the agent's group die at once.
    groups::write(&agent.join("memory.oom.group"), "1")?;
    groups::write(&agent.join("memory.max"), "1")?;
    let ended = ended_by_guardian(&drill)?;
    let kills = groups::number(&agent.join("memory.events"), "oom_kill")?;
    let seen = format!("{kills} processes killed; {ended}");
    report.holds(
        "memory runs out for the agent: its guardian ends the fault",
        kills > 0 && is_back(),
        seen,
    );
    drop(drill);
    groups::write(&agent.join("memory.max"), "max")?;

    let lasts_ms = 2_000;
    let drill = in_force(&agent, lasts_ms)?;
    groups::write(&agent.join("cgroup.freeze"), "1")?;
    std::thread::sleep(Duration::from_millis(lasts_ms / 2));
    let early = is_back();
    let ended = ended_by_guardian(&drill)?;
    report.holds(
        "an agent that stands still past the end is killed by its guardian, which ends the fault",
        !early && is_back(),
        ended,
    );
    drop(drill);
    groups::write(&agent.join("cgroup.freeze"), "0")?;
    Ok(())
}

fn in_force(group: &Path, lasts_ms: u64) -> Result<Drill, String> {
    let change = Change::File(FileChange {
        path: FILE.to_owned(),
        act: FileAct::Replace {
            content: "altered\n".to_owned(),
        },
    });
    let started = groups::within(group, || {
        Drill::start(Path::new(STATE), &[change], lasts_ms)
    });
    let drill = started?.in_force()?;
    match is_back() {
        true => Err("the fault is in force, and nothing is altered".to_owned()),
        false => Ok(drill),
    }
}

fn is_back() -> bool {
    std::fs::read_to_string(FILE).is_ok_and(|text| text == BEFORE)
}

/// The agent is gone, and the journal is closed.
fn ended_by_guardian(drill: &Drill) -> Result<String, String> {
    for _ in 0..2_000 {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", drill.pid()));
        let dead = state.map_or(true, |text| text.contains(") Z "));
        if dead && is_back() {
            drill.closed_by_guardian()?;
            return Ok("the agent is dead, the file is back, the journal closed".to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(format!("after 20 s: the file is back: {}", is_back()))
}
