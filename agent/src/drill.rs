//! One drill on this node, as types: `Armed` -> `Firing` -> `Reverted`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use scenarios::change::Change;
use scenarios::plan::Plan;
use wire::Claim;

use crate::boottime::Boottime;
use crate::canary::{self, Proof};
use crate::changes::{self, Hands, Undo};
use crate::guardian::Guardian;
use crate::guards::Identity;
use crate::journal::{self, Intent, Journal, Permit, Record};
use crate::kernel::memory;
use crate::mistakes;
use crate::pods;
use crate::revert::{self, Outcome};

/// A fire that arrives later than this before its instant is refused: not all agents would make it.
const AHEAD_LEAST: Duration = Duration::from_millis(50);
const AHEAD_MOST: Duration = Duration::from_secs(10);
/// The runtime's timers are good to a few ms; the rest is spun away.
const SPIN: Duration = Duration::from_millis(4);
/// How long a drill without a lease may stay armed: nobody's silence would end it sooner.
const ARMED_WITHOUT_LEASE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("drill {drill}: step {step}: {cause}")]
    Capture {
        drill: String,
        step: u32,
        cause: Box<changes::Error>,
    },
    #[error(
        "drill {drill}: {why}, so what was before could not be told from its fault; nothing was altered; \
         wait for its end"
    )]
    Neighbour { drill: String, why: String },
    #[error("drill {drill}: {cause}")]
    Journal {
        drill: String,
        cause: journal::Error,
    },
    #[error("drill {drill}: {cause}; its cut was proven, and it is given up: {after}")]
    JournalLost {
        drill: String,
        cause: journal::Error,
        after: String,
    },
    #[error("drill {drill}: this boot has no id: {cause}; nothing was altered")]
    BootId {
        drill: String,
        cause: std::io::Error,
    },
    #[error("drill {drill}: step {step}: {cause}; what was loaded is taken away again: {after}")]
    Load {
        drill: String,
        step: u32,
        cause: Box<changes::Error>,
        after: String,
    },
    #[error("{0}")]
    Pods(pods::Error),
    #[error("{cause}; {after}")]
    Canary { cause: canary::Error, after: String },
    #[error("T is {ahead_ms} ms ahead; it must be 50 ms to 10 s; the drill stays armed")]
    Instant { ahead_ms: i128 },
    #[error("the fire could not be journaled ({0}); the drill stays armed")]
    Fire(journal::Error),
}

/// What Arm asks for, after all checks.
pub struct Order {
    pub drill: String,
    pub plan: Plan,
    pub plan_sha256: String,
    pub claim: Claim,
    /// How long it may stay armed without being fired.
    pub armed_most: Duration,
    /// Whether tables may be loaded in the namespaces of pods.
    pub pod_namespaces: bool,
}

impl Order {
    fn may_stay_armed(&self) -> Duration {
        match self.plan.lease_ms {
            Some(_) => self.armed_most,
            None => self.armed_most.min(ARMED_WITHOUT_LEASE),
        }
    }

    /// Whether this node's part of it cuts packets, and so needs all that nftables can do.
    pub fn cuts(&self, me: &Identity) -> bool {
        let mut mine = self.plan.changes_for(&me.cell, &me.node);
        mine.any(|(_, change)| change.as_cut().is_some())
    }
}

/// One change of one step, with where it stands.
struct Work {
    index: u32,
    starts: Duration,
    ends: Duration,
    change: Change,
    undo: Undo,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    InForce,
    Over,
}

/// What armed and firing drills share.
struct Held {
    drill: String,
    claim: Claim,
    lease: Lease,
    work: Vec<Work>,
    intents: Vec<Intent>,
    journal: Journal,
    permit: Permit,
    guardian: Guardian,
    ends_after: Duration,
    /// What steps in force did not reach, in words; each once.
    gaps: BTreeSet<String>,
    /// What ended steps found to be neither as captured nor as changed.
    drifted: Vec<String>,
    /// Changes whose undo is not owed: they were refused, or their undo has succeeded.
    over: BTreeSet<u32>,
}

pub struct Armed {
    held: Held,
    expires: Boottime,
    proof: Proof,
}

pub struct Firing {
    held: Held,
    at: Boottime,
    deadline: Boottime,
}

/// A drill that is over, and what is left of it.
pub struct Reverted {
    pub drill: String,
    pub claim: Claim,
    pub cause: String,
    /// What the fault did not reach although it should have, in words.
    pub gaps: Vec<String>,
    pub outcome: Outcome,
}

