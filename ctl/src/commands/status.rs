//! `cellwall status`: what every agent of the fleet is doing.

use scenarios::fleet::Fleet;
use serde::Serialize;
use wire::{Datapath, State};

use crate::agents::{self, Agent, Identities, Silent};
use crate::cli::StatusArguments;
use crate::failure::Failure;
use crate::output;
use crate::place::{self, Reach};

#[derive(Default, Serialize)]
struct AgentRow {
    cell: String,
    node: String,
    /// `unreachable` if it could not be asked.
    state: String,
    drill: String,
    version: String,
    policy: bool,
    lease_left_ms: u64,
    deadline_left_ms: u64,
    skew_us: u64,
    residue: Vec<String>,
    /// Why the agent takes no drill; absent if it does.
    halted: Option<String>,
    detail: String,
    /// What the node's kernel can, its CNI, and the way to each pod; empty if it could not be asked.
    datapath: String,
}

/// One line for all nodes that have the same.
fn datapaths(rows: &[AgentRow]) -> Vec<String> {
    let asked: Vec<&AgentRow> = rows.iter().filter(|row| !row.datapath.is_empty()).collect();
    let mut nodes: Vec<(&str, Vec<String>)> = Vec::new();
    for row in &asked {
        let node = format!("{}.{}", row.node, row.cell);
        match nodes
            .iter_mut()
            .find(|(datapath, _)| *datapath == row.datapath)
        {
            Some((_, others)) => others.push(node),
            None => nodes.push((&row.datapath, vec![node])),
        }
    }
    let line = |(datapath, nodes): &(&str, Vec<String>)| {
        let who = match nodes.len() {
            many if many > 1 && many == asked.len() => format!("all {many} nodes"),
            _ => nodes.join(", "),
        };
        format!("datapath of {who}: {datapath}")
    };
    nodes.iter().map(line).collect()
}

/// Exit 0 if every agent answers and none holds residue, 4 for residue, 3 for silent agents.
pub fn run(arguments: &StatusArguments) -> Result<u8, Failure> {
    let place = place::find(&arguments.fleet, Reach::Live)?;
    let identities = Identities::read(&place.fleet, &place.file, "nothing was altered")?;
    let rows = super::block_on(async { Ok(ask(&place.fleet, &identities).await) })?;
    output::say(table(&rows).trim_end());
    for line in datapaths(&rows) {
        output::say(&line);
    }
    output::write_json(&arguments.json, &rows)?;
    let residue = rows.iter().any(|row| !row.residue.is_empty());
    let silent = rows.iter().any(|row| row.state == "unreachable");
    Ok(if residue {
        4
    } else if silent {
        3
    } else {
        0
    })
}

async fn ask(fleet: &Fleet, identities: &Identities) -> Vec<AgentRow> {
    let nodes = agents::all_nodes(fleet);
    let answers = agents::connect(fleet, &nodes, identities).await;
    answers
        .into_iter()
        .map(|answer| answer.map_or_else(unreachable_row, |agent| row(&agent)))
        .collect()
}

fn row(agent: &Agent) -> AgentRow {
    let status = &agent.status;
    let mut detail = Vec::new();
    let halted = status.halted.then(|| status.halt_reason.clone());
    detail.extend(halted.iter().map(|reason| format!("halted: {reason}")));
    if !status.policy_error.is_empty() {
        detail.push(format!("no policy: {}", status.policy_error));
    }
    if !status.residue.is_empty() {
        detail.push(format!("residue: {}", status.residue.join(", ")));
    }
    if let Some(claim) = status
        .claim
        .as_ref()
        .filter(|claim| !claim.conductor.is_empty())
    {
        detail.push(format!(
            "{} {} ({}@{})",
            holds(status.state()),
            claim.conductor,
            claim.user,
            claim.host
        ));
    }
    let state = State::try_from(status.state).unwrap_or(State::Unspecified);
    AgentRow {
        cell: agent.cell.clone(),
        node: agent.node.clone(),
        state: state.as_str_name().to_ascii_lowercase(),
        drill: status.drill.clone(),
        version: status.version.clone(),
        policy: status.policy,
        lease_left_ms: status.lease_left_ms,
        deadline_left_ms: status.deadline_left_ms,
        skew_us: u64::try_from(agent.skew().as_micros()).unwrap_or(u64::MAX),
        residue: status.residue.clone(),
        halted,
        detail: detail.join("; "),
        datapath: status.datapath.as_ref().map(datapath).unwrap_or_default(),
    }
}

