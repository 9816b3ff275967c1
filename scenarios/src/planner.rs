//! Planning: a fleet and a scenario to a plan, pure and the same for the same input, always.

mod describe;
mod effects;
mod endpoints;
mod overrides;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ipnet::IpNet;

use crate::change::{Management, Peers};
use crate::faults::{CellChanges, Scene};
use crate::fleet::Fleet;
use crate::input::InputError;
use crate::plan::{CellStep, PLAN_FORMAT, Plan, PlanTarget, Step};
use crate::prefixes::within;
use crate::scenario::{Consent, MethodStep, Scenario, Side};
use crate::target::{Target, TargetError};

pub use describe::{ChangeLine, describe};
pub use effects::effects;
pub use overrides::{OverrideError, with_rate, with_window};

/// Why there is no plan. Both point into the scenario's file; nothing was altered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The scenario does not fit the fleet: unknown names, meaningless parameters (exit code 64).
    #[error("{0}")]
    Input(InputError),
    /// The scenario is understood and must not be run as it is (exit code 3).
    #[error("{0}")]
    Refused(InputError),
}

impl PlanError {
    /// The error with its place in the file.
    pub fn input(&self) -> &InputError {
        match self {
            PlanError::Input(error) | PlanError::Refused(error) => error,
        }
    }

    /// The process exit code (architecture.md, "Exit codes").
    pub fn exit_code(&self) -> u8 {
        match self {
            PlanError::Input(_) => 64,
            PlanError::Refused(_) => 3,
        }
    }
}

/// Everything that a drill of this scenario would alter in this fleet.
pub fn build(fleet: &Fleet, scenario: &Scenario) -> Result<Plan, PlanError> {
    let target = resolve(fleet, scenario)?;
    check_budget(fleet, scenario, &target)?;
    check_degraded(fleet, scenario)?;
    check_lease(scenario)?;
    let steps = scenario.method.iter().enumerate();
    let steps = steps.map(|(index, method)| step(fleet, scenario, &target, index, method));
    let steps: Vec<Step> = steps.collect::<Result<_, _>>()?;
    let endpoints = endpoints::list(fleet, &target, &steps);
    Ok(Plan {
        format: PLAN_FORMAT,
        fleet: fleet.name.clone(),
        scenario: scenario.name.clone(),
        target: PlanTarget {
            cloud: target.cloud,
            cells: target.cells,
            prefixes: target.prefixes,
        },
        operator: fleet.operator.clone(),
        lease_ms: scenario.lease.map(millis),
        steps,
        endpoints,
    })
}

fn resolve(fleet: &Fleet, scenario: &Scenario) -> Result<Target, PlanError> {
    Target::resolve(fleet, &scenario.target).map_err(|error| {
        let at =
            |path: &str, message: String| InputError::at_value(&scenario.places, path, message);
        PlanError::Input(match error {
            TargetError::UnknownCloud(name) => at(
                "spec.target.cloud",
                format!("unknown cloud `{name}` in fleet {}", fleet.name),
            )
            .with_valid(fleet.clouds.keys()),
            TargetError::UnknownCell(index, name) => {
                let message = format!("unknown cell `{name}` in fleet {}", fleet.name);
                at(&format!("spec.target.cells[{index}]"), message).with_valid(fleet.cells.keys())
            }
            TargetError::Empty(name) => at(
                "spec.target",
                format!("the target is empty: no cell stands in cloud `{name}`"),
            ),
            TargetError::TwoClouds(index, name) => {
                let message =
                    format!("cell {name} stands in another cloud than the cells before it");
                at(&format!("spec.target.cells[{index}]"), message)
                    .with_hint("a drill breaks cells of one cloud")
            }
        })
    })
}

fn check_budget(fleet: &Fleet, scenario: &Scenario, target: &Target) -> Result<(), PlanError> {
    let refuse = |message: String, hint: &str| {
        let error = InputError::at_value(&scenario.places, "spec.target", message);
        Err(PlanError::Refused(error.with_hint(hint)))
    };
    let cells = target.cells.len();
    if cells > scenario.budget_cells {
        let message = format!(
            "the target is {cells} cells ({}), and the budget is {}",
            target.cells.join(", "),
            scenario.budget_cells
        );
        let hint = format!("write `budget: {{ cells: {cells} }}`; the agents have their own limit");
        return refuse(message, &hint);
    }
    if cells == fleet.cells.len() {
        let message = "the target is every cell of the fleet".to_owned();
        return refuse(
            message,
            "no cell would be left that could be proved not to notice",
        );
    }
    Ok(())
}

fn check_degraded(fleet: &Fleet, scenario: &Scenario) -> Result<(), PlanError> {
    for (index, name) in scenario.hypothesis.degraded.iter().enumerate() {
        if !fleet.probes.contains_key(name) {
            let path = format!("spec.hypothesis.target.degraded[{index}]");
            let message = format!("unknown probe `{name}` in fleet {}", fleet.name);
            let error = InputError::at_value(&scenario.places, &path, message);
            return Err(PlanError::Input(error.with_valid(fleet.probes.keys())));
        }
    }
    Ok(())
}

