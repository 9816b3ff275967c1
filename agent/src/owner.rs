//! The one task that holds the kernel socket and the drill; everyone else asks it.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use wire::{Claim, Event, State};

use crate::boottime::{Boottime, sleep_until};
use crate::canary::Proof;
use crate::changes::Hands;
use crate::drill::{self, Armed, Drill, Firing, Order, Reverted, describe};
use crate::guardian::{self, Guardian};
use crate::guards::Identity;
use crate::journal;
use crate::revert::{self, Outcome, take_over_all};

/// Everything that only this task may do.
pub enum Request {
    /// Answered with what the canaries proved.
    Arm(Box<Order>, Reply<Proof>),
    /// Drill, T; answered with the deadline.
    Fire(String, Boottime, Reply<Boottime>),
    Renew(String, Reply<()>),
    Revert(String, Reply<Outcome>),
    /// What the kernel lacks for a cut.
    Probe(Reply<Vec<String>>),
    /// Reverts, then ends the task.
    Stop(oneshot::Sender<()>),
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
    #[error("{0}")]
    Look(String),
    #[error("the agent is ending")]
    Ending,
}

/// What everyone may know at any time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub state: State,
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
        }
    }
}

/// How others reach the task.
#[derive(Clone)]
pub struct Handle {
    pub requests: mpsc::Sender<Request>,
    pub snapshot: watch::Receiver<Snapshot>,
    pub events: broadcast::Sender<Event>,
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

/// What an ended drill leaves to tell, in words.
#[derive(Default)]
struct Left {
    residue: Vec<String>,
    gaps: Vec<String>,
}

enum Slot {
    Empty,
    Armed(Armed),
    Firing(Firing),
}

impl Slot {
    fn drill(&self) -> Option<(&dyn Drill, &'static str)> {
        match self {
            Slot::Empty => None,
            Slot::Armed(armed) => Some((armed, "armed")),
            Slot::Firing(firing) => Some((firing, "firing")),
        }
    }
}

pub struct Owner {
    me: Identity,
    port: u16,
    state: PathBuf,
    hands: Hands,
    slot: Slot,
    /// The last drill that ended since this process began, with its cause and what was left.
    last: Option<(String, String, Outcome)>,
    shown: watch::Sender<Snapshot>,
    events: broadcast::Sender<Event>,
}

impl Owner {
    /// `found` is what reverting every open journal came to, before anyone could ask for anything.
    pub fn begin(
        me: Identity,
        port: u16,
        state: PathBuf,
        mut hands: Hands,
        found: Outcome,
    ) -> (Handle, impl Future<Output = ()>) {
        if !found.clean() {
            tracing::warn!(residue = ?found.told(), "residue at start");
        }
        hands.nft.missing().map_or_else(
            |error| tracing::warn!(%error, "cannot ask the kernel what it can do"),
            |missing| {
                missing
                    .iter()
                    .for_each(|what| tracing::warn!(what, "missing in this kernel"))
            },
        );
        let snapshot = Snapshot {
            state: State::Idle,
            drill: String::new(),
            claim: None,
            cause: "start".into(),
            lease_ends: None,
            deadline: None,
            residue: found.told(),
            gaps: Vec::new(),
        };
        let (shown, seen) = watch::channel(snapshot);
        let (events, _) = broadcast::channel(256);
        let (sender, requests) = mpsc::channel(16);
        let handle = Handle {
            requests: sender,
            snapshot: seen,
            events: events.clone(),
        };
        let owner = Self {
            me,
            port,
            state,
            hands,
            slot: Slot::Empty,
            last: None,
            shown,
            events,
        };
        (handle, owner.run(requests))
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            let wake = match &self.slot {
                Slot::Empty => None,
                Slot::Armed(armed) => Some(armed.wake()),
                Slot::Firing(firing) => Some(firing.wake()),
            };
            tokio::select! {
                // What is due comes before what is asked: an ended fault must not be renewed.
                biased;
                () = sleep_or_never(wake) => self.act(),
                () = guardian_lost(&mut self.slot) => {
                    tracing::error!("the guardian is gone while a drill is held");
                    self.end("the guardian died");
                }
                request = requests.recv() => match request {
                    Some(Request::Stop(done)) => {
                        self.end("the agent is ending");
                        let _ = done.send(());
                        return;
                    }
                    Some(request) => self.serve(request).await,
                    None => {
                        self.end("the agent is ending");
                        return;
                    }
                },
            }
        }
    }

