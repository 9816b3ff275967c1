//! The way back: every agent is told to undo the drill, and its word on residue is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use scenarios::history::Residue;
use tokio::time::{Instant, sleep};
use wire::{PROTOCOL, RevertReply, RevertRequest};

use crate::agents::{Agent, call};

/// Longer than the longest way in which an agent ends a fault by itself and is restarted.
const AT_LEAST: Duration = Duration::from_secs(15);

/// How long agents are asked again to revert before they count as unverified.
#[derive(Clone, Debug)]
pub struct Patience {
    until: Instant,
    hurry: Arc<AtomicBool>,
}

impl Default for Patience {
    fn default() -> Self {
        Self::behind(Instant::now())
    }
}

impl Patience {
    /// For agents that may not be reached before `instant`.
    pub fn behind(instant: Instant) -> Self {
        Self {
            until: instant.max(Instant::now()) + AT_LEAST,
            hurry: Arc::default(),
        }
    }

    /// Nobody waits for agents that do not answer any more.
    pub fn end(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.hurry.load(Ordering::Relaxed) || Instant::now() > self.until
    }
}

/// What one agent said when it was told to revert.
pub struct Answer {
    pub residue: Residue,
    /// Why its drill had ended, and when; if the agent knows.
    pub ended: Option<(String, Instant)>,
}

pub fn residues(answers: &[Answer]) -> Vec<Residue> {
    answers
        .iter()
        .map(|answer| answer.residue.clone())
        .collect()
}

/// What an agent says is not as it was: things of ours, and what somebody else has changed since.
pub fn left(mut residue: Vec<String>, drifted: &[String]) -> Vec<String> {
    residue.extend(drifted.iter().map(|what| format!("drifted: {what}")));
    residue
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
pub async fn revert(agents: &[Agent], drill: &str, patience: &Patience) -> Vec<Answer> {
    let answers = agents
        .iter()
        .map(|agent| revert_one(agent, drill, patience));
    join_all(answers).await
}

async fn revert_one(agent: &Agent, drill: &str, patience: &Patience) -> Answer {
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
                let ended = ended(agent, &reply);
                return Answer {
                    residue: residue(reply.verified, left(reply.residue, &reply.drifted)),
                    ended,
                };
            }
            Err(why) if patience.is_over() => {
                return Answer {
                    residue: residue(false, vec![format!("not verified: {why}")]),
                    ended: None,
                };
            }
            Err(_) => sleep(Duration::from_millis(250)).await,
        }
    }
}

fn ended(agent: &Agent, reply: &RevertReply) -> Option<(String, Instant)> {
    if reply.ended_boottime_ns == 0 {
        return None;
    }
    let at = agent.instant(reply.ended_boottime_ns)?;
    Some((reply.cause.clone(), at))
}
