//! Checks of a whole plan against this node's policy; every refusal is listed, not only the first.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use scenarios::change::{Change, FirewallCut, Management, Peers, Processes, QdiscChange, Shape};
use scenarios::plan::{PLAN_FORMAT, Plan, Step};
use scenarios::scenario::Side;

use crate::policy::Policy;

const LEASE_MS: std::ops::RangeInclusive<u64> = 1_000..=60_000;
const OPERATORS: std::ops::RangeInclusive<usize> = 1..=64;
/// More than any cloud has; a bound on memory and on the time that the kernel is held.
const PREFIXES_MOST: usize = 400_000;
const CHANGES_MOST: usize = 64;

/// Which node this agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cell: String,
    pub node: String,
}

/// Reads a plan of this version.
pub fn parse(bytes: &[u8]) -> Result<Plan, String> {
    let plan: Plan = serde_json::from_slice(bytes)
        .map_err(|cause| format!("the plan cannot be read: {cause}; nothing was altered"))?;
    if plan.format == PLAN_FORMAT {
        return Ok(plan);
    }
    Err(format!(
        "the plan has format {}, this agent knows {PLAN_FORMAT}",
        plan.format
    ))
}

/// A drill's id stands in file and table names: `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, 63 at most.
pub fn is_word(word: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&word.len())
        && word.chars().all(inside)
        && !word.starts_with('-')
        && !word.ends_with('-')
}

/// Every reason why this node will not take part; empty if it will.
pub fn refusals(plan: &Plan, policy: &Policy, me: &Identity) -> Vec<String> {
    let mut refusals = Vec::new();
    check_shape(plan, policy, &mut refusals);
    for step in &plan.steps {
        check_sides(plan, step, &mut refusals);
    }
    let mine: Vec<_> = plan.changes_for(&me.cell, &me.node).collect();
    if mine.is_empty() {
        refusals.push(format!(
            "the plan names no change for node {}.{}",
            me.node, me.cell
        ));
    }
    if mine.len() > CHANGES_MOST {
        refusals.push(format!(
            "{} changes for one node; {CHANGES_MOST} at most",
            mine.len()
        ));
    }
    let prefixes: usize = mine
        .iter()
        .filter_map(|(_, change)| change.as_cut())
        .map(|cut| cut.peers.prefixes().len())
        .sum();
    if prefixes > PREFIXES_MOST {
        refusals.push(format!(
            "{prefixes} prefixes for one node; {PREFIXES_MOST} at most"
        ));
    }
    for (step, change) in mine {
        check_change(step, change, policy, &mut refusals);
    }
    refusals
}

fn check_shape(plan: &Plan, policy: &Policy, refusals: &mut Vec<String>) {
    let cells = plan.target.cells.len();
    if cells > policy.cells {
        let most = policy.cells;
        refusals.push(format!(
            "the plan's target is {cells} cells; the policy allows {most}"
        ));
    }
    match plan.lease_ms {
        Some(lease) if !LEASE_MS.contains(&lease) => {
            refusals.push(format!("the lease is {lease} ms; it must be 1 s to 60 s"))
        }
        None if !policy.no_lease => refusals.push(
            "the drill has no lease, and the policy does not say `no_lease: true`".to_owned(),
        ),
        _ => {}
    }
    if !OPERATORS.contains(&plan.operator.len()) {
        refusals.push(format!(
            "{} operator addresses; 1 to 64 are needed",
            plan.operator.len()
        ));
    }
    for address in plan.operator.iter().filter(|a| !is_host(a.to_canonical())) {
        refusals.push(format!(
            "the operator address {address} is not the address of one host"
        ));
    }
    let longest = policy.longest;
    for (number, step) in plan.steps.iter().enumerate() {
        if step.id as usize != number {
            refusals.push(format!("step {number} has id {}", step.id));
        }
        if step.duration_ms == 0 {
            refusals.push(format!("step {number} lasts no time"));
        }
        let ends = step.at_ms.checked_add(step.duration_ms);
        if ends.is_none_or(|ends| Duration::from_millis(ends) > longest) {
            refusals.push(format!(
                "step {number} lasts to {} ms after fire; the policy's longest is {}",
                ends.map_or_else(|| "more than 2^64".to_owned(), |ends| ends.to_string()),
                humantime::format_duration(longest)
            ));
        }
    }
}

fn is_host(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
}

/// `on: target` only in target cells; `on: others` only elsewhere, and only towards the target.
fn check_sides(plan: &Plan, step: &Step, refusals: &mut Vec<String>) {
    for (cell, cell_step) in &step.cells {
        let is_target = plan.target.cells.contains(cell);
        match step.side {
            Side::Target if !is_target => refusals.push(format!(
                "step {} is on the target, but cell {cell} is not a target",
                step.id
            )),
            Side::Others if is_target => refusals.push(format!(
                "step {} is on others, but cell {cell} is a target",
                step.id
            )),
            _ => {}
        }
        if step.side != Side::Others {
            continue;
        }
        for change in &cell_step.changes {
            let Some(cut) = change.as_cut() else {
                refusals.push(format!(
                    "step {} in cell {cell}: others may only be cut from the target, but {}",
                    step.id,
                    change.summary()
                ));
                continue;
            };
            match &cut.peers {
                Peers::AllBut(_) => refusals.push(format!(
                    "step {} cuts cell {cell} off from everything; others may only be cut from \
                     the target",
                    step.id
                )),
                Peers::Only(peers) => {
                    let target = Ranges::new(&plan.target.prefixes);
                    let outside = peers.iter().find(|peer| !target.covers(peer));
                    refusals.extend(outside.map(|peer| {
                        format!(
                            "step {} cuts cell {cell} off from {peer}, which is not in the target",
                            step.id
                        )
                    }));
                }
            }
        }
    }
}