/// What the conductor of an agent in this state does or did.
fn holds(state: State) -> &'static str {
    match state {
        State::Armed | State::Firing | State::Reverting => "held by",
        State::Unspecified | State::Idle | State::Reverted => "last held by",
    }
}

/// In one line.
fn datapath(of: &Datapath) -> String {
    let (works, lacks): (Vec<_>, Vec<_>) = of.abilities.iter().partition(|a| a.missing.is_empty());
    let works: Vec<&str> = works.iter().map(|ability| ability.name.as_str()).collect();
    let mut words = vec![
        format!("kernel can {}", works.join(", ")),
        format!("CNI {}", of.cni),
    ];
    words.extend(
        lacks
            .iter()
            .map(|ability| format!("lacks {} ({})", ability.name, ability.missing)),
    );
    for way in ["host table", "pod namespace"] {
        let pods = of.pods.iter().filter(|pod| pod.way == way);
        let (proven, not): (Vec<_>, Vec<_>) = pods.partition(|pod| pod.proven);
        for (pods, how) in [(proven, "proven"), (not, "not proven yet")] {
            let names: Vec<&str> = pods.iter().map(|pod| pod.pod.as_str()).collect();
            if !names.is_empty() {
                words.push(format!("{way}, {how}: {}", names.join(", ")));
            }
        }
    }
    let apart = of.pods.iter().filter(|pod| !pod.not_cut.is_empty());
    words.extend(apart.map(|pod| format!("not cut: {} ({})", pod.pod, pod.not_cut)));
    if !of.error.is_empty() {
        words.push(of.error.clone());
    }
    words.join("; ")
}

fn unreachable_row(silent: Silent) -> AgentRow {
    AgentRow {
        cell: silent.cell,
        node: silent.node,
        state: "unreachable".to_string(),
        drill: String::new(),
        version: String::new(),
        policy: false,
        lease_left_ms: 0,
        deadline_left_ms: 0,
        skew_us: 0,
        residue: Vec::new(),
        halted: None,
        detail: silent.why,
        datapath: String::new(),
    }
}

fn table(rows: &[AgentRow]) -> String {
    let head = [
        "cell", "node", "state", "drill", "lease", "deadline", "version", "detail",
    ];
    let mut lines = vec![head.map(str::to_string).to_vec()];
    for row in rows {
        let seconds = |ms: u64| match ms {
            0 => "-".to_string(),
            ms => format!("{:.1} s", ms as f64 / 1000.0),
        };
        lines.push(vec![
            row.cell.clone(),
            row.node.clone(),
            row.state.clone(),
            if row.drill.is_empty() {
                "-".to_string()
            } else {
                row.drill.clone()
            },
            seconds(row.lease_left_ms),
            seconds(row.deadline_left_ms),
            row.version.clone(),
            row.detail.clone(),
        ]);
    }
    output::table(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_an_agent_whose_drill_is_over() {
        assert_eq!(holds(State::Reverted), "last held by");
        assert_eq!(holds(State::Firing), "held by");
    }

    #[test]
    fn nodes_with_the_same_datapath_share_a_line() {
        let row = |node: &str, datapath: &str| AgentRow {
            cell: "c".into(),
            node: node.into(),
            datapath: datapath.into(),
            ..AgentRow::default()
        };
        let same = [row("a", "all"), row("b", "all"), row("silent", "")];
        assert_eq!(datapaths(&same), ["datapath of all 2 nodes: all"]);
        let others = [row("a", "x"), row("b", "y"), row("d", "x")];
        let lines = ["datapath of a.c, d.c: x", "datapath of b.c: y"];
        assert_eq!(datapaths(&others), lines);
        assert_eq!(datapaths(&[row("a", "x")]), ["datapath of a.c: x"]);
    }
}
