//! From a scenario and a fleet to a checked plan, offline: what would be refused is refused here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use scenarios::effects::Effects;
use scenarios::fleet::Fleet;
use scenarios::history::{Judgement, Stream};
use scenarios::plan::Plan;
use scenarios::planner;
use scenarios::scenario::{Scenario, TargetSelector};
use scenarios::traffic::TrafficCounts;
use scenarios::verdict::SETTLE_BLOCKS;
use scenarios::verdict::windows::Asked;

use crate::cli::{FleetArguments, ScenarioArguments};
use crate::failure::Failure;
use crate::place::{self, Place, Reach};

/// Error bound of a whole run (verdict.md 0).
pub const ALPHA: f64 = 0.01;
pub use probes::BLOCK_MS;
/// Share of bad probes assumed of a healthy stream until a baseline was measured.
const ASSUMED_BAD: f64 = 0.005;
/// An agent's acknowledgement of fire, at most.
const ACK_MS: u64 = 200;

/// Everything that is known before any agent is asked.
pub struct Prepared {
    pub place: Place,
    pub scenario: Scenario,
    pub plan: Plan,
    pub streams: Vec<Stream>,
    pub effects: Effects,
}

pub fn prepare(
    scenario: &ScenarioArguments,
    fleet: &FleetArguments,
    reach: Reach,
) -> Result<Prepared, Failure> {
    prepare_for(scenario, fleet, reach, None)
}

/// With another target than the scenario's own.
pub fn prepare_for(
    scenario: &ScenarioArguments,
    fleet: &FleetArguments,
    reach: Reach,
    target: Option<TargetSelector>,
) -> Result<Prepared, Failure> {
    let (text, file) = source(&scenario.scenario)?;
    let mut place = place::find(fleet, reach)?;
    let mut read = scenarios::read_scenario_bytes(&text, &file)?;
    if let Some(window) = scenario.size.window {
        planner::with_window(&mut read, window)?;
    }
    if let Some(target) = target {
        read.target = target;
    }
    if let Some(rate) = scenario.size.rate {
        planner::with_rate(&mut place.fleet, rate)?;
    }
    let plan = planner::build(&place.fleet, &read)?;
    let effects = planner::effects(&place.fleet, &read, &plan)?;
    let streams = probes::streams(&place.fleet, &plan.target.cells);
    Ok(Prepared {
        place,
        scenario: read,
        plan,
        streams,
        effects,
    })
}

/// A path if there is such a file, else a name of the library.
fn source(name: &str) -> Result<(Vec<u8>, String), Failure> {
    let path = Path::new(name);
    let looks_like_path = name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml");
    if looks_like_path || path.is_file() {
        return Ok((place::read(path)?, name.to_string()));
    }
    match scenarios::library::get(name) {
        Some(text) => Ok((text.as_bytes().to_vec(), format!("library:{name}"))),
        None => Err(Failure::UnknownScenario {
            name: name.to_string(),
            known: scenarios::library::names().collect::<Vec<_>>().join(", "),
        }),
    }
}

impl Prepared {
    pub fn fleet(&self) -> &Fleet {
        &self.place.fleet
    }

    /// The parameters of the verdict; `skew_ms` is the worst clock skew bound of all agents.
    pub fn judgement(&self, skew_ms: u64) -> Judgement {
        let hypothesis = &self.scenario.hypothesis;
        let after_ms = millis(self.scenario.after);
        let watched_ms = self.plan.ends_ms() + after_ms;
        let planned = watched_ms.div_ceil(BLOCK_MS).saturating_add(SETTLE_BLOCKS);
        let probed = self.streams.iter().filter(|stream| stream.is_probed());
        let slowest_ms = probed.map(|s| s.slo_ms.unwrap_or(s.timeout_ms)).max();
        Judgement {
            alpha: ALPHA,
            margin: hypothesis.isolated_within,
            effective_min: hypothesis.by_at_least,
            degraded: hypothesis.degraded.clone(),
            block_ms: BLOCK_MS,
            planned_blocks: u32::try_from(planned).unwrap_or(u32::MAX),
            guard_ms: ACK_MS + slowest_ms.unwrap_or(0) + skew_ms,
            recovery_within_ms: millis(hypothesis.recovery_within),
            after_ms,
            lost_max: hypothesis.data.map(|data| data.lost),
            coverage: self.coverage(),
            users_only: self.users_only(),
            effects: self.effects.clone(),
        }
    }

    fn coverage(&self) -> BTreeMap<String, f64> {
        let traffic = self.fleet().traffic.iter();
        traffic
            .filter_map(|(name, traffic)| Some((name.clone(), traffic.coverage?)))
            .collect()
    }

    fn users_only(&self) -> BTreeSet<String> {
        let traffic = self.fleet().traffic.iter();
        let users_only = traffic.filter(|(_, traffic)| traffic.counts == TrafficCounts::Users);
        users_only.map(|(name, _)| name.clone()).collect()
    }

    /// Blocks of every stream begin together at whole multiples of this.
    pub fn fire_grid_ms(&self) -> u64 {
        let lengths = self.streams.iter().map(|stream| stream.block_ms(BLOCK_MS));
        lengths.fold(BLOCK_MS, |grid, length| {
            let (mut a, mut b) = (grid, length.max(1));
            while b > 0 {
                (a, b) = (b, a % b);
            }
            grid / a * length.max(1)
        })
    }

    /// What the planner is asked about the windows.
    pub fn asked(&self) -> Asked {
        let hypothesis = &self.scenario.hypothesis;
        let propagation = hypothesis.propagation.unwrap_or_default();
        Asked {
            alpha: ALPHA,
            margin: self.scenario.hypothesis.isolated_within,
            p: ASSUMED_BAD,
            before_ms: millis(self.scenario.before),
            fault_ms: self.plan.ends_ms(),
            after_ms: millis(self.scenario.after),
            block_ms: BLOCK_MS,
            propagation_s: propagation.as_secs_f64().ceil() as u64,
            episode_s: hypothesis.episode.unwrap_or_default().as_secs_f64(),
        }
    }
}

pub fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
