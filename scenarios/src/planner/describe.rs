//! A plan in words: who changes what, and what ends it.

use std::fmt;

use crate::plan::Plan;
use crate::scenario::Side;

/// One change of one cell in one step, as `cellwall plan` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ChangeLine {
    pub step: u32,
    pub at_ms: u64,
    pub duration_ms: u64,
    pub side: Side,
    pub cell: String,
    pub nodes: Vec<String>,
    /// The agent's word for the kind of change, such as `firewall`.
    pub kind: &'static str,
    /// What is altered, in words.
    pub summary: String,
    /// What ends the change if the ones before it do not.
    pub ends_by: Vec<&'static str>,
    /// Why there is no undo, if there is none.
    pub undo_impossible: Option<&'static str>,
}

/// One line for every change of the plan, in the order of steps and cells.
pub fn describe(plan: &Plan) -> Vec<ChangeLine> {
    let steps = plan.steps.iter();
    let cells = steps.flat_map(|step| {
        step.cells
            .iter()
            .map(move |(name, cell)| (step, name, cell))
    });
    let changes = cells.flat_map(|(step, name, cell)| {
        cell.changes
            .iter()
            .map(move |change| (step, name, cell, change))
    });
    changes
        .map(|(step, name, cell, change)| ChangeLine {
            step: step.id,
            at_ms: step.at_ms,
            duration_ms: step.duration_ms,
            side: step.side,
            cell: name.clone(),
            nodes: cell.nodes.clone(),
            kind: change.kind(),
            summary: change.summary(),
            ends_by: plan.ends_by(change),
            undo_impossible: change.undo_impossible(),
        })
        .collect()
}

impl fmt::Display for ChangeLine {
    /// `step 0, gd-aliyun (n1, n2): cut from everyone but 3 IPv4 and 2 IPv6 prefixes, both directions`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChangeLine {
            step,
            cell,
            summary,
            ..
        } = self;
        let nodes = self.nodes.join(", ");
        write!(f, "step {step}, {cell} ({nodes}): {summary}")
    }
}
