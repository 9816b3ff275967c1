//! How everyone else reaches the task that holds the drill, and what it lets them know.

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use wire::{Claim, Event, State};

use crate::boottime::Boottime;
use crate::canary::Proof;
use crate::drill::{self, Order};
use crate::guardian;
use crate::halt::{self, Halt};
use crate::revert::Outcome;

/// Everything that only this task may do.
pub enum Request {
    /// Answered with what the canaries proved.
    Arm(Box<Order>, Reply<Proof>),
    /// Drill, T; answered with the deadline.
    Fire(String, Boottime, Reply<Boottime>),
    Renew(String, Reply<()>),
    Revert(String, Reply<Reverted>),
    /// Reason.
    Halt(String, Reply<Halted>),
    /// Answered with what the halt was for, if there was one.
    Resume(Reply<Option<String>>),
    /// What the kernel lacks for a cut.
    Probe(Reply<Vec<String>>),
    /// Reverts, then ends the task.
    Stop(oneshot::Sender<()>),
}

/// What a revert came to.
#[derive(Clone, Debug, Default)]
pub struct Reverted {
    pub outcome: Outcome,
    /// Why the drill had ended and when, if this agent or its journal knows.
    pub ended: Option<(String, Boottime)>,
}

/// What a halt came to.
#[derive(Clone, Debug)]
pub struct Halted {
    /// The drill that was held.
    pub drill: Option<String>,
    pub outcome: Outcome,
    /// Why it holds only as long as this process.
    pub not_durable: Option<String>,
}

pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// Why a request was not done; every text says how the host is now.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "this agent is held by drill {drill} of conductor {conductor} ({state}); nothing was \
         altered; revert that drill first"
    )]
    Held {
        drill: String,
        conductor: String,
        state: &'static str,
    },
    #[error("drill {0} is not armed here; nothing was altered")]
    NotArmed(String),
    #[error("drill {drill} is over ({cause}); {after}; a fault that ended is never revived")]
    Over {
        drill: String,
        cause: String,
        after: String,
    },
    #[error("this kernel cannot do it: {}; nothing was altered", .0.join("; "))]
    Kernel(Vec<String>),
    #[error("an earlier drill is not cleaned up: {}; nothing was altered", .0.join("; "))]
    Unclean(Vec<String>),
    #[error(transparent)]
    Guardian(#[from] guardian::Error),
    #[error(transparent)]
    Drill(#[from] drill::Error),
    #[error("{0}; nothing was altered")]
    Halted(String),
    #[error(transparent)]
    Resume(#[from] halt::Error),
    #[error("{0}")]
    Look(String),
    #[error("the agent is ending")]
    Ending,
}

/// What everyone may know at any time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub state: State,
    /// When this state began.
    pub since: Boottime,
    pub drill: String,
    pub claim: Option<Claim>,
    pub cause: String,
    pub lease_ends: Option<Boottime>,
    pub deadline: Option<Boottime>,
    pub residue: Vec<String>,
    /// What the fault that is over did not reach although it should have.
    pub gaps: Vec<String>,
}

impl Snapshot {
    pub fn event(&self) -> Event {
        Event {
            state: self.state.into(),
            drill: self.drill.clone(),
            cause: self.cause.clone(),
            boottime_ns: Boottime::now().0,
            residue: self.residue.clone(),
            gaps: self.gaps.clone(),
            since_boottime_ns: self.since.0,
        }
    }
}

/// How others reach the task.
#[derive(Clone)]
pub struct Handle {
    pub requests: mpsc::Sender<Request>,
    pub snapshot: watch::Receiver<Snapshot>,
    pub events: broadcast::Sender<Event>,
    pub halt: Halt,
}

impl Handle {
    /// Sends a request and waits for the answer.
    pub async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(request(reply))
            .await
            .map_err(|_| Refusal::Ending)?;
        answer.await.map_err(|_| Refusal::Ending)?
    }

    /// Reverts whatever is in force and ends the task.
    pub async fn stop(&self) {
        let (done, ended) = oneshot::channel();
        if self.requests.send(Request::Stop(done)).await.is_ok() {
            let _ = ended.await;
        }
    }
}