    fn act(&mut self) {
        let ended = match &mut self.slot {
            Slot::Empty => None,
            Slot::Armed(armed) => armed.ended().map(str::to_owned),
            Slot::Firing(firing) => firing.act(&mut self.hands),
        };
        if let Some(cause) = ended {
            self.end(&cause);
        }
    }

    async fn serve(&mut self, request: Request) {
        // A caller that went away is no reason to stop half-way; its answer is dropped.
        match request {
            Request::Arm(order, reply) => drop(reply.send(self.arm(*order).await)),
            Request::Fire(drill, at, reply) => drop(reply.send(self.fire(&drill, at))),
            Request::Renew(drill, reply) => drop(reply.send(self.renew(&drill))),
            Request::Revert(drill, reply) => drop(reply.send(self.revert(&drill))),
            Request::Probe(reply) => {
                let missing = self.hands.nft.missing();
                let missing = missing.map_err(|error| Refusal::Look(error.to_string()));
                drop(reply.send(missing));
            }
            Request::Stop(done) => drop(done.send(())),
        }
    }

    async fn arm(&mut self, order: Order) -> Result<Proof, Refusal> {
        if let Some((held, state)) = self.slot.drill() {
            let drill = held.name().to_owned();
            let conductor = held.claim().conductor.clone();
            return Err(Refusal::Held {
                drill,
                conductor,
                state,
            });
        }
        if order.cuts(&self.me) {
            let missing = self.hands.nft.missing();
            let missing = missing.map_err(|error| Refusal::Look(error.to_string()))?;
            if !missing.is_empty() {
                return Err(Refusal::Kernel(missing));
            }
        }
        let mut unclean =
            revert::unfinished(&self.state).map_err(|e| Refusal::Look(e.to_string()))?;
        unclean.extend(Outcome::scan(&mut self.hands).residue());
        if !unclean.is_empty() {
            return Err(Refusal::Unclean(unclean));
        }
        let directory = journal::directory(&self.state);
        let path = journal::path_of(&directory, &order.drill);
        if path.exists() {
            let cause = journal::Error::Used(order.drill.clone());
            return Err(drill::Error::Journal {
                drill: order.drill,
                cause,
            }
            .into());
        }
        let guardian = Guardian::start(&path).await?;
        let armed = Armed::arm(
            order,
            &self.me,
            self.port,
            &directory,
            guardian,
            &mut self.hands,
        )?;
        let proof = armed.proof().clone();
        self.slot = Slot::Armed(armed);
        self.show(State::Armed, "arm");
        Ok(proof)
    }

    fn fire(&mut self, drill: &str, at: Boottime) -> Result<Boottime, Refusal> {
        self.act();
        match std::mem::replace(&mut self.slot, Slot::Empty) {
            Slot::Armed(armed) if armed.name() == drill => match armed.fire(at) {
                Ok(firing) => {
                    let deadline = firing.deadline();
                    self.slot = Slot::Firing(firing);
                    self.show(State::Firing, "fire");
                    Ok(deadline)
                }
                Err(refused) => {
                    let (armed, error) = *refused;
                    self.slot = Slot::Armed(armed);
                    Err(error.into())
                }
            },
            other => {
                self.slot = other;
                Err(self.not_armed(drill))
            }
        }
    }

