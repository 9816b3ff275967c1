//! A plan in words: who changes what, how many prefixes after merging, which way.

use std::fmt;

use ipnet::IpNet;

use crate::change::{Change, Direction, Peers};
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
    /// The agent's word for the kind of change: `firewall`.
    pub kind: &'static str,
    /// Whether the prefixes are those that are spared (`everyone but`), not those that are cut.
    pub all_but: bool,
    /// Prefixes after merging.
    pub v4: usize,
    pub v6: usize,
    pub direction: Direction,
    /// What ends the change if the ones before it do not.
    pub ends_by: &'static [&'static str],
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
        .map(|(step, name, cell, change)| {
            let Change::Firewall(cut) = change;
            let prefixes = cut.peers.prefixes();
            let v4 = prefixes
                .iter()
                .filter(|prefix| matches!(prefix, IpNet::V4(_)))
                .count();
            ChangeLine {
                step: step.id,
                at_ms: step.at_ms,
                duration_ms: step.duration_ms,
                side: step.side,
                cell: name.clone(),
                nodes: cell.nodes.clone(),
                kind: change.kind(),
                all_but: matches!(cut.peers, Peers::AllBut(_)),
                v4,
                v6: prefixes.len() - v4,
                direction: cut.direction,
                ends_by: change.ends_by(),
            }
        })
        .collect()
}

impl fmt::Display for ChangeLine {
    /// `step 0, gd-aliyun (n1, n2): cut from everyone but 3 IPv4 and 2 IPv6 prefixes, both directions`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChangeLine {
            step, cell, v4, v6, ..
        } = self;
        let everyone = if self.all_but { "everyone but " } else { "" };
        let (nodes, way) = (self.nodes.join(", "), self.direction.words());
        write!(
            f,
            "step {step}, {cell} ({nodes}): cut from {everyone}{v4} IPv4 and {v6} IPv6 prefixes, {way}"
        )
    }
}
