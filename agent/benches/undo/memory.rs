//! Memory of a serving agent and its guardian together with a fault in force.

use std::time::Duration;

use scenarios::change::Change;

use crate::figure::{Figure, Unit};
use crate::root::support::{AgentProcess, Way, guardian_of, plan, step};
use crate::{Bench, cloud, millis, one};

const LEASE_MS: u64 = 30_000;
const DURATION_MS: u64 = 60_000;

/// MiB of one process.
#[derive(Clone, Copy)]
struct Held {
    rss: f64,
    pss: f64,
}

struct Run {
    agent: Held,
    guardian: Held,
    /// Milliseconds of the conductor's Arm call.
    arm: f64,
}

pub fn measure(bench: &Bench) -> Vec<Figure> {
    use Unit::{Mebibytes, Millis};
    let mut figures = Vec::new();
    for (what, change) in [("one prefix", one()), ("60,000 prefixes", cloud())] {
        let runs = each(bench, &change);
        let mut add = |name: &str, unit, wanted, value: fn(&Run) -> f64| {
            let values = runs.iter().map(value).collect();
            let name = format!("{name}, {what}");
            figures.push(Figure::new(&name, unit, wanted, values));
        };
        add("RSS of agent and guardian", Mebibytes, Some(16.0), |run| {
            run.agent.rss + run.guardian.rss
        });
        add("of it the agent's", Mebibytes, None, |run| run.agent.rss);
        add("PSS of both (shared text once)", Mebibytes, None, |run| {
            run.agent.pss + run.guardian.pss
        });
        add("the conductor's Arm call", Millis, None, |run| run.arm);
    }
    figures
}

/// One agent for all runs, as in the field: what an earlier drill left in it counts.
fn each(bench: &Bench, change: &Change) -> Vec<Run> {
    let site = &bench.site;
    let state = tempfile::tempdir_in(bench.dir.path()).expect("a folder");
    let quiet = ["env".to_owned(), "RUST_LOG=error".to_owned()];
    let way = Way {
        around: &quiet,
        ..Way::usual(state.path())
    };
    let agent = AgentProcess::start_as(&way, &site.node, &site.pki);
    let client = site.client();
    let plan = plan(LEASE_MS, vec![step(0, 0, DURATION_MS, change.clone())]);
    let mut runs = Vec::new();
    for run in 0..bench.runs {
        let drill = format!("memory{run}");
        let begun = std::time::Instant::now();
        client.arm(&drill, &plan).expect("an armed drill");
        let arm = millis(begun.elapsed());
        let ahead = Duration::from_millis(100);
        client.fire_in(&drill, ahead).expect("a fire");
        std::thread::sleep(ahead * 2);
        runs.push(Run {
            agent: held(agent.pid()),
            guardian: held(guardian_of(agent.pid()).as_raw().cast_unsigned()),
            arm,
        });
        client.revert_clean(&drill);
        std::thread::sleep(Duration::from_millis(400)); // its guardian looks every 200 ms
    }
    runs
}

fn held(pid: u32) -> Held {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{path}: {cause}"));
    let mebibytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kibibytes.unwrap_or_else(|| panic!("{path} has no {name}")) / 1_024.0
    };
    Held {
        rss: mebibytes("Rss:"),
        pss: mebibytes("Pss:"),
    }
}
