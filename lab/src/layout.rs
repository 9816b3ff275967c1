//! The whole lab as data, worked out before anything is made: segments, hosts, routes, processes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address;
use crate::description::{CellDescription, Description};
use crate::error::{Error, Result};
use crate::kind::{CellKind, Flaw, Kind};

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
    Shop,
}

/// A process on a host, restarted when it dies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    pub role: Role,
    pub namespace: String,
    pub program: std::path::PathBuf,
    pub arguments: Vec<String>,
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
    /// Works out everything of a lab, or says why it cannot be built.
    pub fn new(
        name: &str,
        kind: Kind,
        flaws: &[Flaw],
        description: &Description,
        place: &crate::kind::Place,
    ) -> Result<Layout> {
        description.check()?;
        let builder = kind.builder();
        let clouds: Vec<CloudLayout> = description.clouds.iter().map(cloud_layout).collect();
        let mut cells = Vec::new();
        for cell in &description.cells {
            cells.push(cell_layout(description, cell, builder)?);
        }
        builder.weaken(&clouds, &mut cells, flaws)?;
        let mut layout = Layout {
            name: name.to_string(),
            kind,
            flaws: flaws.to_vec(),
            segments: segments(description, &clouds, &cells),
            services: crate::internet::services(&clouds, &cells, place),
            checks: crate::internet::checks(&clouds, &cells),
            clouds,
            cells,
        };
        for index in 0..layout.cells.len() {
            let services = builder.services(&layout, index, place)?;
            layout.services.extend(services);
            layout.checks.extend(builder.checks(&layout.cells[index]));
        }
        Ok(layout)
    }

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

fn cloud_layout(cloud: &crate::description::CloudDescription) -> CloudLayout {
    CloudLayout {
        name: cloud.name.clone(),
        prefixes: cloud.prefixes.clone(),
        managed_db: cloud
            .lan()
            .map(|lan| address::host(lan, address::MANAGED_DB))
            .to_vec(),
    }
}

fn cell_layout(
    description: &Description,
    cell: &CellDescription,
    builder: &dyn CellKind,
) -> Result<CellLayout> {
    let cloud = description.cloud(&cell.cloud)?;
    let known: Vec<&str> = builder.nodes().iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = cell
        .nodes
        .keys()
        .find(|name| !known.contains(&name.as_str()))
    {
        return Err(Error::Layout(format!(
            "cell `{}` has a node `{unknown}`, and a lab of this kind builds only the nodes {}",
            cell.name,
            known.join(", ")
        )));
    }
    let mut nodes = Vec::new();
    for (name, part) in builder.nodes() {
        let mut public = cloud.lan().map(|lan| address::host(lan, *part));
        let mut agent_port = address::AGENT_PORT;
        if let Some(wanted) = cell.nodes.get(*name) {
            public[usize::from(wanted.address.is_ipv6())] = wanted.address;
            agent_port = wanted.agent_port;
        }
        nodes.push(NodeLayout {
            name: name.to_string(),
            namespace: format!("{name}.{}", cell.name),
            public: public.to_vec(),
            inside: cell.inside.map(|net| address::host(net, *part)).to_vec(),
            agent: SocketAddr::new(public[0], agent_port),
        });
    }
    let entry = builder.entry();
    if let Some(node) = nodes.iter_mut().find(|node| node.name == entry) {
        for wanted in &cell.addresses {
            node.public[usize::from(wanted.is_ipv6())] = *wanted;
        }
        node.agent.set_ip(node.public[0]);
    }
    let layout = CellLayout {
        name: cell.name.clone(),
        cloud: cell.cloud.clone(),
        region: cell.region.clone(),
        addresses: nodes
            .iter()
            .find(|node| node.name == entry)
            .map(|node| node.public.clone())
            .unwrap_or_default(),
        inside: cell.inside.to_vec(),
        nodes,
        uses: BTreeMap::new(),
    };
    check_addresses(cloud, &layout)?;
    Ok(layout)
}

/// Every public address of a cell lies in its cloud's network and is taken once.
fn check_addresses(cloud: &crate::description::CloudDescription, cell: &CellLayout) -> Result<()> {
    let lan = cloud.lan();
    let mut taken: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for net in lan {
        taken.insert(address::host(net, address::ROUTER), "the router");
        taken.insert(
            address::host(net, address::MANAGED_DB),
            "the managed database",
        );
    }
    for node in &cell.nodes {
        for public in &node.public {
            if !lan.iter().any(|net| net.contains(public)) {
                return Err(Error::Layout(format!(
                    "node `{}` has the address {public}, which is outside of {} and {}, the \
                     networks that the lab builds in cloud `{}`",
                    node.namespace, lan[0], lan[1], cloud.name
                )));
            }
            if let Some(other) = taken.insert(*public, &node.name) {
                return Err(Error::Layout(format!(
                    "node `{}` has the address {public}, which {other} of the same cloud has too",
                    node.namespace
                )));
            }
        }
    }
    Ok(())
}

fn segments(
    description: &Description,
    clouds: &[CloudLayout],
    cells: &[CellLayout],
) -> Vec<Segment> {
    let mut all = vec![crate::internet::segment(clouds)];
    for (index, cloud) in description.clouds.iter().enumerate() {
        let lan = cloud.lan();
        let gateways = lan.map(|net| address::host(net, address::ROUTER));
        let database = &clouds[index];
        let mut segment = Segment {
            namespace: Some(crate::internet::router(&cloud.name)),
            bridge: "lan".to_string(),
            addresses: address::in_nets(&gateways, &lan),
            hosts: vec![lan_host(
                database.managed_db_namespace(),
                "managed-db",
                &database.managed_db,
                &lan,
                &gateways,
            )],
        };
        for cell in cells.iter().filter(|cell| cell.cloud == cloud.name) {
            for node in &cell.nodes {
                let mut host = lan_host(
                    node.namespace.clone(),
                    &node.name,
                    &node.public,
                    &lan,
                    &gateways,
                );
                host.addresses
                    .extend(address::in_nets(&node.inside, &cell.inside));
                segment.hosts.push(host);
            }
        }
        all.push(segment);
    }
    all
}

fn lan_host(
    namespace: String,
    name: &str,
    public: &[IpAddr],
    lan: &[IpNet],
    gateways: &[IpAddr],
) -> Host {
    let routes = gateways
        .iter()
        .map(|gateway| Route {
            to: address::everything(*gateway),
            via: *gateway,
            from: public
                .iter()
                .find(|own| own.is_ipv4() == gateway.is_ipv4())
                .copied(),
        })
        .collect();
    Host {
        namespace,
        port: format!("to-{name}"),
        addresses: address::in_nets(public, lan),
        routes,
        forwards: false,
    }
}
