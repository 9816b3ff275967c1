//! The whole lab as data, worked out before anything is made: segments, hosts, routes, processes.

mod build;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::flaw::Flaw;
use crate::kind::Kind;

/// The interface of every host, and a router's uplink.
pub const ETH0: &str = "eth0";

/// Everything that the holder builds and starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layout {
    pub name: String,
    pub kind: Kind,
    pub flaws: Vec<Flaw>,
    pub clouds: Vec<CloudLayout>,
    pub cells: Vec<CellLayout>,
    /// Built in this order: the internet first, because it makes the routers' namespaces useful.
    pub segments: Vec<Segment>,
    pub services: Vec<Service>,
    /// All of them must succeed before the lab counts as up.
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CloudLayout {
    pub name: String,
    pub prefixes: Vec<IpNet>,
    /// The host without an agent; IPv4 first.
    pub managed_db: Vec<IpAddr>,
}

impl CloudLayout {
    pub fn managed_db_namespace(&self) -> String {
        format!("managed-db.{}", self.name)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellLayout {
    pub name: String,
    pub cloud: String,
    pub region: String,
    /// What its users connect to.
    pub addresses: Vec<IpAddr>,
    /// The cell's own inside.
    pub inside: Vec<IpNet>,
    pub nodes: Vec<NodeLayout>,
    pub uses: BTreeMap<String, SocketAddr>,
}

/// A host of a cell, with an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeLayout {
    pub name: String,
    /// `NODE.CELL`: its namespace, its directory and the name in its agent's certificate.
    pub namespace: String,
    /// IPv4 first, then IPv6.
    pub public: Vec<IpAddr>,
    /// IPv4 first, then IPv6; reachable within the cell only.
    pub inside: Vec<IpAddr>,
    pub agent: SocketAddr,
}

impl CellLayout {
    /// The node of this name. Layouts are made with all nodes of their kind.
    pub fn node(&self, name: &str) -> Option<&NodeLayout> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

/// One bridge and the hosts on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Segment {
    /// The namespace that holds the bridge; none is the holder's own.
    pub namespace: Option<String>,
    pub bridge: String,
    /// Addresses on the bridge itself: a router's side of its cloud's network.
    pub addresses: Vec<IpNet>,
    pub hosts: Vec<Host>,
}

/// A namespace with one interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    pub namespace: String,
    /// Name of the bridge's end of its link, 15 characters at most.
    pub port: String,
    pub addresses: Vec<IpNet>,
    pub routes: Vec<Route>,
    /// It is a router.
    pub forwards: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Route {
    pub to: IpNet,
    pub via: IpAddr,
    /// Source address of what the host itself sends this way.
    pub from: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Agent,
    /// A part of the business or of the cell's platform.
    Part,
    /// Runs once and must succeed before the lab counts as up.
    Task,
}

/// A process on a host, restarted when it dies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    pub role: Role,
    pub namespace: String,
    pub program: std::path::PathBuf,
    pub arguments: Vec<String>,
    /// It is started when this address takes connections, seen from its own host.
    pub after: Option<SocketAddr>,
    pub log: std::path::PathBuf,
}

/// Something that must work, seen from a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    pub from: String,
    pub to: SocketAddr,
    pub ask: Ask,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// The port accepts.
    Connect,
    /// `GET path` is answered with this status.
    Http { path: String, status: u16 },
    /// A query for the address of this name is answered with an address.
    Dns { name: String },
}

impl Layout {
    /// Every network namespace but the holder's own.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.segments.iter().flat_map(|segment| &segment.hosts)
    }

    /// The namespace that a user means: a host, or `managed-db` by the name of its cell.
    pub fn resolve(&self, node: &str) -> Option<String> {
        if self.hosts().any(|host| host.namespace == node) {
            return Some(node.to_string());
        }
        let (part, cell) = node.split_once('.')?;
        let cell = self.cells.iter().find(|candidate| candidate.name == cell)?;
        let by_cloud = format!("{part}.{}", cell.cloud);
        self.hosts()
            .any(|host| host.namespace == by_cloud)
            .then_some(by_cloud)
    }
}