impl Armed {
    /// Captures, journals every undo, proves by canaries that the cut will hold, and only then loads
    /// what is inert. On an error nothing is left, or the error says what.
    pub fn arm(
        order: Order,
        me: &Identity,
        port: u16,
        directory: &Path,
        guardian: Guardian,
        hands: &mut Hands,
    ) -> Result<Self, Error> {
        let lease = order.plan.lease_ms.filter(|_| !mistakes::IGNORES_LEASE);
        let lease = lease.map(Duration::from_millis);
        let expires = Boottime::now().plus(order.may_stay_armed());
        let prepared =
            capture_all(&order, me, port, directory, hands).and_then(|(work, mut intents)| {
                let canary = Canary::prepare(&order, me, port, &mut intents)?;
                let opened = open(&order, expires, directory, &intents)?;
                Ok((opened, work, intents, canary))
            });
        let ((journal, permit), work, intents, canary) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                guardian.dismiss();
                return Err(error);
            }
        };
        let held = Held {
            drill: order.drill,
            claim: order.claim,
            lease: Lease::begin(lease),
            work,
            intents,
            journal,
            permit,
            guardian,
            ends_after: Duration::from_millis(order.plan.ends_ms()),
            gaps: BTreeSet::new(),
            drifted: Vec::new(),
            over: BTreeSet::new(),
        };
        let (mut held, proof) = match canary {
            Some(canary) => held.proven(&canary, hands)?,
            None => (held, Proof::default()),
        };
        if let Err((step, cause)) = held.load(hands) {
            let drill = held.drill.clone();
            let over = held.revert(hands, "arm failed");
            let after = describe(&over.outcome);
            return Err(Error::Load {
                drill,
                step,
                cause: Box::new(cause),
                after,
            });
        }
        held.renew_lease(); // loading 60,000 prefixes takes its time
        Ok(Self {
            held,
            expires,
            proof,
        })
    }

    /// What the canaries have proven.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Journals the deadline. From here on the drill acts at `at` by itself.
    pub fn fire(mut self, at: Boottime) -> Result<Firing, Box<(Self, Error)>> {
        let now = Boottime::now();
        if at < now.plus(AHEAD_LEAST) || at > now.plus(AHEAD_MOST) {
            let ahead_ms = (i128::from(at.0) - i128::from(now.0)) / 1_000_000;
            return Err(Box::new((self, Error::Instant { ahead_ms })));
        }
        let deadline = at.plus(self.held.ends_after);
        match self.held.journal.append(&Record::Fired { at, deadline }) {
            Ok(()) => {
                memory::give_back(); // what arming took is not needed as long as the fault lasts
                Ok(Firing {
                    held: self.held,
                    at,
                    deadline,
                })
            }
            Err(cause) => Err(Box::new((self, Error::Fire(cause)))),
        }
    }

    /// When [`Self::ended`] will have something to say.
    pub fn wake(&self) -> Boottime {
        self.held.lease.or(self.expires)
    }

    /// Why the drill must end now, if it must.
    pub fn ended(&self) -> Option<&'static str> {
        if self.held.lease.passed() {
            Some("lease")
        } else {
            let expired = self.expires.passed();
            expired.then_some("expired: armed for longer than the policy allows")
        }
    }

    /// An armed drill whose lease has run out is over; it cannot be renewed.
    pub fn renew(&mut self) -> Result<(), &'static str> {
        match self.ended() {
            Some(cause) => Err(cause),
            None => {
                self.held.renew_lease();
                Ok(())
            }
        }
    }

    pub fn revert(self, hands: &mut Hands, cause: &str) -> Reverted {
        self.held.revert(hands, cause)
    }
}

impl Firing {
    pub fn deadline(&self) -> Boottime {
        self.deadline
    }

    /// Whether a change is in force and journaled as such.
    pub fn in_force(&self) -> bool {
        let mut stages = self.held.work.iter().map(|work| work.stage);
        stages.any(|stage| stage == Stage::InForce)
    }

    /// When [`Self::act`] wants to be called next.
    pub fn wake(&self) -> Boottime {
        let next = self.held.work.iter().filter_map(|work| match work.stage {
            // A little early, for the last milliseconds are spun away.
            Stage::Waiting => Some(Boottime(
                self.at
                    .plus(work.starts)
                    .0
                    .saturating_sub(SPIN.as_nanos() as u64),
            )),
            Stage::InForce => Some(self.at.plus(work.ends)),
            Stage::Over => None,
        });
        let next = next.min().unwrap_or(self.deadline);
        self.held.lease.or(next.min(self.deadline))
    }

