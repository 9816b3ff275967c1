//! A conductor's calls, made from the operator's namespace, and plans to send.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use scenarios::change::{Change, Direction, FirewallCut, Management, Peers};
use scenarios::plan::{CellStep, PLAN_FORMAT, Plan, PlanTarget, Step};
use scenarios::scenario::Side;
use sha2::{Digest, Sha256};
use tonic::Status;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use wire::agent_client::AgentClient;
use wire::*;

use super::{NODE, Namespace, OPERATOR, OPERATOR_6};

pub const PORT: u16 = 7443;

/// What keeps the calls of one client in one namespace: its runtime is only ever driven there.
struct Inner {
    runtime: tokio::runtime::Runtime,
    agent: AgentClient<Channel>,
}

#[derive(Clone)]
pub struct Client {
    inner: Arc<Mutex<Inner>>,
    jobs: std::sync::mpsc::Sender<super::Job>,
}

impl Client {
    pub fn new(operator: &Namespace, tls: ClientTlsConfig) -> Self {
        let client = Self::at(operator, tls, NODE);
        client.wait_until_up();
        client
    }

    /// Does not wait for the agent.
    pub fn at(operator: &Namespace, tls: ClientTlsConfig, address: &str) -> Self {
        Self::at_port(operator, tls, address, PORT)
    }

    pub fn at_port(operator: &Namespace, tls: ClientTlsConfig, address: &str, port: u16) -> Self {
        let address: std::net::IpAddr = address.parse().unwrap();
        let url = format!("https://{}", std::net::SocketAddr::new(address, port));
        let inner = operator.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let endpoint = Endpoint::from_shared(url)
                .unwrap()
                .tls_config(tls)
                .unwrap()
                .connect_timeout(Duration::from_secs(2))
                .timeout(Duration::from_secs(10));
            let guard = runtime.enter();
            let agent = AgentClient::new(endpoint.connect_lazy());
            drop(guard);
            Inner { runtime, agent }
        });
        Self {
            inner: Arc::new(Mutex::new(inner)),
            jobs: operator.jobs.clone(),
        }
    }

    pub fn wait_until_up(&self) {
        let begun = Instant::now();
        while let Err(error) = self.status() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "no agent: {error:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn call<T, F>(&self, call: impl FnOnce(AgentClient<Channel>) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let (tell, told) = std::sync::mpsc::channel();
        let inner = self.inner.clone();
        self.jobs
            .send(Box::new(move || {
                let inner = inner.lock().unwrap();
                let agent = inner.agent.clone();
                drop(tell.send(inner.runtime.block_on(call(agent))));
            }))
            .unwrap();
        told.recv().expect("a call panicked")
    }

    pub fn status(&self) -> Result<StatusReply, Status> {
        self.call(|mut agent| async move {
            Ok(agent
                .status(StatusRequest { protocol: PROTOCOL })
                .await?
                .into_inner())
        })
    }

    pub fn plan(&self, plan: &Plan) -> Result<PlanReply, Status> {
        let request = PlanRequest {
            protocol: PROTOCOL,
            plan: bytes(plan),
        };
        self.call(|mut agent| async move { Ok(agent.plan(request).await?.into_inner()) })
    }

    pub fn arm(&self, drill: &str, plan: &Plan) -> Result<ArmReply, Status> {
        self.arm_as("conductor", drill, plan)
    }

    pub fn arm_as(&self, who: &str, drill: &str, plan: &Plan) -> Result<ArmReply, Status> {
        let plan = bytes(plan);
        let request = ArmRequest {
            protocol: PROTOCOL,
            drill: drill.to_owned(),
            plan_sha256: Sha256::digest(&plan).to_vec(),
            plan,
            claim: Some(Claim {
                conductor: who.to_owned(),
                ..Claim::default()
            }),
        };
        self.call(|mut agent| async move { Ok(agent.arm(request).await?.into_inner()) })
    }

    /// Fires this far ahead; the agent's clock is this machine's.
    pub fn fire_in(&self, drill: &str, ahead: Duration) -> Result<FireReply, Status> {
        let at_boottime_ns = boottime() + ahead.as_nanos() as u64;
        let request = FireRequest {
            protocol: PROTOCOL,
            drill: drill.to_owned(),
            at_boottime_ns,
        };
        self.call(|mut agent| async move { Ok(agent.fire(request).await?.into_inner()) })
    }

    /// Arms, fires 200 ms ahead and waits until the fault is in force.
    pub fn cut(&self, drill: &str, plan: &Plan) {
        self.arm(drill, plan).unwrap();
        self.fire_in(drill, Duration::from_millis(200)).unwrap();
        std::thread::sleep(Duration::from_millis(260));
    }

    pub fn renew(&self, drill: &str) -> Result<RenewReply, Status> {
        let request = RenewRequest {
            protocol: PROTOCOL,
            drill: drill.to_owned(),
        };
        self.call(|mut agent| async move { Ok(agent.renew(request).await?.into_inner()) })
    }

    pub fn revert(&self, drill: &str) -> Result<RevertReply, Status> {
        let request = RevertRequest {
            protocol: PROTOCOL,
            drill: drill.to_owned(),
        };
        self.call(|mut agent| async move { Ok(agent.revert(request).await?.into_inner()) })
    }

    pub fn halt(&self, reason: &str) -> Result<HaltReply, Status> {
        let request = HaltRequest {
            protocol: PROTOCOL,
            reason: reason.to_owned(),
        };
        self.call(|mut agent| async move { Ok(agent.halt(request).await?.into_inner()) })
    }

    pub fn resume(&self) -> Result<ResumeReply, Status> {
        let request = ResumeRequest { protocol: PROTOCOL };
        self.call(move |mut agent| async move { Ok(agent.resume(request).await?.into_inner()) })
    }

    /// Reverts and wants nothing left.
    pub fn revert_clean(&self, drill: &str) {
        let reply = self.revert(drill).unwrap();
        assert!(reply.verified && reply.residue.is_empty(), "{reply:?}");
    }
}

