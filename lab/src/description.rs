//! What fleet to build, by default or as a user's fleet file says; the rest the lab adds itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use scenarios::fleet::{Endpoint, Fleet};

use crate::address;
use crate::error::{Error, Result};

/// Clouds and cells. Probes, entrypoints, references and certificates are always the lab's own.
#[derive(Clone, Debug)]
pub struct Description {
    pub clouds: Vec<CloudDescription>,
    pub cells: Vec<CellDescription>,
}

#[derive(Clone, Debug)]
pub struct CloudDescription {
    pub name: String,
    pub prefixes: Vec<IpNet>,
    lan: [IpNet; 2],
}

impl CloudDescription {
    /// The networks that hosts stand in: IPv4, IPv6.
    pub fn lan(&self) -> [IpNet; 2] {
        self.lan
    }
}

#[derive(Clone, Debug)]
pub struct CellDescription {
    pub name: String,
    pub cloud: String,
    pub region: String,
    /// IPv4, IPv6.
    pub inside: [IpNet; 2],
    /// Wanted addresses of the cell's entry, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Wanted addresses of nodes; nodes that are not named get default ones.
    pub nodes: BTreeMap<String, WantedNode>,
    /// Declared dependencies by name. Those on addresses that the lab does not have are dropped.
    pub uses: BTreeMap<String, Endpoint>,
}

#[derive(Clone, Debug)]
pub struct WantedNode {
    pub address: IpAddr,
    pub agent_port: u16,
}

impl Description {
    /// One cell in each of the first `cells` clouds.
    pub fn default_fleet(cells: usize) -> Description {
        let names = &address::CLOUDS[..cells.min(address::CLOUDS.len())];
        let clouds = names
            .iter()
            .enumerate()
            .map(|(index, name)| CloudDescription {
                name: name.to_string(),
                prefixes: address::cloud(index).to_vec(),
                lan: address::cloud(index).map(|prefix| address::lan(prefix).unwrap_or(prefix)),
            });
        let cells = names
            .iter()
            .enumerate()
            .map(|(index, name)| CellDescription {
                name: format!("gd-{name}"),
                cloud: name.to_string(),
                region: "guangdong".to_string(),
                inside: address::inside(index),
                addresses: Vec::new(),
                nodes: BTreeMap::new(),
                uses: BTreeMap::new(),
            });
        Description {
            clouds: clouds.collect(),
            cells: cells.collect(),
        }
    }

    /// Clouds and cells of a user's fleet file: names, regions, prefixes, addresses of cells and
    /// nodes, and what cells use.
    pub fn of_fleet(fleet: &Fleet) -> Result<Description> {
        let mut clouds = Vec::new();
        for (name, cloud) in &fleet.clouds {
            let first = |v4: bool| {
                let mut lans = cloud
                    .prefixes
                    .iter()
                    .filter_map(|prefix| address::lan(*prefix));
                lans.find(|lan| lan.addr().is_ipv4() == v4)
            };
            let (Some(v4), Some(v6)) = (first(true), first(false)) else {
                return Err(Error::Layout(format!(
                    "cloud `{name}` has no room for a lab, which wants an IPv4 prefix of /26 or \
                     larger and an IPv6 prefix of /64 or larger in each cloud"
                )));
            };
            let prefixes = cloud.prefixes.clone();
            clouds.push(CloudDescription {
                name: name.clone(),
                prefixes,
                lan: [v4, v6],
            });
        }
        let mut cells = Vec::new();
        for (index, (name, cell)) in fleet.cells.iter().enumerate() {
            let own = |v4: bool, default: IpNet| {
                let mut own = cell
                    .prefixes
                    .iter()
                    .filter(|net| net.addr().is_ipv4() == v4);
                own.next().map_or(default, IpNet::trunc)
            };
            let [v4, v6] = address::inside(index);
            let node = |node: &scenarios::fleet::Node| {
                let agent_port = node.agent.port();
                (
                    node.name.clone(),
                    WantedNode {
                        address: node.address,
                        agent_port,
                    },
                )
            };
            cells.push(CellDescription {
                name: name.clone(),
                cloud: cell.cloud.clone(),
                region: cell.region.clone(),
                inside: [own(true, v4), own(false, v6)],
                addresses: cell.addresses.clone(),
                nodes: cell.nodes.iter().map(node).collect(),
                uses: cell.uses.clone(),
            });
        }
        Ok(Description { clouds, cells })
    }

    pub fn cloud(&self, name: &str) -> Result<&CloudDescription> {
        let found = self.clouds.iter().find(|cloud| cloud.name == name);
        found.ok_or_else(|| Error::Layout(format!("no cloud is named `{name}`")))
    }

    /// What no lab can build, in words.
    pub fn check(&self) -> Result<()> {
        let most = address::CLOUDS.len();
        if self.cells.is_empty() || self.cells.len() > most || self.clouds.len() > most {
            return Err(Error::Layout(format!(
                "the fleet has {} cells in {} clouds, and a lab has room for 1 to {most} of each",
                self.cells.len(),
                self.clouds.len()
            )));
        }
        let mut homes: BTreeMap<&str, &str> = BTreeMap::new();
        for cell in &self.cells {
            self.cloud(&cell.cloud)?;
            if let Some(other) = homes.insert(&cell.cloud, &cell.name) {
                return Err(Error::Layout(format!(
                    "the cells `{other}` and `{}` stand in one cloud, `{}`, and the lab builds \
                     one cell in a cloud",
                    cell.name, cell.cloud
                )));
            }
        }
        self.check_networks()
    }

    /// Networks are routed by prefix, so no two may overlap.
    fn check_networks(&self) -> Result<()> {
        let mut all: Vec<(String, IpNet)> = Vec::new();
        let internet = address::internet();
        all.extend(internet.map(|net| ("the lab's internet".to_string(), net)));
        for cloud in &self.clouds {
            let owner = format!("cloud `{}`", cloud.name);
            all.extend(cloud.prefixes.iter().map(|net| (owner.clone(), *net)));
        }
        for cell in &self.cells {
            let owner = format!("the inside of cell `{}`", cell.name);
            if let Some(small) = cell.inside.iter().find(|net| address::lan(**net).is_none()) {
                return Err(Error::Layout(format!(
                    "{owner} has no room: {small} is too small"
                )));
            }
            all.extend(cell.inside.map(|net| (owner.clone(), net)));
        }
        for (at, (owner, net)) in all.iter().enumerate() {
            for (other, overlapping) in &all[at + 1..] {
                if net.contains(overlapping) || overlapping.contains(net) {
                    return Err(Error::Layout(format!(
                        "{net} of {owner} and {overlapping} of {other} overlap"
                    )));
                }
            }
        }
        Ok(())
    }
}
