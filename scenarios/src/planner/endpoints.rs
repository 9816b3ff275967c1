//! Which declared endpoints inside the target a plan cuts: computed from its changes, never guessed.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::change::{Change, FirewallCut};
use crate::fleet::{Cell, Fleet};
use crate::plan::{EndpointCut, Step};
use crate::prefixes::{covers, hold};
use crate::target::Target;

/// Every declared endpoint inside the target, in the order of cells and names.
pub(super) fn list(fleet: &Fleet, target: &Target, steps: &[Step]) -> Vec<EndpointCut> {
    let mut endpoints = Vec::new();
    for (cell_name, cell) in &fleet.cells {
        for (name, endpoint) in &cell.uses {
            if !hold(&target.prefixes, endpoint.address) {
                continue;
            }
            endpoints.push(EndpointCut {
                cell: cell_name.clone(),
                name: name.clone(),
                address: endpoint.address,
                port: endpoint.port,
                cut: is_cut(fleet, target, steps, (cell_name, cell), endpoint.address),
                survivor: !target.cells.contains(cell_name),
            });
        }
    }
    endpoints
}

/// Cut means: over the whole fault window no packet passes in either direction, dropped by the
/// user's nodes, or by the endpoint itself where it is a node of the target.
fn is_cut(
    fleet: &Fleet,
    target: &Target,
    steps: &[Step],
    user: (&str, &Cell),
    address: IpAddr,
) -> bool {
    let start = steps.iter().map(|step| step.at_ms).min();
    let end = steps.iter().map(|step| step.ends_ms()).max();
    let whole = |step: &&Step| Some(step.at_ms) == start && Some(step.ends_ms()) == end;
    let steps: Vec<&Step> = steps.iter().filter(whole).collect();
    let (user_name, user) = user;
    let all_nodes = |cell: &Cell| cell.nodes.iter().map(|node| node.name.clone()).collect();
    let at_user = cuts(&steps, user_name, all_nodes(user));
    let endpoint = [IpNet::from(address)];
    let (mut ingress, mut egress) = directions(&at_user, &endpoint);
    for name in target.cells.iter().filter(|name| *name != user_name) {
        let Some(cell) = fleet.cells.get(name) else {
            continue;
        };
        let here = cell.nodes.iter().filter(|node| node.address == address);
        for node in here {
            let at_node = cuts(&steps, name, vec![node.name.clone()]);
            let users: Vec<IpNet> = user.extent().collect();
            let (node_ingress, node_egress) = directions(&at_node, &users);
            // What the endpoint no longer receives, the user no longer gets across, and back.
            egress |= node_ingress;
            ingress |= node_egress;
        }
    }
    ingress && egress
}

/// The cuts that these steps make on all of these nodes of a cell.
fn cuts<'a>(steps: &[&'a Step], cell: &str, nodes: Vec<String>) -> Vec<&'a FirewallCut> {
    let of_cell = steps.iter().filter_map(|step| step.cells.get(cell));
    let of_all = of_cell.filter(|step| nodes.iter().all(|node| step.nodes.contains(node)));
    of_all
        .flat_map(|step| &step.changes)
        .filter_map(Change::as_cut)
        .collect()
}

/// Whether ingress from, and egress to, all of these peers is cut.
fn directions(cuts: &[&FirewallCut], peers: &[IpNet]) -> (bool, bool) {
    let covered = |pass: fn(crate::change::Direction) -> bool| {
        let cut_from = |peer| {
            cuts.iter()
                .any(|cut| pass(cut.direction) && covers(&cut.peers, peer))
        };
        peers.iter().all(cut_from)
    };
    (
        covered(crate::change::Direction::ingress),
        covered(crate::change::Direction::egress),
    )
}
