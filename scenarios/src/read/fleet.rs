//! The YAML shape of a fleet, and its way into the model.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::fleet::{
    Ask, Cell, Cloud, DnsName, Endpoint, Entrypoint, Fleet, HttpMethod, HttpRequest,
    KubernetesAccess, KubernetesQuestion, Node, Plane, Probe, TlsFiles,
};
use crate::input::InputError;
use crate::places::Places;
use crate::read::{Named, fleet_checks, requests, vantages};
use crate::values::{Name, Percentage, Rate, Resolver, Text};

/// Port of an agent that does not say another.
const AGENT_PORT: u16 = 7443;
/// Probes per second and cell unless said otherwise.
const DEFAULT_RATE: f64 = 20.0;
/// The same for probes of a Kubernetes API, where each question costs more than on the data plane.
const DEFAULT_KUBERNETES_RATE: f64 = 16.0;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// Its Kubernetes API; cellwall asks it and never writes to it.
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProbeSpec {
    plane: Plane,
    /// Either this or `kubernetes`.
    http: Option<HttpSpec>,
    /// What the cell's Kubernetes API is asked; plane control.
    kubernetes: Option<KubernetesQuestion>,
    /// URL with `{id}` at which acknowledged writes are read back.
    read_back: Option<String>,
    /// Per second and cell; default 20/s, of a Kubernetes API 16/s.
    rate: Option<Text<Rate>>,
    /// Default 1s, at most 10s.
    timeout: Option<Text<Duration>>,
    /// Slower than this is bad.
    slo: Option<Text<Duration>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HttpSpec {
    /// With `{cell}` (probes) or `{address}` (entrypoints) for the host, `{id}` for a fresh id.
    url: String,
    /// Default GET.
    method: Option<HttpMethod>,
    body: Option<String>,
    expect: Option<ExpectSpec>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExpectSpec {
    /// Default 200.
    #[schemars(range(min = 100, max = 599))]
    status: u16,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntrypointSpec {
    region: Text<Name>,
    dns: DnsSpec,
    /// Declared share of the answers per cell; they add up to 100%.
    shares: Named<Text<Percentage>>,
    http: HttpSpec,
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
        references: plain(spec.references),
        vantages: Vec::new(),
    };
    fleet_checks::layout(&fleet, places)?;
    fleet.vantages = vantages::check(&fleet, spec.vantages, places)?;
    for (Text(Name(name)), probe) in spec.probes {
        let path = format!("spec.probes.{name}");
        let probe = self::probe(probe, &path, places)?;
        requests::probe(&fleet, &probe, &path, places)?;
        fleet.probes.insert(name, probe);
    }
    for (Text(Name(name)), entrypoint) in spec.entrypoints {
        let path = format!("spec.entrypoints.{name}");
        let entrypoint = self::entrypoint(entrypoint);
        let entrypoint = requests::entrypoint(&fleet, &name, entrypoint, &path, places)?;
        fleet.entrypoints.insert(name, entrypoint);
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

fn probe(spec: ProbeSpec, path: &str, places: &Places) -> Result<Probe, InputError> {
    let ask = match (spec.http, spec.kubernetes) {
        (Some(http), None) => Ask::Http(request(http)),
        (None, Some(question)) => Ask::Kubernetes(question),
        (Some(_), Some(_)) => {
            let message = "a probe asks one question: http or kubernetes, not both";
            let path = format!("{path}.kubernetes");
            return Err(InputError::at_key(places, &path, message)
                .with_hint("write two probes, each with its own rate and slo"));
        }
        (None, None) => {
            let message = "a probe without a question: http or kubernetes is missing";
            return Err(InputError::at_key(places, path, message));
        }
    };
    let default_rate = match ask {
        Ask::Http(_) => DEFAULT_RATE,
        Ask::Kubernetes(_) => DEFAULT_KUBERNETES_RATE,
    };
    Ok(Probe {
        plane: spec.plane,
        ask,
        read_back: spec.read_back,
        rate: spec.rate.map_or(default_rate, |rate| rate.0.0),
        timeout: spec.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0),
        slo: spec.slo.map(|slo| slo.0),
    })
}

#[allow(clippy::cast_precision_loss)] // a fleet has far fewer than 2^52 cells
fn entrypoint(spec: EntrypointSpec) -> Entrypoint {
    let all_cells = DEFAULT_RATE * spec.shares.len() as f64;
    Entrypoint {
        region: spec.region.0.0,
        dns: DnsName {
            name: spec.dns.name,
            resolver: spec.dns.resolver.0.0,
        },
        shares: named(spec.shares, |share| share.0.0),
        http: request(spec.http),
        rate: spec.rate.map_or(all_cells, |rate| rate.0.0),
        timeout: spec.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0),
        slo: spec.slo.map(|slo| slo.0),
    }
}

fn request(spec: HttpSpec) -> HttpRequest {
    HttpRequest {
        method: spec.method.unwrap_or(HttpMethod::Get),
        url: spec.url,
        body: spec.body,
        expect_status: spec.expect.map_or(200, |expect| expect.status),
    }
}

fn plain<T>(texts: Vec<Text<T>>) -> Vec<T> {
    texts.into_iter().map(|text| text.0).collect()
}

fn named<T, U>(map: Named<T>, convert: impl Fn(T) -> U) -> BTreeMap<String, U> {
    map.into_iter()
        .map(|(name, value)| (name.0.0, convert(value)))
        .collect()
}
