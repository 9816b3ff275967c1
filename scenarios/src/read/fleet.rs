//! The YAML shape of a fleet, and its way into the model.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::asks::{self, At, DEFAULT_RATE, DEFAULT_TIMEOUT, HttpSpec, ProbeSpec, UrlHost};
use crate::fleet::{
    Cell, Cloud, DnsName, Endpoint, Entrypoint, Fleet, HttpRequest, KubernetesAccess, Node, Plane,
    TlsFiles,
};
use crate::input::InputError;
use crate::places::Places;
use crate::read::clients::ClientsSpec;
use crate::read::traffic::{self, GaugeSpec, TrafficSpec};
use crate::read::{Named, clients, fleet_checks, requests, vantages};
use crate::values::{Name, Percentage, Rate, Resolver, Text};

/// Port of an agent that does not say another.
const AGENT_PORT: u16 = 7443;

/// Several cells, the clouds they stand in, and how to look at them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetSpec {
    operator: OperatorSpec,
    /// The conductor's PEM files; relative paths start at the fleet file.
    tls: Option<TlsSpec>,
    clouds: Named<CloudSpec>,
    cells: Named<CellSpec>,
    #[serde(default)]
    probes: Named<ProbeSpec>,
    #[serde(default)]
    entrypoints: Named<EntrypointSpec>,
    /// Requests that users make anyway, counted by metrics of every cell.
    #[serde(default)]
    traffic: Named<TrafficSpec>,
    /// Numbers that should not grow, such as the depth of a queue.
    #[serde(default)]
    gauges: Named<GaugeSpec>,
    /// Hosts outside every cell and cloud; they judge the prober.
    #[serde(default)]
    references: Vec<Text<SocketAddr>>,
    /// Nodes from which the cells are looked at as well, as users beside them would.
    #[serde(default)]
    vantages: Vec<vantages::VantageSpec>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OperatorSpec {
    /// From where the conductor reaches the agents; outside every cloud and cell.
    addresses: Vec<Text<IpAddr>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TlsSpec {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CloudSpec {
    /// Everything that goes dark with this cloud, agents or not.
    prefixes: Vec<Text<IpNet>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CellSpec {
    cloud: Text<Name>,
    region: Text<Name>,
    /// What its users connect to; the first stands for `{cell}` in URLs.
    #[serde(default)]
    addresses: Vec<Text<IpAddr>>,
    /// The cell's own inside; never cut from itself.
    prefixes: Vec<Text<IpNet>>,
    nodes: Vec<NodeSpec>,
    /// Declared dependencies.
    #[serde(default)]
    uses: Named<EndpointSpec>,
    /// Its Kubernetes API; cellwall asks it and stores nothing there.
    kubernetes: Option<KubernetesSpec>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KubernetesSpec {
    /// A relative path starts at the fleet file.
    kubeconfig: PathBuf,
    context: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NodeSpec {
    name: Text<Name>,
    address: Text<IpAddr>,
    /// Where its agent listens; default ADDRESS:7443.
    agent: Option<Text<SocketAddr>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EndpointSpec {
    address: Text<IpAddr>,
    #[schemars(range(min = 1))]
    port: u16,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntrypointSpec {
    region: Text<Name>,
    dns: DnsSpec,
    /// Declared share of the answers per cell; they add up to 100%.
    shares: Named<Text<Percentage>>,
    http: HttpSpec,
    /// What kinds of program the users have; they add up to 100%.
    clients: Option<ClientsSpec>,
    /// Users per second over all its cells; default 20/s for each of them.
    rate: Option<Text<Rate>>,
    /// Default 1s, at most 10s.
    timeout: Option<Text<Duration>>,
    slo: Option<Text<Duration>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DnsSpec {
    name: String,
    /// The DNS server that users ask; port 53 unless said otherwise.
    resolver: Text<Resolver>,
}

/// The model, if the file makes sense.
pub(super) fn check(name: String, spec: FleetSpec, places: &Places) -> Result<Fleet, InputError> {
    let mut fleet = Fleet {
        name,
        operator: plain(spec.operator.addresses),
        tls: spec.tls.map(
            |TlsSpec {
                 ca,
                 certificate,
                 key,
             }| TlsFiles {
                ca,
                certificate,
                key,
            },
        ),
        clouds: named(spec.clouds, |cloud| Cloud {
            prefixes: plain(cloud.prefixes),
        }),
        cells: named(spec.cells, cell),
        probes: BTreeMap::new(),
        entrypoints: BTreeMap::new(),
        traffic: BTreeMap::new(),
        gauges: BTreeMap::new(),
        references: plain(spec.references),
        vantages: Vec::new(),
    };
    fleet_checks::layout(&fleet, places)?;
    fleet.vantages = vantages::check(&fleet, spec.vantages, places)?;
    for (Text(Name(name)), probe) in spec.probes {
        let path = format!("spec.probes.{name}");
        let probe = asks::probe(probe, &fleet, &path, places)?;
        requests::probe(&fleet, &probe, &path, places)?;
        fleet.probes.insert(name, probe);
    }
    for (Text(Name(name)), entrypoint) in spec.entrypoints {
        let path = format!("spec.entrypoints.{name}");
        let at = At::new(&fleet, places, Plane::Entrypoint, &path);
        let entrypoint = self::entrypoint(entrypoint, &at)?;
        let entrypoint = requests::entrypoint(&fleet, &name, entrypoint, &path, places)?;
        fleet.entrypoints.insert(name, entrypoint);
    }
    for (Text(Name(name)), spec) in spec.traffic {
        let read = traffic::traffic(&fleet, &name, spec, places)?;
        fleet.traffic.insert(name, read);
    }
    for (Text(Name(name)), spec) in spec.gauges {
        let read = traffic::gauge(&fleet, &name, spec, places)?;
        fleet.gauges.insert(name, read);
    }
    Ok(fleet)
}

fn cell(spec: CellSpec) -> Cell {
    let node = |node: NodeSpec| Node {
        name: node.name.0.0,
        address: node.address.0,
        agent: node
            .agent
            .map_or(SocketAddr::new(node.address.0, AGENT_PORT), |agent| agent.0),
    };
    Cell {
        cloud: spec.cloud.0.0,
        region: spec.region.0.0,
        addresses: plain(spec.addresses),
        prefixes: plain(spec.prefixes),
        nodes: spec.nodes.into_iter().map(node).collect(),
        uses: named(spec.uses, |endpoint| Endpoint {
            address: endpoint.address.0,
            port: endpoint.port,
        }),
        kubernetes: spec.kubernetes.map(|access| KubernetesAccess {
            kubeconfig: access.kubeconfig,
            context: access.context,
        }),
    }
}

#[allow(clippy::cast_precision_loss)] // a fleet has far fewer than 2^52 cells
fn entrypoint(spec: EntrypointSpec, at: &At<'_>) -> Result<Entrypoint, InputError> {
    let all_cells = DEFAULT_RATE * spec.shares.len() as f64;
    let http = HttpRequest::checked(spec.http, UrlHost::Entrypoint, &["id"], &at.below("http"))?;
    Ok(Entrypoint {
        region: spec.region.0.0,
        dns: DnsName {
            name: spec.dns.name,
            resolver: spec.dns.resolver.0.0,
        },
        shares: named(spec.shares, |share| share.0.0),
        http,
        clients: clients::read(spec.clients, at)?,
        rate: spec.rate.map_or(all_cells, |rate| rate.0.0),
        timeout: spec.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0),
        slo: spec.slo.map(|slo| slo.0),
    })
}

fn plain<T>(texts: Vec<Text<T>>) -> Vec<T> {
    texts.into_iter().map(|text| text.0).collect()
}

fn named<T, U>(map: Named<T>, convert: impl Fn(T) -> U) -> BTreeMap<String, U> {
    map.into_iter()
        .map(|(name, value)| (name.0.0, convert(value)))
        .collect()
}
