//! All agents of a drill as one: arm, fire at one instant, keep the lease, revert, scan.
//!
//! The types carry the order: `Armed::fire -> Firing`, and either ends in `revert`.

mod keeper;
mod revert;

use std::time::Duration;

use futures::future::join_all;
use scenarios::history::AgentEvent;
use scenarios::plan::Plan;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::{ArmRequest, Claim, FireRequest, PROTOCOL};

use crate::agents::{Agent, call};
use crate::drill::pulse::Pulse;

pub use keeper::LeaseKeeper;
pub use revert::{Answer, Patience, left, residues, revert, unclean};

/// An agent that can no longer be spoken to; by its lease it ends the fault by itself.
pub const LOST: &str = "lost";
/// The same of a drill without a lease: the fault goes on, and what became of it is asked later.
pub const UNREACHABLE: &str = "unreachable";
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
    /// None: nothing is renewed, and agents that cannot be reached go on to their deadline.
    pub lease: Option<Duration>,
}

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

    pub async fn revert(self) -> Vec<Answer> {
        self.keeper.stop();
        revert(&self.agents, &self.orders.drill, &Patience::default()).await
    }
}

impl Firing {
    pub async fn revert(self, patience: &Patience) -> Reverted {
        self.keeper.stop();
        let answers = revert(&self.agents, &self.orders.drill, patience).await;
        Reverted {
            answers,
            listening: self.keeper,
        }
    }
}

/// Agents that were asked to undo everything; what they say of it is still listened to.
pub struct Reverted {
    pub answers: Vec<Answer>,
    pub listening: LeaseKeeper,
}

impl Refusal {
    pub async fn revert(self) -> Vec<Answer> {
        revert(&self.agents, &self.orders.drill, &Patience::default()).await
    }
}

fn complaints(agents: &[Agent], answers: Vec<Result<(), String>>) -> Vec<String> {
    let failed = agents.iter().zip(answers);
    failed
        .filter_map(|(agent, answer)| answer.err().map(|why| format!("{}: {why}", agent.name())))
        .collect()
}

/// The plan as bytes with its digest, ready for every agent.
pub fn orders(drill: String, plan: &Plan, claim: Claim) -> Result<Orders, serde_json::Error> {
    use sha2::{Digest, Sha256};
    let bytes = serde_json::to_vec(plan)?;
    let plan_sha256 = Sha256::digest(&bytes).to_vec();
    let lease = plan.lease_ms.map(Duration::from_millis);
    Ok(Orders {
        drill,
        plan: bytes,
        plan_sha256,
        claim,
        lease,
    })
}
