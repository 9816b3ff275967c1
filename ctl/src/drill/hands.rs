//! All agents of a drill as one: arm, fire at one instant, keep the lease, revert, scan.
//!
//! The types carry the order: `Armed::fire -> Firing`, and either ends in `revert`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use scenarios::history::{AgentEvent, Residue};
use scenarios::plan::Plan;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use wire::{
    ArmRequest, Claim, FireRequest, PROTOCOL, RenewRequest, RevertRequest, State, WatchRequest,
};

use crate::agents::{Agent, call};
use crate::drill::prepare::millis;
use crate::drill::pulse::Pulse;

/// An agent that can no longer be spoken to; by its lease it ends the fault by itself.
pub const LOST: &str = "lost";
pub const NOT_RENEWED: &str = "not renewed";
/// States in which an agent has nothing in force; before the deadline they end the drill.
pub const ENDED: [&str; 4] = ["idle", "reverting", "reverted", LOST];

/// The plan as it goes over the wire, with what identifies the drill.
#[derive(Clone)]
pub struct Orders {
    pub drill: String,
    pub plan: Vec<u8>,
    pub plan_sha256: Vec<u8>,
    pub claim: Claim,
    pub lease: Duration,
}

/// How long agents are asked again to revert before they count as unverified: longer than the
/// longest way in which an agent ends a fault by itself and is restarted.
const REVERT_PATIENCE: Duration = Duration::from_secs(15);

/// Agents that hold a journaled, inert plan.
pub struct Armed {
    agents: Vec<Agent>,
    orders: Orders,
    keeper: LeaseKeeper,
}

/// Agents that were told when to act.
pub struct Firing {
    agents: Vec<Agent>,
    orders: Orders,
    keeper: LeaseKeeper,
}

/// Some agents refused or failed; those that had accepted must be reverted.
pub struct Refusal {
    pub why: Vec<String>,
    pub agents: Vec<Agent>,
    pub orders: Orders,
}

impl Armed {
    /// Arms every agent at once. On any refusal the caller gets the agents back to revert them.
    pub async fn arm(
        agents: Vec<Agent>,
        orders: Orders,
        events: &mpsc::Sender<AgentEvent>,
        pulse: &Pulse,
    ) -> Result<Self, Box<Refusal>> {
        let answers = join_all(agents.iter().map(|agent| {
            let mut client = agent.client.clone();
            let request = ArmRequest {
                protocol: PROTOCOL,
                drill: orders.drill.clone(),
                plan: orders.plan.clone(),
                plan_sha256: orders.plan_sha256.clone(),
                claim: Some(orders.claim.clone()),
            };
            async move { call(client.arm(request)).await.map(|_| ()) }
        }))
        .await;
        let why = complaints(&agents, answers);
        if !why.is_empty() {
            return Err(Box::new(Refusal {
                why,
                agents,
                orders,
            }));
        }
        let keeper = LeaseKeeper::start(&agents, &orders, events, pulse);
        Ok(Self {
            agents,
            orders,
            keeper,
        })
    }

    /// Tells every agent to act at `at`, on its own clock.
    pub async fn fire(self, at: Instant) -> Result<Firing, Box<Refusal>> {
        let Self {
            agents,
            orders,
            keeper,
        } = self;
        let answers = join_all(agents.iter().map(|agent| {
            let mut client = agent.client.clone();
            let request = FireRequest {
                protocol: PROTOCOL,
                drill: orders.drill.clone(),
                at_boottime_ns: agent.boottime_ns(at),
            };
            async move { call(client.fire(request)).await.map(|_| ()) }
        }))
        .await;
        let why = complaints(&agents, answers);
        if why.is_empty() {
            Ok(Firing {
                agents,
                orders,
                keeper,
            })
        } else {
            Err(Box::new(Refusal {
                why,
                agents,
                orders,
            }))
        }
    }

    pub async fn revert(self) -> Vec<Residue> {
        self.keeper.stop();
        revert(&self.agents, &self.orders.drill).await
    }
}

impl Firing {
    pub async fn revert(self) -> Reverted {
        self.keeper.stop();
        let residue = revert(&self.agents, &self.orders.drill).await;
        Reverted {
            residue,
            listening: self.keeper,
        }
    }
}

/// Agents that were asked to undo everything; what they say of it is still listened to.
pub struct Reverted {
    pub residue: Vec<Residue>,
    pub listening: LeaseKeeper,
}

impl Refusal {
    pub async fn revert(self) -> Vec<Residue> {
        revert(&self.agents, &self.orders.drill).await
    }
}

fn complaints(agents: &[Agent], answers: Vec<Result<(), String>>) -> Vec<String> {
    let failed = agents.iter().zip(answers);
    failed
        .filter_map(|(agent, answer)| answer.err().map(|why| format!("{}: {why}", agent.name())))
        .collect()
}

/// One line for every agent on which something is left, or cannot be shown to be gone.
pub fn unclean(residue: &[Residue]) -> Vec<String> {
    let unclean = residue
        .iter()
        .filter(|one| !one.verified || !one.left.is_empty());
    unclean
        .map(|one| format!("  {}/{}: {}", one.cell, one.node, one.left.join(", ")))
        .collect()
}

/// Undoes the drill on every agent and takes each agent's word on residue; an agent that cannot be
/// asked is unverified, and that counts as residue.
pub async fn revert(agents: &[Agent], drill: &str) -> Vec<Residue> {
    join_all(agents.iter().map(|agent| revert_one(agent, drill))).await
}

