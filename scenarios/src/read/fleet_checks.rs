//! Checks of a fleet's layout: names that exist, prefixes that do not overlap, addresses in place.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::fleet::{Cell, Fleet};
use crate::input::InputError;
use crate::places::Places;
use crate::prefixes::{hold, loopback, overlap};

/// A prefix, the cloud or cell it belongs to, and where it is written.
struct Owned<'a> {
    prefix: IpNet,
    kind: &'static str,
    owner: &'a str,
    path: String,
}

/// Clouds, cells, nodes, operator and references against each other.
pub(super) fn layout(fleet: &Fleet, places: &Places) -> Result<(), InputError> {
    for (path, empty, what) in [
        (
            "spec.operator.addresses",
            fleet.operator.is_empty(),
            "address",
        ),
        ("spec.clouds", fleet.clouds.is_empty(), "cloud"),
        ("spec.cells", fleet.cells.is_empty(), "cell"),
    ] {
        refuse_empty(places, path, empty, what)?;
    }
    let clouds = cloud_prefixes(fleet, places)?;
    let cells = cell_prefixes(fleet, places)?;
    check_overlaps(fleet, &clouds, &cells, places)?;
    for (name, cell) in &fleet.cells {
        check_cell(fleet, name, cell, places)?;
    }
    check_agents(fleet, places)?;
    check_addresses(fleet, places)?;
    let inside: Vec<Owned> = clouds.into_iter().chain(cells).collect();
    let operators = fleet.operator.iter().copied().enumerate();
    for (index, address) in operators {
        let path = format!("spec.operator.addresses[{index}]");
        check_outside(&inside, address, &path, "the operator", places)?;
    }
    for (index, reference) in fleet.references.iter().enumerate() {
        let path = format!("spec.references[{index}]");
        check_outside(&inside, reference.ip(), &path, "a reference", places)?;
    }
    Ok(())
}

fn refuse_empty(places: &Places, path: &str, empty: bool, what: &str) -> Result<(), InputError> {
    match empty {
        true => Err(InputError::at_key(
            places,
            path,
            format!("at least one {what} is wanted"),
        )),
        false => Ok(()),
    }
}

fn cloud_prefixes<'a>(fleet: &'a Fleet, places: &Places) -> Result<Vec<Owned<'a>>, InputError> {
    let mut found = Vec::new();
    for (name, cloud) in &fleet.clouds {
        let path = format!("spec.clouds.{name}.prefixes");
        refuse_empty(places, &path, cloud.prefixes.is_empty(), "prefix")?;
        found.extend(owned("cloud", name, &cloud.prefixes, &path));
    }
    check_sane(&found, places)?;
    Ok(found)
}

fn cell_prefixes<'a>(fleet: &'a Fleet, places: &Places) -> Result<Vec<Owned<'a>>, InputError> {
    let mut found = Vec::new();
    for (name, cell) in &fleet.cells {
        let path = format!("spec.cells.{name}");
        if name == "control" {
            let message = "`control` is the name of the prober's own streams, not of a cell";
            return Err(InputError::at_key(places, &path, message));
        }
        let path = format!("{path}.prefixes");
        refuse_empty(places, &path, cell.prefixes.is_empty(), "prefix")?;
        found.extend(owned("cell", name, &cell.prefixes, &path));
    }
    check_sane(&found, places)?;
    Ok(found)
}

fn owned<'a>(
    kind: &'static str,
    owner: &'a str,
    prefixes: &[IpNet],
    path: &str,
) -> impl Iterator<Item = Owned<'a>> {
    prefixes
        .iter()
        .enumerate()
        .map(move |(index, &prefix)| Owned {
            prefix,
            kind,
            owner,
            path: format!("{path}[{index}]"),
        })
}

fn check_sane(found: &[Owned], places: &Places) -> Result<(), InputError> {
    for Owned {
        prefix, kind, path, ..
    } in found
    {
        if prefix.prefix_len() == 0 {
            let message = format!("{prefix} is the whole internet, not a {kind}");
            return Err(InputError::at_value(places, path, message));
        }
        if loopback().iter().any(|loopback| overlap(loopback, prefix)) {
            let message = format!("{prefix} is loopback, which belongs to every host alone");
            return Err(InputError::at_value(places, path, message));
        }
    }
    Ok(())
}

/// Different clouds, different cells, and a cell in another cloud must share no address: cutting
/// one would cut the other.
fn check_overlaps(
    fleet: &Fleet,
    clouds: &[Owned],
    cells: &[Owned],
    places: &Places,
) -> Result<(), InputError> {
    let mut all: Vec<&Owned> = clouds.iter().chain(cells).collect();
    // Sorted by network, an overlapping prefix stands directly behind one that holds it, or behind
    // others that it also holds: comparing with the open ones only keeps this linear for 60,000.
    all.sort_by_key(|owned| (owned.prefix.network(), owned.prefix.prefix_len()));
    let mut open: Vec<&Owned> = Vec::new();
    for inner in all {
        open.retain(|outer| outer.prefix.contains(&inner.prefix));
        if let Some(outer) = open.iter().find(|outer| apart(fleet, outer, inner)) {
            let message = format!(
                "{} of {} {} overlaps {} of {} {}",
                inner.prefix, inner.kind, inner.owner, outer.prefix, outer.kind, outer.owner
            );
            return Err(InputError::at_value(places, &inner.path, message)
                .with_hint("cutting one would cut the other; give each its own prefixes"));
        }
        open.push(inner);
    }
    Ok(())
}

