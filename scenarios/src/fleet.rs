//! A fleet as the rest of cellwall sees it, after its YAML was read and checked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Several cells, the clouds they stand in, and how to look at them. Names are checked words
/// (`[a-z0-9]([a-z0-9-]*[a-z0-9])?`, 63 at most), never paths.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    pub name: String,
    /// Addresses from which the operator (ctl) reaches the agents.
    pub operator: Vec<IpAddr>,
    /// PEM files of the conductor; relative paths are relative to the fleet file.
    pub tls: Option<TlsFiles>,
    pub clouds: BTreeMap<String, Cloud>,
    pub cells: BTreeMap<String, Cell>,
    pub probes: BTreeMap<String, Probe>,
    pub entrypoints: BTreeMap<String, Entrypoint>,
    /// Outside every cell and cloud; they judge the prober, not the fleet.
    pub references: Vec<SocketAddr>,
    /// Nodes from which the cells are looked at as well, beside the conductor's own look.
    pub vantages: Vec<VantageNode>,
}

/// A node of the fleet whose agent runs a prober of its own during a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VantageNode {
    pub cell: String,
    pub node: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// Everything that goes dark with this cloud, agents or not.
    pub prefixes: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub cloud: String,
    pub region: String,
    /// What its users connect to; the first one stands for `{cell}` in probe URLs.
    pub addresses: Vec<IpAddr>,
    /// The cell's own inside; never cut from itself.
    pub prefixes: Vec<IpNet>,
    pub nodes: Vec<Node>,
    /// Declared dependencies by name.
    pub uses: BTreeMap<String, Endpoint>,
    /// Its Kubernetes API, if it has one; only read, never written to.
    pub kubernetes: Option<KubernetesAccess>,
}

/// Where a cell's Kubernetes API is and as whom it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesAccess {
    /// A relative path is relative to the fleet file.
    pub kubeconfig: PathBuf,
    pub context: String,
}

impl Fleet {
    /// Makes relative kubeconfig paths start at `folder`, the one of the fleet file.
    pub fn with_kubeconfigs_from(mut self, folder: &Path) -> Self {
        for access in self
            .cells
            .values_mut()
            .filter_map(|c| c.kubernetes.as_mut())
        {
            access.kubeconfig = folder.join(&access.kubeconfig);
        }
        self
    }
}

impl Cell {
    /// Everything that is the cell's own: its prefixes, and the addresses of its nodes and users.
    pub fn extent(&self) -> impl Iterator<Item = IpNet> {
        let addresses = self.nodes.iter().map(|node| node.address);
        let addresses = addresses.chain(self.addresses.iter().copied());
        self.prefixes
            .iter()
            .copied()
            .chain(addresses.map(IpNet::from))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub address: IpAddr,
    /// Where its agent listens. The agent's certificate names it `NODE.CELL` (DNS SAN).
    pub agent: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: u16,
}

/// One kind of question, asked of every cell; cell x probe is a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub plane: Plane,
    pub ask: Ask,
    /// `POST` with a fresh `{id}` each; acknowledged ids are read back here after recovery.
    pub read_back: Option<String>,
    /// Per second and cell.
    pub rate: f64,
    pub timeout: Duration,
    /// Slower than this is bad. Without it the first half of the baseline sets the threshold.
    pub slo: Option<Duration>,
}

/// What a probe asks of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Http(HttpRequest),
    /// Plane control only.
    Kubernetes(KubernetesQuestion),
}

/// What a cell's API server is asked; none of them writes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KubernetesQuestion {
    /// `/readyz` answers 200.
    Ready,
    /// The services of namespace default are listed from etcd.
    List,
    /// A new watch is told a state as fresh as etcd's at the time of the question.
    Watch,
}

/// `url` and `body` may hold `{cell}` (the cell's first address, in brackets if IPv6), `{address}`
/// (entrypoints: the address that DNS gave) and `{id}` (a fresh id for each request).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: HttpMethod,
    pub url: String,
    pub body: Option<String>,
    pub expect_status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    Get,
    Post,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Plane {
    Data,
    Control,
    Entrypoint,
    Dependency,
}

impl Plane {
    /// The word of the fleet file.
    pub fn word(self) -> &'static str {
        match self {
            Plane::Data => "data",
            Plane::Control => "control",
            Plane::Entrypoint => "entrypoint",
            Plane::Dependency => "dependency",
        }
    }
}

/// What the users of a region call: one name, answered with one cell's address at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Entrypoint {
    pub region: String,
    pub dns: DnsName,
    /// Declared share of the answers per cell, as fractions that add up to 1.
    pub shares: BTreeMap<String, f64>,
    pub http: HttpRequest,
    /// Users per second over all cells: resolve, connect, request.
    pub rate: f64,
    pub timeout: Duration,
    pub slo: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsName {
    pub name: String,
    pub resolver: SocketAddr,
}