async fn revert_one(agent: &Agent, drill: &str) -> Residue {
    let begun = Instant::now();
    let mut client = agent.client.clone();
    let residue = |verified, left| Residue {
        cell: agent.cell.clone(),
        node: agent.node.clone(),
        verified,
        left,
    };
    loop {
        let request = RevertRequest {
            protocol: PROTOCOL,
            drill: drill.to_string(),
        };
        match call(client.revert(request)).await {
            Ok(reply) => {
                let drifted = reply.drifted.iter().map(|what| format!("drifted: {what}"));
                let left = reply.residue.iter().cloned().chain(drifted).collect();
                return residue(reply.verified, left);
            }
            Err(why) if begun.elapsed() > REVERT_PATIENCE => {
                return residue(false, vec![format!("not verified: {why}")]);
            }
            Err(_) => sleep(Duration::from_millis(250)).await,
        }
    }
}

/// Renews every agent's lease and listens to every agent, until stopped or dropped.
pub struct LeaseKeeper {
    stopping: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl LeaseKeeper {
    fn start(
        agents: &[Agent],
        orders: &Orders,
        events: &mpsc::Sender<AgentEvent>,
        pulse: &Pulse,
    ) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for agent in agents {
            let reporter = Reporter {
                agent: agent.clone(),
                events: events.clone(),
                origin: pulse.origin(),
                stopping: stopping.clone(),
            };
            tasks.push(tokio::spawn(renew(
                reporter.clone(),
                orders.drill.clone(),
                orders.lease,
                pulse.clone(),
            )));
            tasks.push(tokio::spawn(listen(reporter)));
        }
        Self { stopping, tasks }
    }

    /// No renewal leaves after this; listening goes on so that the revert is seen.
    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[derive(Clone)]
struct Reporter {
    agent: Agent,
    events: mpsc::Sender<AgentEvent>,
    origin: Instant,
    stopping: Arc<AtomicBool>,
}

impl Reporter {
    async fn tell(&self, state: &str, detail: String) {
        self.tell_gaps(state, detail, Vec::new()).await;
    }

    async fn tell_gaps(&self, state: &str, detail: String, gaps: Vec<String>) {
        let at_ms = millis(self.origin.elapsed());
        let event = AgentEvent {
            at_ms,
            cell: self.agent.cell.clone(),
            node: self.agent.node.clone(),
            state: state.to_string(),
            detail,
            gaps,
        };
        // The receiver is gone only when the drill is over.
        let _ = self.events.send(event).await;
    }
}

/// Three renewals fit into one lease, so that a single lost one does not end the fault. Nothing is
/// renewed for a conductor that no longer looks at what happens: then the lease ends the fault.
async fn renew(reporter: Reporter, drill: String, lease: Duration, pulse: Pulse) {
    let mut client = reporter.agent.client.clone();
    let mut renewed = Instant::now();
    loop {
        sleep(lease / 3).await;
        if reporter.stopping.load(Ordering::Relaxed) {
            return;
        }
        if !pulse.is_fresh() {
            continue;
        }
        let request = RenewRequest {
            protocol: PROTOCOL,
            drill: drill.clone(),
        };
        let answer = timeout(lease / 3, client.renew(request)).await;
        if reporter.stopping.load(Ordering::Relaxed) {
            return;
        }
        let why = match answer {
            Ok(Ok(_)) => {
                renewed = Instant::now();
                continue;
            }
            // The agent itself says that it holds the drill no longer.
            Ok(Err(status))
                if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) =>
            {
                return reporter.tell(LOST, status.message().to_string()).await;
            }
            Ok(Err(status)) => status.message().to_string(),
            Err(_) => "no answer".to_string(),
        };
        if renewed.elapsed() > lease {
            let why = format!("its lease ran out: {why}");
            return reporter.tell(LOST, why).await;
        }
        reporter.tell(NOT_RENEWED, why).await;
    }
}

async fn listen(reporter: Reporter) {
    let mut client = reporter.agent.client.clone();
    let stream = match client.watch(WatchRequest { protocol: PROTOCOL }).await {
        Ok(response) => response,
        Err(status) => return reporter.tell(LOST, status.message().to_string()).await,
    };
    let mut stream = stream.into_inner();
    loop {
        match stream.message().await {
            Ok(Some(event)) => {
                let state = State::try_from(event.state).unwrap_or(State::Unspecified);
                let mut detail = event.cause;
                if !event.residue.is_empty() {
                    detail = format!("{detail}; residue: {}", event.residue.join(", "));
                }
                let state = state.as_str_name().to_ascii_lowercase();
                reporter.tell_gaps(&state, detail, event.gaps).await;
            }
            Ok(None) => {
                return reporter
                    .tell(LOST, "the agent closed its stream".into())
                    .await;
            }
            Err(status) => return reporter.tell(LOST, status.message().to_string()).await,
        }
    }
}

/// The plan as bytes with its digest, ready for every agent.
pub fn orders(drill: String, plan: &Plan, claim: Claim) -> Result<Orders, serde_json::Error> {
    use sha2::{Digest, Sha256};
    let bytes = serde_json::to_vec(plan)?;
    let plan_sha256 = Sha256::digest(&bytes).to_vec();
    let lease = Duration::from_millis(plan.lease_ms);
    Ok(Orders {
        drill,
        plan: bytes,
        plan_sha256,
        claim,
        lease,
    })
}
