//! A plan: everything that a drill will alter, where and for how long, before anything is touched.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::scenario::Side;

/// Version of the plan's shape; an agent refuses a plan of another one.
pub const PLAN_FORMAT: u32 = 1;

/// Goes whole to every agent, as JSON bytes; its digest is SHA-256 over exactly those bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub format: u32,
    pub fleet: String,
    pub scenario: String,
    pub target: PlanTarget,
    /// Addresses from which the conductor reaches the agents; (address, agent port) stays open, except
    /// for a cut that says `management: cut`.
    pub operator: Vec<IpAddr>,
    /// Without a renewal for this long every agent reverts; none: not before the deadline.
    #[serde(deserialize_with = "said")]
    pub lease_ms: Option<u64>,
    /// In the order of their ids, which are 0, 1, 2, ...
    pub steps: Vec<Step>,
    /// Declared endpoints inside the target cloud.
    pub endpoints: Vec<EndpointCut>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanTarget {
    pub cloud: String,
    pub cells: Vec<String>,
    /// Merged; `on: others` cuts only these. A cloud as target: its prefixes and its cells' own. Cells
    /// by name: only their own, because others may stand in the same cloud.
    pub prefixes: Vec<IpNet>,
}

/// One timed step; all its agents act at the same instant, `at_ms` after fire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub id: u32,
    pub at_ms: u64,
    pub duration_ms: u64,
    pub side: Side,
    /// What the step is, in the scenario's words; for people only.
    pub title: String,
    /// Cell -> what every node of that cell changes.
    pub cells: BTreeMap<String, CellStep>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellStep {
    pub nodes: Vec<String>,
    pub changes: Vec<Change>,
}

/// A dependency that some cell declares and that stands inside the target cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointCut {
    /// Who declares it.
    pub cell: String,
    pub name: String,
    pub address: IpAddr,
    pub port: u16,
    /// Whether the plan cuts `cell` from it.
    pub cut: bool,
    /// Whether `cell` is one that must survive; then `cut: false` makes the drill inconclusive.
    pub survivor: bool,
}

/// A lease that is absent is not `none`: nobody gets a drill without a lease by leaving it out.
fn said<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Option::deserialize(from)
}

impl Step {
    /// When the step ends, in ms after fire. A plan comes over the wire, so this never overflows.
    pub fn ends_ms(&self) -> u64 {
        self.at_ms.saturating_add(self.duration_ms)
    }
}

impl Plan {
    /// When the last step ends, in ms after fire: the drill's own deadline.
    pub fn ends_ms(&self) -> u64 {
        self.steps.iter().map(Step::ends_ms).max().unwrap_or(0)
    }

    /// What ends a change of this plan, each without the ones before it.
    pub fn ends_by(&self, change: &Change) -> Vec<&'static str> {
        let ways = change.ends_by().iter().copied();
        ways.filter(|way| *way != "lease" || self.lease_ms.is_some())
            .collect()
    }

    /// Every change that this plan asks of one node, with the step it belongs to.
    pub fn changes_for<'a>(
        &'a self,
        cell: &'a str,
        node: &'a str,
    ) -> impl Iterator<Item = (&'a Step, &'a Change)> {
        self.steps.iter().flat_map(move |step| {
            step.cells
                .get(cell)
                .filter(|cell_step| cell_step.nodes.iter().any(|name| name == node))
                .into_iter()
                .flat_map(move |cell_step| cell_step.changes.iter().map(move |c| (step, c)))
        })
    }

    /// Every node that the plan alters, as (cell, node), each once, in order.
    pub fn nodes(&self) -> Vec<(String, String)> {
        let mut nodes: Vec<(String, String)> = self
            .steps
            .iter()
            .flat_map(|step| &step.cells)
            .flat_map(|(cell, step)| step.nodes.iter().map(|node| (cell.clone(), node.clone())))
            .collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library;
    use crate::read::{read_fleet, read_scenario};

    fn plan() -> serde_json::Value {
        let fleet = read_fleet(include_str!("../tests/fleet.yaml"), "f").unwrap();
        let drill = read_scenario(library::get("black-hole-cloud").unwrap(), "d").unwrap();
        serde_json::to_value(crate::planner::build(&fleet, &drill).unwrap()).unwrap()
    }

    fn read(plan: serde_json::Value) -> Result<Plan, String> {
        serde_json::from_value(plan).map_err(|error| error.to_string())
    }

    #[test]
    fn a_plan_of_before_there_was_anything_but_a_lease_still_reads() {
        let plan = plan();
        assert_eq!(plan["lease_ms"], 5_000);
        let text = plan.to_string();
        assert!(!text.contains("management"), "as it always was: {text}");
        assert_eq!(read(plan).unwrap().lease_ms, Some(5_000));
    }

    #[test]
    fn no_lease_must_be_said() {
        let mut plan = plan();
        plan["lease_ms"] = serde_json::Value::Null;
        assert_eq!(read(plan.clone()).unwrap().lease_ms, None);
        plan.as_object_mut().unwrap().remove("lease_ms");
        let error = read(plan).unwrap_err();
        assert!(error.contains("lease_ms"), "{error}");
    }
}