fn check_change(step: &Step, change: &Change, policy: &Policy, refusals: &mut Vec<String>) {
    let kind = change.kind();
    if !policy.allow.iter().any(|allowed| allowed == kind) {
        refusals.push(format!(
            "step {}: the policy does not allow `{kind}`",
            step.id
        ));
    }
    if let (Some(why), false) = (change.undo_impossible(), policy.irreversible) {
        refusals.push(format!(
            "step {}: {} has no undo ({why}), and the policy does not say `irreversible: true`",
            step.id,
            change.summary()
        ));
    }
    match change {
        Change::Firewall(cut) => check_cut(step, cut, policy, refusals),
        Change::Route(route) => {
            let protected = policy.protected.cidrs.iter();
            for hit in protected.filter(|one| overlap(one, &route.destination)) {
                refusals.push(format!(
                    "step {} would reroute {hit}, which is protected",
                    step.id
                ));
            }
        }
        Change::Process(_) | Change::Cgroup(_) | Change::File(_) | Change::Filesystem(_) => {
            check_path(step, change, policy, refusals);
        }
        Change::Qdisc(qdisc) => check_qdisc(step, qdisc, policy, refusals),
        Change::Helper(_) => {}
    }
}

/// Without peers it shapes everything that leaves the device.
fn check_qdisc(step: &Step, qdisc: &QdiscChange, policy: &Policy, refusals: &mut Vec<String>) {
    let shaped = |one: &&IpNet| match &qdisc.shape {
        Shape::Towards { peers, .. } => peers.iter().any(|peer| overlap(peer, one)),
        Shape::Netem(_) | Shape::Tbf(_) => true,
    };
    for hit in policy.protected.cidrs.iter().filter(shaped) {
        refusals.push(format!(
            "step {} would shape what leaves for {hit}, which is protected",
            step.id
        ));
    }
}

/// Nothing at or below a protected path is altered, nor a file system that holds one.
fn check_path(step: &Step, change: &Change, policy: &Policy, refusals: &mut Vec<String>) {
    let (path, whole_tree) = match change {
        Change::Process(change) => match &change.processes {
            Processes::Cgroup(path) => (path, true),
            Processes::Pids(_) => return,
        },
        Change::Cgroup(change) => (&change.path, true),
        Change::File(change) => (&change.path, false),
        Change::Filesystem(change) => (&change.path, true),
        _ => return,
    };
    let path = Path::new(path);
    let plain = path.is_absolute()
        && path
            .components()
            .all(|part| !matches!(part, Component::ParentDir));
    if !plain {
        refusals.push(format!(
            "step {}: {} is not an absolute path without `..`",
            step.id,
            path.display()
        ));
    }
    let places = places(path);
    for protected in &policy.protected.paths {
        let hits = |path: &PathBuf, protected: &PathBuf| {
            path.starts_with(protected) || whole_tree && protected.starts_with(path)
        };
        let homes = self::places(protected);
        if places
            .iter()
            .any(|path| homes.iter().any(|home| hits(path, home)))
        {
            refusals.push(format!(
                "step {} would alter {}, but {} is protected",
                step.id,
                path.display(),
                protected.display()
            ));
        }
    }
}

/// A path as it is written, and where links lead: with its last part followed, and without.
fn places(path: &Path) -> Vec<PathBuf> {
    let mut places = vec![path.to_owned()];
    places.extend(path.canonicalize());
    if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
        places.extend(folder.canonicalize().map(|folder| folder.join(name)));
    }
    places
}

fn check_cut(step: &Step, cut: &FirewallCut, policy: &Policy, refusals: &mut Vec<String>) {
    if cut.management == Management::Cut && !policy.cut_management {
        refusals.push(format!(
            "step {} would cut the conductor's way to this agent, and the policy does not say \
             `cut_management: true`",
            step.id
        ));
    }
    let spared = Ranges::new(cut.peers.prefixes());
    for protected in &policy.protected.cidrs {
        let cut_off = match &cut.peers {
            Peers::Only(peers) => peers.iter().any(|peer| overlap(peer, protected)),
            Peers::AllBut(_) => !spared.covers(protected),
        };
        if cut_off {
            refusals.push(format!(
                "step {} would cut {protected}, which is protected",
                step.id
            ));
        }
    }
    if matches!(&cut.peers, Peers::Only(peers) if peers.is_empty()) {
        refusals.push(format!("step {} cuts nobody", step.id));
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Merged prefixes, sorted, to ask quickly whether one lies inside.
struct Ranges(Vec<IpNet>);

impl Ranges {
    fn new(prefixes: &[IpNet]) -> Self {
        let mut merged = IpNet::aggregate(&prefixes.to_vec());
        merged.sort_by_key(|prefix| prefix.network());
        Self(merged)
    }

    fn covers(&self, prefix: &IpNet) -> bool {
        let after = self
            .0
            .partition_point(|other| other.network() <= prefix.network());
        after > 0 && self.0[after - 1].contains(prefix)
    }
}

#[cfg(test)]
mod tests;
