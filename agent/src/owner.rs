//! The one task that holds the kernel socket and the drill; everyone else asks it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, watch};
use wire::{Claim, Event, State};

use crate::boottime::{Boottime, boot_id, sleep_until};
use crate::canary::Proof;
use crate::changes::Hands;
use crate::drill::{self, Armed, Drill, Firing, Order, describe};
use crate::guardian::{Guardian, Home};
use crate::guards::{Identity, is_word};
use crate::halt::Halt;
use crate::journal;
use crate::kernel::nft::Nft;
use crate::revert::{self, Outcome, take_over_all};

mod again;
mod handle;
use again::Again;
pub use handle::{Halted, Handle, Refusal, Reply, Request, Reverted, Snapshot};

/// How often a held drill is compared with the halt file.
const LOOK: Duration = Duration::from_millis(200);

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

/// A drill that ended.
struct Last {
    drill: String,
    cause: String,
    at: Boottime,
    outcome: Outcome,
}

pub struct Owner {
    me: Identity,
    port: u16,
    state: PathBuf,
    hands: Hands,
    home: Home,
    slot: Slot,
    /// The last drill that ended since this process began.
    last: Option<Last>,
    halt: Halt,
    /// When the halt file is looked for again.
    look: Boottime,
    again: Again,
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
        home: Home,
    ) -> (Handle, impl Future<Output = ()>) {
        if !found.clean() {
            tracing::warn!(residue = ?found.told(), "residue at start");
        }
        hands.nft().and_then(Nft::missing).map_or_else(
            |error| tracing::warn!(%error, "cannot ask the kernel what it can do"),
            |missing| {
                missing
                    .iter()
                    .for_each(|what| tracing::warn!(what, "missing in this kernel"))
            },
        );
        let snapshot = Snapshot {
            state: State::Idle,
            since: Boottime::now(),
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
        let halt = Halt::of(&state);
        if let Some(refusal) = halt.refusal() {
            tracing::warn!("{refusal}");
        }
        let handle = Handle {
            requests: sender,
            snapshot: seen,
            events: events.clone(),
            halt: halt.clone(),
        };
        let owner = Self {
            me,
            port,
            state,
            hands,
            home,
            slot: Slot::Empty,
            last: None,
            halt,
            look: Boottime::now(),
            again: Again::default().behind(&found, Duration::ZERO),
            shown,
            events,
        };
        (handle, owner.run(requests))
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            let wake = match &self.slot {
                Slot::Empty => self.again.at,
                Slot::Armed(armed) => Some(armed.wake().min(self.look)),
                Slot::Firing(firing) => Some(firing.wake().min(self.look)),
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
        if self.look.passed() && self.end_if_halted() {
            return;
        }
        let ended = match &mut self.slot {
            Slot::Empty => {
                if self.again.at.is_some_and(Boottime::passed) {
                    self.try_again("tried again");
                }
                None
            }
            Slot::Armed(armed) => armed.ended().map(str::to_owned),
            Slot::Firing(firing) => firing.act(&mut self.hands),
        };
        if let Some(cause) = ended {
            self.end(&cause);
        }
    }

    /// Whether the drill was ended for a halt.
    fn end_if_halted(&mut self) -> bool {
        self.look = Boottime::now().plus(LOOK);
        let halted = self.slot.drill().is_some() && self.halt.reason().is_some();
        if halted {
            self.end("halt");
        }
        halted
    }

    async fn serve(&mut self, request: Request) {
        // A caller that went away is no reason to stop half-way; its answer is dropped.
        match request {
            Request::Arm(order, reply) => drop(reply.send(self.arm(*order).await)),
            Request::Fire(drill, at, reply) => drop(reply.send(self.fire(&drill, at))),
            Request::Renew(drill, reply) => drop(reply.send(self.renew(&drill))),
            Request::Revert(drill, reply) => drop(reply.send(self.revert(&drill))),
            Request::Halt(reason, reply) => drop(reply.send(Ok(self.halt(&reason)))),
            Request::Resume(reply) => drop(reply.send(self.halt.lift().map_err(Refusal::from))),
            Request::Probe(reply) => {
                let missing = self.hands.nft().and_then(Nft::missing);
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
        if let Some(refusal) = self.halt.refusal() {
            return Err(Refusal::Halted(refusal));
        }
        if order.cuts(&self.me) {
            let missing = self.hands.nft().and_then(Nft::missing);
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
        self.home.tidy(); // the last guardian may have been killed after its drill
        let guardian = Guardian::start(&path, &self.home).await?;
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
        // Arming takes its time, and a halt may have come meanwhile.
        if let (true, Some(refusal)) = (self.end_if_halted(), self.halt.refusal()) {
            return Err(Refusal::Halted(refusal));
        }
        Ok(proof)
    }

    fn fire(&mut self, drill: &str, at: Boottime) -> Result<Boottime, Refusal> {
        self.end_if_halted();
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
                let lease_ends = self.slot.drill().and_then(|(held, _)| held.lease_ends());
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

    fn revert(&mut self, drill: &str) -> Result<Reverted, Refusal> {
        if let Some((held, state)) = self.slot.drill() {
            if held.name() != drill {
                let (drill, conductor) = (held.name().to_owned(), held.claim().conductor.clone());
                return Err(Refusal::Held {
                    drill,
                    conductor,
                    state,
                });
            }
            let outcome = self.end("revert");
            return Ok(Reverted {
                ended: self.ended(drill),
                outcome,
            });
        }
        let outcome = self.try_again("revert");
        let ended = self.ended(drill);
        Ok(Reverted { outcome, ended })
    }

    /// Nothing is armed from the first line on; the way back does not wait for the disk.
    fn halt(&mut self, reason: &str) -> Halted {
        self.halt.remember(reason);
        let drill = self.slot.drill().map(|(held, _)| held.name().to_owned());
        let outcome = match &drill {
            Some(_) => self.end("halt"),
            None => self.try_again("halt"),
        };
        let written = self.halt.write(reason);
        let not_durable = written.err().map(|error| error.to_string());
        if let Some(why) = &not_durable {
            tracing::warn!(why, "halted in memory only");
        }
        Halted {
            drill,
            outcome,
            not_durable,
        }
    }

    /// What an earlier revert could not do, and a look.
    fn try_again(&mut self, cause: &str) -> Outcome {
        let begun = Instant::now();
        let mut outcome = take_over_all(&self.state, Duration::ZERO, &mut self.hands, cause);
        let journals = journal::directory(&self.state);
        if self.again.at.is_some() && !journals.is_dir() {
            outcome.out_of_sight(&journals);
        }
        self.again = self.again.behind(&outcome, begun.elapsed());
        let residue = outcome.told();
        self.shown.send_modify(|shown| shown.residue = residue);
        outcome
    }

    /// Why and when a drill ended, if that is known: to this process, or to the drill's journal.
    fn ended(&self, drill: &str) -> Option<(String, Boottime)> {
        if let Some(last) = self.last.as_ref().filter(|last| last.drill == drill) {
            return Some((last.cause.clone(), last.at));
        }
        if !is_word(drill) {
            return None;
        }
        let path = journal::path_of(&journal::directory(&self.state), drill);
        let contents = journal::read(&path).ok()?;
        let this_boot = contents.armed.as_ref()?.boot_id == boot_id().ok()?;
        contents.closing.filter(|_| this_boot)
    }

    /// Ends the drill, if there is one.
    fn end(&mut self, cause: &str) -> Outcome {
        let slot = std::mem::replace(&mut self.slot, Slot::Empty);
        let Some((held, _)) = slot.drill() else {
            return Outcome::default();
        };
        let (drill, claim) = (held.name().to_owned(), held.claim().clone());
        self.publish(State::Reverting, drill, Some(claim), cause, Left::default());
        let over: drill::Reverted = match slot {
            Slot::Armed(armed) => armed.revert(&mut self.hands, cause),
            Slot::Firing(firing) => firing.revert(&mut self.hands, cause),
            Slot::Empty => return Outcome::default(),
        };
        self.home.tidy();
        self.again = Again::default().behind(&over.outcome, Duration::ZERO);
        let at = Boottime::now();
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
        self.last = Some(Last {
            drill: over.drill,
            cause: over.cause,
            at,
            outcome: over.outcome.clone(),
        });
        over.outcome
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
            Some(last) if last.drill == drill => Refusal::Over {
                drill: last.drill.clone(),
                cause: last.cause.clone(),
                after: describe(&last.outcome),
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
            since: Boottime::now(),
            drill,
            claim,
            cause: cause.to_owned(),
            lease_ends: self.slot.drill().and_then(|(held, _)| held.lease_ends()),
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
