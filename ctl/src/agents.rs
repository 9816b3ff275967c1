//! The conductor's side of the wire: one mutually authenticated link to each agent.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use scenarios::fleet::{Fleet, TlsFiles};
use tokio::time::{Instant, timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use wire::agent_client::AgentClient;
use wire::{PROTOCOL, StatusReply, StatusRequest};

use crate::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A call that takes longer than this is a lost agent.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Ping-pongs per agent; the one with the shortest round trip sets the offset (verdict.md 6).
const PINGS: usize = 8;

/// One agent that answers.
#[derive(Clone)]
pub struct Agent {
    pub cell: String,
    pub node: String,
    pub client: AgentClient<Channel>,
    pub status: StatusReply,
    clock: AgentClock,
}

/// An agent's CLOCK_BOOTTIME against this process's monotonic clock.
#[derive(Clone, Copy, Debug)]
struct AgentClock {
    here: Instant,
    there_ns: u64,
    /// Half the shortest round trip: the offset is no further off than this.
    skew: Duration,
}

impl AgentClock {
    fn boottime_ns(&self, instant: Instant) -> u64 {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        match instant.checked_duration_since(self.here) {
            Some(later) => self.there_ns.saturating_add(nanos(later)),
            None => self
                .there_ns
                .saturating_sub(nanos(self.here.duration_since(instant))),
        }
    }

    /// None if it was before this machine's own clock began.
    fn instant(&self, boottime_ns: u64) -> Option<Instant> {
        match boottime_ns.checked_sub(self.there_ns) {
            Some(later) => self.here.checked_add(Duration::from_nanos(later)),
            None => self
                .here
                .checked_sub(Duration::from_nanos(self.there_ns - boottime_ns)),
        }
    }
}

impl Agent {
    pub fn name(&self) -> String {
        format!("{}/{}", self.cell, self.node)
    }

    /// `instant` as this agent's own clock will show it, in ns of CLOCK_BOOTTIME.
    pub fn boottime_ns(&self, instant: Instant) -> u64 {
        self.clock.boottime_ns(instant)
    }

    /// When this agent's clock showed `boottime_ns`, here.
    pub fn instant(&self, boottime_ns: u64) -> Option<Instant> {
        self.clock.instant(boottime_ns)
    }

    pub fn skew(&self) -> Duration {
        self.clock.skew
    }
}

/// An agent that could not be asked, and why.
#[derive(Clone, Debug)]
pub struct Silent {
    pub cell: String,
    pub node: String,
    pub why: String,
}

/// The conductor's identity, read once.
pub struct Identities {
    ca: Certificate,
    own: Identity,
    /// Common name of its certificate; agents compare the claim with it.
    pub conductor: String,
}

impl Identities {
    /// Reads the PEM files that the fleet names, relative to the fleet's own file.
    pub fn read(fleet: &Fleet, file: &Path, state: &'static str) -> Result<Self, Failure> {
        let no_tls = || Failure::NoTls {
            file: file.to_path_buf(),
            state,
        };
        let TlsFiles {
            ca,
            certificate,
            key,
        } = fleet.tls.as_ref().ok_or_else(no_tls)?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let read = |path: &Path| {
            let path = folder.join(path);
            std::fs::read(&path).map_err(|error| Failure::Unreadable { path, error })
        };
        let own = read(certificate)?;
        let conductor = common_name(&own).ok_or_else(|| Failure::NoCommonName {
            path: folder.join(certificate),
        })?;
        Ok(Self {
            ca: Certificate::from_pem(read(ca)?),
            own: Identity::from_pem(own, read(key)?),
            conductor,
        })
    }
}

/// The common name in the first certificate of a PEM file.
fn common_name(pem: &[u8]) -> Option<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?;
    Some(name.to_string())
}

/// Connects to the named nodes at once; the order of the answers is the order of `nodes`.
pub async fn connect(
    fleet: &Fleet,
    nodes: &[(String, String)],
    identities: &Identities,
) -> Vec<Result<Agent, Silent>> {
    join_all(nodes.iter().map(|(cell, node)| async move {
        let silent = |why: String| Silent {
            cell: cell.clone(),
            node: node.clone(),
            why,
        };
        let known = fleet
            .cells
            .get(cell)
            .and_then(|c| c.nodes.iter().find(|n| &n.name == node));
        let address = known
            .ok_or_else(|| silent("the fleet has no such node".to_string()))?
            .agent;
        reach(cell, node, address, identities).await.map_err(silent)
    }))
    .await
}

