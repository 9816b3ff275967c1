//! A fleet as the rest of cellwall sees it, after its YAML was read and checked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use crate::asks::{Ask, HttpMethod, HttpRequest, KubernetesQuestion, Rewrites};
use crate::effects::ClientMix;
use crate::traffic::{Gauge, Traffic};

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
    /// What users do anyway, from counters; traffic x stratum x cell is a stream.
    pub traffic: BTreeMap<String, Traffic>,
    /// Queues, pools and other numbers that should not grow; gauge x cell is a stream.
    pub gauges: BTreeMap<String, Gauge>,
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
    /// Its Kubernetes API, if it has one; nothing is ever stored there.
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
    /// Makes the relative paths of kubeconfigs and authorities start at `folder`, the one of the fleet
    /// file.
    pub fn with_files_from(mut self, folder: &Path) -> Self {
        let cells = self.cells.values_mut();
        let kubeconfigs = cells.filter_map(|cell| Some(&mut cell.kubernetes.as_mut()?.kubeconfig));
        let asked = self.probes.values_mut().flat_map(Probe::files);
        let entrypoints = self.entrypoints.values_mut();
        let entered = entrypoints.filter_map(|entrypoint| entrypoint.http.trust.file());
        for file in kubeconfigs.chain(asked).chain(entered) {
            *file = folder.join(&*file);
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
    /// How acknowledged writes are changed later, so that what comes back can be told.
    pub rewrites: Rewrites,
    /// Per second and cell.
    pub rate: f64,
    pub timeout: Duration,
    /// Slower than this is bad. Without it the first half of the baseline sets the threshold.
    pub slo: Option<Duration>,
    /// How many more of the answers than before may be slower than 1.5 times the baseline's 90th
    /// percentile, as a fraction; absent: only the slo is judged.
    pub slower_within: Option<f64>,
}

impl Probe {
    /// Whether it needs a file that stands beside the fleet's, such as authorities.
    pub fn names_files(&self) -> bool {
        !self.clone().files().is_empty()
    }

    fn files(&mut self) -> Vec<&mut PathBuf> {
        let mut files = self.ask.files();
        files.extend(self.rewrites.files());
        files
    }
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
    /// What kinds of program the users have.
    pub clients: ClientMix,
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