    /// Does what is due now. An answer is the reason why the drill must end now.
    pub fn act(&mut self, hands: &mut Hands) -> Option<String> {
        if self.held.lease.passed() {
            return Some("lease".into());
        }
        if self.deadline.passed() {
            return Some("deadline".into());
        }
        if let Some(cause) = self.end_steps(hands) {
            return Some(cause);
        }
        self.start_steps(hands).err()
    }

    /// Renews the lease and every open gate; never what has ended. An answer ends the drill.
    pub fn renew(&mut self, hands: &mut Hands) -> Result<(), String> {
        if self.held.lease.passed() {
            return Err("lease".into());
        }
        if self.deadline.passed() {
            return Err("deadline".into());
        }
        self.held.renew_lease();
        for work in self
            .held
            .work
            .iter()
            .filter(|work| work.stage == Stage::InForce)
        {
            let left = self.at.plus(work.ends).left();
            let Some(gate) = self.held.lease.renewed_gate(left) else {
                continue; // its own timer ends it
            };
            match work.undo.renew(hands, gate, &self.held.permit) {
                Ok(()) => self.held.gaps.extend(work.undo.gaps()),
                Err(changes::Error::GateClosed) => return Err("lease".into()),
                Err(error) => return Err(format!("renewal failed: {error}")),
            }
        }
        Ok(())
    }

    pub fn revert(self, hands: &mut Hands, cause: &str) -> Reverted {
        self.held.revert(hands, cause)
    }
}

/// What callers may know of a drill while it is held.
pub trait Drill {
    fn name(&self) -> &str;
    fn claim(&self) -> &Claim;
    /// None: it has no lease.
    fn lease_ends(&self) -> Option<Boottime>;
    /// Comes back if the guardian ends before the drill does.
    fn guardian(&mut self) -> &mut Guardian;
}

macro_rules! held_drill {
    ($($state:ty),*) => { $(
        impl Drill for $state {
            fn name(&self) -> &str { &self.held.drill }
            fn claim(&self) -> &Claim { &self.held.claim }
            fn lease_ends(&self) -> Option<Boottime> { self.held.lease.ends() }
            fn guardian(&mut self) -> &mut Guardian { &mut self.held.guardian }
        }
    )* };
}
held_drill!(Armed, Firing);

impl Held {
    fn renew_lease(&mut self) {
        self.lease.renew();
        if let Some(ends) = self.lease.ends() {
            self.guardian.tell_lease(ends);
        }
    }

    fn load(&mut self, hands: &mut Hands) -> Result<(), (u32, changes::Error)> {
        for (work, intent) in self.work.iter_mut().zip(&self.intents) {
            changes::load(&work.change, &work.undo, hands, &self.permit)
                .map_err(|cause| (intent.step, cause))?;
            changes::forget_loaded(&mut work.change);
        }
        Ok(())
    }

    fn revert(mut self, hands: &mut Hands, cause: &str) -> Reverted {
        let in_force = |work: &&Work| work.stage == Stage::InForce;
        let lapsed = self.work.iter().filter(in_force);
        self.gaps.extend(lapsed.flat_map(|work| work.undo.lapsed()));
        let owed = |intent: &&Intent| !self.over.contains(&intent.index);
        let intents = self.intents.iter().filter(owed);
        let journal = &mut self.journal;
        let mut outcome = revert::revert(journal, &self.drill, intents, hands, &self.permit, cause);
        for what in self.drifted {
            // An ended step's undo has just been walked once more, and said the same.
            if !outcome.drifted.contains(&what) {
                outcome.drifted.push(what);
            }
        }
        self.guardian.release();
        // Only now: the way back does not wait for a look. Ended steps were looked at when they ended.
        let in_force = self.work.iter().filter(in_force);
        self.gaps.extend(in_force.flat_map(|work| work.undo.gaps()));
        Reverted {
            drill: self.drill,
            claim: self.claim,
            cause: cause.to_owned(),
            gaps: self.gaps.into_iter().collect(),
            outcome,
        }
    }
}

/// The state of the host after a revert, for error texts.
pub fn describe(outcome: &Outcome) -> String {
    if outcome.clean() {
        "nothing of ours is left".to_owned()
    } else {
        format!("left on the host: {}", outcome.residue().join("; "))
    }
}

mod lease;
mod prepare;
mod steps;
use lease::Lease;
use prepare::{Canary, capture_all, open};