/// A connection to one agent, on which nothing was asked yet.
pub async fn link(
    cell: &str,
    node: &str,
    address: SocketAddr,
    identities: &Identities,
) -> Result<AgentClient<Channel>, String> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(identities.ca.clone())
        .identity(identities.own.clone())
        .domain_name(wire::agent_tls_name(cell, node));
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| full_text(&error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(3));
    // The kernel of a host takes connections for an agent that hangs, which never greets.
    match timeout(CALL_TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(AgentClient::new(channel)),
        Ok(Err(error)) => Err(format!("{address}: {}", full_text(&error))),
        Err(_) => Err(format!(
            "{address}: no greeting within {} s",
            CALL_TIMEOUT.as_secs()
        )),
    }
}

async fn reach(
    cell: &str,
    node: &str,
    address: SocketAddr,
    identities: &Identities,
) -> Result<Agent, String> {
    let mut client = link(cell, node, address, identities).await?;
    let (status, clock) = synchronise(&mut client).await?;
    if status.protocol != PROTOCOL {
        return Err(format!(
            "speaks protocol {}, this is {PROTOCOL}",
            status.protocol
        ));
    }
    if status.cell != cell || status.node != node {
        return Err(format!(
            "{address} is the agent of {}/{}",
            status.cell, status.node
        ));
    }
    Ok(Agent {
        cell: cell.to_string(),
        node: node.to_string(),
        client,
        status,
        clock,
    })
}

/// Measures the clock offset by ping-pong; the first call, which may wait for the handshake, is
/// only a warm-up.
async fn synchronise(
    client: &mut AgentClient<Channel>,
) -> Result<(StatusReply, AgentClock), String> {
    let mut best: Option<AgentClock> = None;
    let mut status = ask_status(client).await?;
    for _ in 0..PINGS {
        let sent = Instant::now();
        status = ask_status(client).await?;
        let round_trip = sent.elapsed();
        let clock = AgentClock {
            here: sent + round_trip / 2,
            there_ns: status.boottime_ns,
            skew: round_trip / 2,
        };
        if best.is_none_or(|best| clock.skew < best.skew) {
            best = Some(clock);
        }
    }
    best.map(|clock| (status, clock))
        .ok_or_else(|| "no ping was answered".to_string())
}

async fn ask_status(client: &mut AgentClient<Channel>) -> Result<StatusReply, String> {
    call(client.status(StatusRequest { protocol: PROTOCOL })).await
}

/// Bounds one call and puts its failure into words.
pub async fn call<T>(
    answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, String> {
    match timeout(CALL_TIMEOUT, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
        Err(_) => Err(format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
    }
}

/// An error with its causes, since transport errors hide the reason in the source.
fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Every node of the fleet, as (cell, node).
pub fn all_nodes(fleet: &Fleet) -> Vec<(String, String)> {
    let cells = fleet.cells.iter();
    cells
        .flat_map(|(cell, c)| c.nodes.iter().map(|node| (cell.clone(), node.name.clone())))
        .collect()
}

/// All agents or none: a drill on half a fleet proves nothing.
pub fn all_or_refuse(answers: Vec<Result<Agent, Silent>>) -> Result<Vec<Agent>, Failure> {
    let all = answers.len();
    let (answered, silent): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let silent: Vec<Silent> = silent.into_iter().filter_map(Result::err).collect();
    if silent.is_empty() {
        return Ok(answered.into_iter().filter_map(Result::ok).collect());
    }
    let lines: Vec<String> = silent
        .iter()
        .map(|s| format!("  {}/{}: {}", s.cell, s.node, s.why))
        .collect();
    Err(Failure::AgentsMissing {
        count: silent.len(),
        all,
        list: lines.join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_before_and_after_the_ping_map_to_the_agents_clock() {
        let here = Instant::now() + Duration::from_secs(10);
        let clock = AgentClock {
            here,
            there_ns: 5_000_000_000,
            skew: Duration::from_millis(1),
        };
        assert_eq!(
            clock.boottime_ns(here + Duration::from_millis(250)),
            5_250_000_000
        );
        assert_eq!(
            clock.boottime_ns(here - Duration::from_millis(250)),
            4_750_000_000
        );
        for ns in [4_750_000_000, 5_000_000_000, 5_250_000_000] {
            let back = clock.instant(ns).map(|instant| clock.boottime_ns(instant));
            assert_eq!(back, Some(ns));
        }
    }
}