fn check_lease(scenario: &Scenario) -> Result<(), PlanError> {
    if scenario.lease.is_some() || scenario.allow.contains(&Consent::NoLease) {
        return Ok(());
    }
    let message = "without a lease a fault goes on when its conductor is gone, without consent";
    let error = InputError::at_value(&scenario.places, "spec.lease", message);
    Err(PlanError::Refused(error.with_hint(
        "write `allow: [no_lease]` under spec; the agents' policies must allow it too",
    )))
}

fn step(
    fleet: &Fleet,
    scenario: &Scenario,
    target: &Target,
    index: usize,
    method: &MethodStep,
) -> Result<Step, PlanError> {
    let path = format!("spec.method[{index}]");
    let others = method.side == Side::Others;
    if others && !scenario.allow.contains(&Consent::Others) {
        let message = "this step acts on cells that must not notice, without consent";
        let error = InputError::at_value(&scenario.places, &format!("{path}.on"), message);
        return Err(PlanError::Refused(
            error.with_hint("write `allow: [others]` under spec"),
        ));
    }
    let all = fleet.cells.keys();
    let acting: Vec<String> = all
        .filter(|&cell| target.cells.contains(cell) != others)
        .cloned()
        .collect();
    let scene = Scene {
        fleet,
        target,
        side: method.side,
        acting: &acting,
    };
    let fault_path = format!("{path}.fault.{}", method.fault.name());
    let changes = method.fault.changes(&scene).map_err(|error| {
        let path = format!("{fault_path}.{}", error.field);
        let input = InputError::at_value(&scenario.places, &path, error.message);
        PlanError::Input(input.with_valid(error.valid).with_hint(error.hint))
    })?;
    check_undo(scenario, &changes, &path)?;
    if others {
        check_towards_target(scenario, target, &changes, &fault_path)?;
    }
    check_management(scenario, &changes, &fault_path)?;
    let nodes = |cell: &str| fleet.cells.get(cell).map_or(&[][..], |cell| &cell.nodes);
    let cells = changes.into_iter().map(|(cell, changes)| {
        let nodes = nodes(&cell).iter().map(|node| node.name.clone()).collect();
        (cell, CellStep { nodes, changes })
    });
    Ok(Step {
        id: u32::try_from(index).unwrap_or(u32::MAX),
        at_ms: millis(method.at),
        duration_ms: millis(method.duration),
        side: method.side,
        title: method.fault.to_string(),
        cells: cells.collect(),
    })
}

/// What no undo brings back needs the scenario's consent, and the agents' beside it.
fn check_undo(scenario: &Scenario, changes: &CellChanges, path: &str) -> Result<(), PlanError> {
    if scenario.allow.contains(&Consent::Irreversible) {
        return Ok(());
    }
    let mut all = changes.iter().flat_map(|(_, changes)| changes);
    let Some((change, why)) = all.find_map(|c| Some((c, c.undo_impossible()?))) else {
        return Ok(());
    };
    let message = format!("{}: there is no undo, {why}", change.summary());
    let error = InputError::at_value(&scenario.places, &format!("{path}.fault"), message);
    Err(PlanError::Refused(
        error.with_hint("write `allow: [irreversible]` under spec"),
    ))
}

/// A fault that cuts its own conductor off can be neither aborted nor prolonged.
fn check_management(
    scenario: &Scenario,
    changes: &CellChanges,
    fault_path: &str,
) -> Result<(), PlanError> {
    let mut changes = changes.iter().flat_map(|(_, changes)| changes);
    let cut = changes.any(|change| {
        change
            .as_cut()
            .is_some_and(|cut| cut.management == Management::Cut)
    });
    if !cut || scenario.allow.contains(&Consent::CutManagement) {
        return Ok(());
    }
    let path = format!("{fault_path}.management");
    let message = "this cuts the conductor off from the agents, without consent";
    let error = InputError::at_value(&scenario.places, &path, message);
    Err(PlanError::Refused(error.with_hint(
        "write `allow: [cut_management]` under spec; the agents' policies must allow it too",
    )))
}

/// The cells that must not notice may only lose sight of the target, or the drill would harm them
/// itself.
fn check_towards_target(
    scenario: &Scenario,
    target: &Target,
    changes: &CellChanges,
    fault_path: &str,
) -> Result<(), PlanError> {
    let refuse = |what: &str| {
        let path = format!("{fault_path}.peers");
        let message = format!("on: others may only cut towards the target, and this cuts {what}");
        let error = InputError::at_value(&scenario.places, &path, message);
        Err(PlanError::Refused(error.with_hint("write `peers: target`")))
    };
    for change in changes.iter().flat_map(|(_, changes)| changes) {
        let Some(cut) = change.as_cut() else {
            return refuse(&format!("nothing: {}", change.summary()));
        };
        let beyond = |prefix: &&IpNet| !within(prefix, &target.prefixes);
        match &cut.peers {
            Peers::AllBut(_) => return refuse("everyone"),
            Peers::Only(prefixes) => {
                if let Some(prefix) = prefixes.iter().find(beyond) {
                    return refuse(&format!("{prefix}"));
                }
            }
        }
    }
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
