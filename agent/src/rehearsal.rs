//! `cellwall-agent change`: one drill of this node alone, without a conductor; for tests and benches.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scenarios::change::Change;
use scenarios::plan::{CellStep, PLAN_FORMAT, Plan, PlanTarget, Step};
use scenarios::scenario::Side;
use wire::Claim;

use crate::boottime::{Boottime, sleep_until};
use crate::changes::Hands;
use crate::drill::{Armed, Order, Reverted};
use crate::guardian::{Guardian, Home};
use crate::guards::{Identity, is_word};
use crate::halt::Halt;
use crate::journal;
use crate::kernel::memory;
use crate::kernel::process::forbid_core_dumps;
use crate::log::say;
use crate::revert;

/// How far ahead fire is: a little more than an agent wants at least.
const AHEAD: Duration = Duration::from_millis(60);
/// The port that a cut leaves open; nobody listens on it here.
const PORT: u16 = 7443;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// JSON list of changes, all put in force at once
    #[arg(value_name = "FILE")]
    pub changes: PathBuf,
    /// Where the journal is kept
    #[arg(long, value_name = "DIR")]
    pub state_dir: PathBuf,
    #[arg(long, default_value = "rehearsal")]
    pub drill: String,
    #[arg(long, default_value = "200ms")]
    pub duration: humantime::Duration,
    /// Nobody renews it
    #[arg(long, default_value = "10s")]
    pub lease: humantime::Duration,
    /// Control group for the guardian, made if it is missing; once for each hierarchy
    #[arg(long, value_name = "DIR")]
    pub guardian_cgroup: Vec<PathBuf>,
    /// Whose way to the agent's port a cut leaves open
    #[arg(long, default_value = "192.0.2.1")]
    pub operator: IpAddr,
}

/// Arms, fires and reverts, and says on standard output, a line each: `armed`, `firing`, `in force`,
/// `reverted`, then what is left. The answer is whether nothing was.
pub async fn run(options: Options) -> Result<bool, String> {
    memory::keep_no_large_blocks();
    forbid_core_dumps().map_err(|error| error.to_string())?;
    let me = Identity {
        cell: "here".into(),
        node: "here".into(),
    };
    if let Some(refusal) = Halt::of(&options.state_dir).refusal() {
        return Err(refusal);
    }
    if !is_word(&options.drill) {
        let drill = &options.drill;
        return Err(format!(
            "{drill:?} is no id of a drill; nothing was altered"
        ));
    }
    // Two rehearsals may run side by side, so an open journal forbids nothing.
    let corrupt = revert::corrupt(&options.state_dir).map_err(|error| error.to_string())?;
    if !corrupt.is_empty() {
        return Err(format!("{}; nothing was altered", corrupt.join("; ")));
    }
    let order = order(&options)?;
    let mut hands = Hands::of(&options.state_dir).map_err(|error| error.to_string())?;
    let directory = journal::directory(&options.state_dir);
    let path = journal::path_of(&directory, &options.drill);
    let home = Home::of(options.guardian_cgroup.clone());
    let guardian = Guardian::start(&path, &home)
        .await
        .map_err(|error| error.to_string())?;
    let over = drill(order, &me, &directory, guardian, &mut hands).await;
    home.until_left().await;
    over
}

async fn drill(
    order: Order,
    me: &Identity,
    directory: &Path,
    guardian: Guardian,
    hands: &mut Hands,
) -> Result<bool, String> {
    let armed = Armed::arm(order, me, PORT, directory, guardian, hands)
        .map_err(|error| error.to_string())?;
    say("armed");
    let mut firing = match armed.fire(Boottime::now().plus(AHEAD)) {
        Ok(firing) => firing,
        Err(refused) => {
            let (armed, error) = *refused;
            let over = armed.revert(hands, "fire failed");
            return match over.outcome.clean() {
                true => Err(format!("{error}; it is given up: nothing of ours is left")),
                false => {
                    say(&error.to_string());
                    Ok(told(&over))
                }
            };
        }
    };
    say("firing");
    let cause = loop {
        sleep_until(firing.wake()).await;
        let before = firing.in_force();
        if let Some(cause) = firing.act(hands) {
            break cause;
        }
        if firing.in_force() && !before {
            say("in force");
        }
    };
    Ok(told(&firing.revert(hands, &cause)))
}

fn told(over: &Reverted) -> bool {
    say(&format!("reverted: {}", over.cause));
    for line in over.outcome.told().iter().chain(&over.gaps) {
        say(line);
    }
    over.outcome.clean()
}

fn order(options: &Options) -> Result<Order, String> {
    let changes = read(&options.changes)?;
    let cell_step = CellStep {
        nodes: vec!["here".into()],
        changes,
    };
    let step = Step {
        id: 0,
        at_ms: 0,
        duration_ms: millis(*options.duration),
        side: Side::Target,
        title: String::new(),
        cells: BTreeMap::from([("here".to_owned(), cell_step)]),
    };
    Ok(Order {
        drill: options.drill.clone(),
        plan: Plan {
            format: PLAN_FORMAT,
            fleet: "here".into(),
            scenario: "rehearsal".into(),
            target: PlanTarget {
                cloud: "here".into(),
                cells: vec!["here".into()],
                prefixes: Vec::new(),
            },
            operator: vec![options.operator],
            lease_ms: Some(millis(*options.lease)),
            steps: vec![step],
            endpoints: Vec::new(),
        },
        plan_sha256: String::new(),
        claim: Claim::default(),
        armed_most: Duration::from_secs(60),
        pod_namespaces: true,
    })
}

fn read(path: &Path) -> Result<Vec<Change>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