    fn renew(&mut self, drill: &str) -> Result<(), Refusal> {
        let renewed = match &mut self.slot {
            Slot::Armed(armed) if armed.name() == drill => armed.renew().map_err(str::to_owned),
            Slot::Firing(firing) if firing.name() == drill => firing.renew(&mut self.hands),
            _ => return Err(self.not_armed(drill)),
        };
        match renewed {
            Ok(()) => {
                let lease_ends = self.slot.drill().map(|(held, _)| held.lease_ends());
                self.shown
                    .send_modify(|shown| shown.lease_ends = lease_ends);
                Ok(())
            }
            Err(cause) => {
                self.end(&cause);
                Err(self.not_armed(drill))
            }
        }
    }

    fn revert(&mut self, drill: &str) -> Result<Outcome, Refusal> {
        match self.slot.drill() {
            Some((held, state)) if held.name() != drill => {
                let (drill, conductor) = (held.name().to_owned(), held.claim().conductor.clone());
                Err(Refusal::Held {
                    drill,
                    conductor,
                    state,
                })
            }
            Some(_) => {
                self.end("revert");
                Ok(self
                    .last
                    .as_ref()
                    .map(|(_, _, outcome)| outcome.clone())
                    .unwrap_or_default())
            }
            None => {
                // Try again what an earlier revert could not do, and look.
                let hands = &mut self.hands;
                let outcome = take_over_all(&self.state, Duration::ZERO, hands, "revert");
                let residue = outcome.told();
                self.shown.send_modify(|shown| shown.residue = residue);
                Ok(outcome)
            }
        }
    }

    /// Ends the drill, if there is one.
    fn end(&mut self, cause: &str) {
        let slot = std::mem::replace(&mut self.slot, Slot::Empty);
        let Some((held, _)) = slot.drill() else {
            return;
        };
        let (drill, claim) = (held.name().to_owned(), held.claim().clone());
        self.publish(State::Reverting, drill, Some(claim), cause, Left::default());
        let over: Reverted = match slot {
            Slot::Armed(armed) => armed.revert(&mut self.hands, cause),
            Slot::Firing(firing) => firing.revert(&mut self.hands, cause),
            Slot::Empty => return,
        };
        let residue = over.outcome.told();
        self.publish(
            State::Reverted,
            over.drill.clone(),
            Some(over.claim),
            &over.cause,
            Left {
                residue,
                gaps: over.gaps,
            },
        );
        self.last = Some((over.drill, over.cause, over.outcome));
    }

    fn not_armed(&self, drill: &str) -> Refusal {
        if let Some((held, state)) = self.slot.drill() {
            let (drill, conductor) = (held.name().to_owned(), held.claim().conductor.clone());
            return Refusal::Held {
                drill,
                conductor,
                state,
            };
        }
        match &self.last {
            Some((last, cause, outcome)) if last == drill => Refusal::Over {
                drill: last.clone(),
                cause: cause.clone(),
                after: describe(outcome),
            },
            _ => Refusal::NotArmed(drill.to_owned()),
        }
    }

    fn show(&self, state: State, cause: &str) {
        if let Some((held, _)) = self.slot.drill() {
            let claim = Some(held.claim().clone());
            self.publish(state, held.name().to_owned(), claim, cause, Left::default());
        }
    }

    fn publish(&self, state: State, drill: String, claim: Option<Claim>, cause: &str, left: Left) {
        let snapshot = Snapshot {
            state,
            drill,
            claim,
            cause: cause.to_owned(),
            lease_ends: self.slot.drill().map(|(held, _)| held.lease_ends()),
            deadline: match &self.slot {
                Slot::Firing(firing) => Some(firing.deadline()),
                _ => None,
            },
            residue: left.residue,
            gaps: left.gaps,
        };
        let _ = self.events.send(snapshot.event()); // nobody may be watching
        self.shown.send_replace(snapshot);
    }
}

async fn sleep_or_never(wake: Option<Boottime>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

async fn guardian_lost(slot: &mut Slot) {
    let status = match slot {
        Slot::Empty => std::future::pending().await,
        Slot::Armed(armed) => armed.guardian().lost().await,
        Slot::Firing(firing) => firing.guardian().lost().await,
    };
    tracing::warn!(?status, "the guardian ended");
}