/// Whether two prefixes must not overlap: all but a cloud with itself and with its own cells.
fn apart(fleet: &Fleet, a: &Owned, b: &Owned) -> bool {
    let cloud_of = |owned: &Owned| fleet.cells.get(owned.owner).map(|cell| cell.cloud.clone());
    match (a.kind, b.kind) {
        ("cloud", "cell") => cloud_of(b).as_deref() != Some(a.owner),
        ("cell", "cloud") => cloud_of(a).as_deref() != Some(b.owner),
        _ => a.owner != b.owner,
    }
}

fn check_cell(fleet: &Fleet, name: &str, cell: &Cell, places: &Places) -> Result<(), InputError> {
    let path = format!("spec.cells.{name}");
    let Some(cloud) = fleet.clouds.get(&cell.cloud) else {
        let message = format!("unknown cloud `{}`", cell.cloud);
        return Err(
            InputError::at_value(places, &format!("{path}.cloud"), message)
                .with_valid(fleet.clouds.keys()),
        );
    };
    refuse_empty(
        places,
        &format!("{path}.nodes"),
        cell.nodes.is_empty(),
        "node",
    )?;
    let inside = |address: IpAddr, path: String, what: &str| {
        if hold(&cloud.prefixes, address) || hold(&cell.prefixes, address) {
            return Ok(());
        }
        let message = format!(
            "{what} {address} lies in no prefix of cell {name} or of its cloud {}",
            cell.cloud
        );
        Err(InputError::at_value(places, &path, message))
    };
    for (index, &address) in cell.addresses.iter().enumerate() {
        inside(address, format!("{path}.addresses[{index}]"), "address")?;
    }
    let mut names = BTreeMap::new();
    for (index, node) in cell.nodes.iter().enumerate() {
        let path = format!("{path}.nodes[{index}]");
        inside(node.address, format!("{path}.address"), "node address")?;
        if names.insert(&node.name, index).is_some() {
            let message = format!("cell {name} has two nodes called `{}`", node.name);
            return Err(InputError::at_value(
                places,
                &format!("{path}.name"),
                message,
            ));
        }
    }
    check_kubernetes(cell, &path, places)?;
    for (use_name, endpoint) in &cell.uses {
        if endpoint.port == 0 {
            let path = format!("{path}.uses.{use_name}.port");
            return Err(InputError::at_value(
                places,
                &path,
                "no service listens on port 0",
            ));
        }
    }
    Ok(())
}

fn check_kubernetes(cell: &Cell, path: &str, places: &Places) -> Result<(), InputError> {
    let Some(access) = &cell.kubernetes else {
        return Ok(());
    };
    let empty = [
        ("kubeconfig", access.kubeconfig.as_os_str().is_empty()),
        ("context", access.context.is_empty()),
    ];
    let Some((field, _)) = empty.iter().find(|(_, empty)| *empty) else {
        return Ok(());
    };
    let path = format!("{path}.kubernetes.{field}");
    let hint = "write for instance kubernetes: { kubeconfig: admin.conf, context: eu-1 }";
    Err(InputError::at_value(places, &path, "it is empty").with_hint(hint))
}

/// Two nodes behind one agent would mean that one of them is never cut.
fn check_agents(fleet: &Fleet, places: &Places) -> Result<(), InputError> {
    let mut agents: BTreeMap<SocketAddr, String> = BTreeMap::new();
    for (cell_name, cell) in &fleet.cells {
        for (index, node) in cell.nodes.iter().enumerate() {
            let here = format!("{} of cell {cell_name}", node.name);
            if let Some(other) = agents.insert(node.agent, here) {
                let path = format!("spec.cells.{cell_name}.nodes[{index}]");
                let agent = format!("{path}.agent");
                let path = if places.has(&agent) {
                    agent
                } else {
                    format!("{path}.address")
                };
                let message = format!("agent {} already serves node {other}", node.agent);
                return Err(InputError::at_value(places, &path, message));
            }
        }
    }
    Ok(())
}

/// No address of one cell is another cell's: cutting one cell would cut the other.
fn check_addresses(fleet: &Fleet, places: &Places) -> Result<(), InputError> {
    let mut owners: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for (name, cell) in &fleet.cells {
        let path = format!("spec.cells.{name}");
        let nodes = cell.nodes.iter().enumerate();
        let nodes = nodes.map(|(i, node)| (node.address, format!("{path}.nodes[{i}].address")));
        let users = cell.addresses.iter().enumerate();
        let users = users.map(|(i, &address)| (address, format!("{path}.addresses[{i}]")));
        for (address, at) in nodes.chain(users) {
            let others = fleet.cells.iter().filter(|(other, _)| *other != name);
            let inside = others.filter(|(_, other)| hold(&other.prefixes, address));
            let other = inside.map(|(other, _)| other.as_str()).next();
            let other = other.or(owners.insert(address, name).filter(|other| other != name));
            if let Some(other) = other {
                let message = format!("{address} also belongs to cell {other}");
                return Err(InputError::at_value(places, &at, message));
            }
        }
    }
    Ok(())
}

fn check_outside(
    inside: &[Owned],
    address: IpAddr,
    path: &str,
    what: &str,
    places: &Places,
) -> Result<(), InputError> {
    let Some(owner) = inside.iter().find(|owned| owned.prefix.contains(&address)) else {
        return Ok(());
    };
    let message = format!(
        "{what} stands inside {} {} ({})",
        owner.kind, owner.owner, owner.prefix
    );
    Err(InputError::at_value(places, path, message)
        .with_hint("it would go dark with what it has to watch; choose a host outside"))
}