pub fn boottime() -> u64 {
    agent::boottime::Boottime::now().0
}

fn bytes(plan: &Plan) -> Vec<u8> {
    serde_json::to_vec(plan).unwrap()
}

/// A cut of these peers; `!` in front of the first: of all others.
pub fn cut(peers: &[&str], direction: Direction) -> Change {
    let all_but = peers.first().is_some_and(|peer| peer.starts_with('!'));
    let prefixes = peers
        .iter()
        .map(|peer| prefix(peer.trim_start_matches('!')));
    let prefixes = prefixes.collect();
    let peers = if all_but {
        Peers::AllBut(prefixes)
    } else {
        Peers::Only(prefixes)
    };
    Change::Firewall(FirewallCut {
        peers,
        direction,
        management: Management::Keep,
    })
}

/// A cut of everything but loopback, the conductor's way to the agent included.
pub fn cut_of_the_conductor() -> Change {
    let Change::Firewall(cut) = cut(&["!127.0.0.0/8"], Direction::Both) else {
        unreachable!()
    };
    Change::Firewall(FirewallCut {
        management: Management::Cut,
        ..cut
    })
}

fn prefix(text: &str) -> ipnet::IpNet {
    text.parse()
        .unwrap_or_else(|_| text.parse::<std::net::IpAddr>().unwrap().into())
}

/// A step on the target, at node `n1` of cell `a`.
pub fn step(id: u32, at_ms: u64, duration_ms: u64, change: Change) -> Step {
    let cell = CellStep {
        nodes: vec!["n1".into()],
        changes: vec![change],
    };
    Step {
        id,
        at_ms,
        duration_ms,
        side: Side::Target,
        title: "a test".into(),
        cells: BTreeMap::from([("a".to_owned(), cell)]),
    }
}

/// The same step, with cell `a` as one of the others.
pub fn others(mut step: Step) -> Step {
    step.side = Side::Others;
    step
}

/// A plan with one cell `a` as its target and a lease of this length.
pub fn plan(lease_ms: u64, steps: Vec<Step>) -> Plan {
    Plan {
        format: PLAN_FORMAT,
        fleet: "test".into(),
        scenario: "test".into(),
        target: PlanTarget {
            cloud: "x".into(),
            cells: vec!["a".into()],
            prefixes: vec!["10.1.0.0/16".parse().unwrap()],
        },
        operator: vec![OPERATOR.parse().unwrap(), OPERATOR_6.parse().unwrap()],
        lease_ms: Some(lease_ms),
        steps,
        endpoints: Vec::new(),
    }
}

/// The refusal's text, for looking into.
pub fn words<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
    let status = result.expect_err("this should have been refused");
    format!("{:?}: {}", status.code(), status.message())
}
