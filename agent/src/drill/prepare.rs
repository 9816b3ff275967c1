//! What comes before a change may be loaded: the captures, the journal, the canary.

use std::path::Path;
use std::time::Duration;

use super::{Error, Held, Order, Stage, Work, describe};
use crate::boottime::{Boottime, boot_id};
use crate::canary::{self, Proof, Question};
use crate::changes::{self, Directions, Hands, Management, OURS, Place, Undo, firewall};
use crate::guards::Identity;
use crate::journal::{self, Intent, Journal, Permit, Record};
use crate::mistakes;
use crate::neighbours;
use crate::pods::{self, Pod};

/// Puts every undo on disk.
pub(super) fn open(
    order: &Order,
    expires: Boottime,
    directory: &Path,
    intents: &[Intent],
) -> Result<(Journal, Permit), Error> {
    let drill = order.drill.clone();
    let boot_id = boot_id().map_err(|cause| Error::BootId {
        drill: drill.clone(),
        cause,
    })?;
    let armed = journal::Armed {
        format: journal::FORMAT,
        drill: drill.clone(),
        conductor: order.claim.conductor.clone(),
        plan_sha256: order.plan_sha256.clone(),
        boot_id,
        expires,
    };
    let intents = if mistakes::JOURNAL_AFTER {
        &[]
    } else {
        intents
    };
    Journal::create(directory, armed, intents).map_err(|cause| Error::Journal { drill, cause })
}

pub(super) fn capture_all(
    order: &Order,
    me: &Identity,
    port: u16,
    directory: &Path,
    hands: &mut Hands,
) -> Result<(Vec<Work>, Vec<Intent>), Error> {
    let management = Management {
        operator: order.plan.operator.clone(),
        port,
    };
    let mut work = Vec::new();
    let mut intents = Vec::new();
    for (index, (step, change)) in (0..).zip(order.plan.changes_for(&me.cell, &me.node)) {
        let place = Place {
            drill: order.drill.clone(),
            step: step.id,
            index,
            state: directory.to_owned(),
            management: management.clone(),
        };
        let undo = changes::capture(change, hands, &place).map_err(|cause| Error::Capture {
            drill: order.drill.clone(),
            step: step.id,
            cause: Box::new(cause),
        })?;
        intents.push(Intent {
            step: step.id,
            index,
            change: change.kind().to_owned(),
            undo: undo.clone(),
        });
        work.push(Work {
            index,
            starts: Duration::from_millis(step.at_ms),
            ends: Duration::from_millis(step.ends_ms()),
            change: change.clone(),
            undo,
            stage: Stage::Waiting,
        });
    }
    match neighbours::holds(&intents) {
        Some(why) => Err(Error::Neighbour {
            drill: order.drill.clone(),
            why,
        }),
        None => Ok((work, intents)),
    }
}

/// The canary of one drill, as it stands in the journal before it flies.
pub(super) struct Canary {
    table: String,
    directions: Directions,
    pods: Vec<Pod>,
    pod_namespaces: bool,
    operator: Vec<std::net::IpAddr>,
    node: String,
}

enum Unproven {
    Canary(canary::Error),
    Journal(journal::Error),
}

impl Canary {
    /// Adds the canary's own way back to the intents; none if nothing of this node is cut.
    pub(super) fn prepare(
        order: &Order,
        me: &Identity,
        port: u16,
        intents: &mut Vec<Intent>,
    ) -> Result<Option<Self>, Error> {
        let mut directions = Directions::default();
        for (_, change) in order.plan.changes_for(&me.cell, &me.node) {
            let cut = changes::directions(change);
            directions.ingress |= cut.ingress;
            directions.egress |= cut.egress;
        }
        if directions == Directions::default() {
            return Ok(None);
        }
        let pods = pods::look().map_err(Error::Pods)?.attached;
        let table = format!("{OURS}{}_canary", order.drill);
        let management = Management {
            operator: order.plan.operator.clone(),
            port,
        };
        let inside = match order.pod_namespaces {
            true => pods.iter().map(Pod::id).collect(),
            false => Vec::new(),
        };
        let undo = firewall::Undo::of_canary(&table, management, inside);
        intents.push(Intent {
            step: 0,
            index: u32::try_from(intents.len()).unwrap_or(u32::MAX),
            change: "canary".to_owned(),
            undo: Undo::Firewall(undo),
        });
        Ok(Some(Self {
            table,
            directions,
            pods,
            pod_namespaces: order.pod_namespaces,
            operator: order.plan.operator.clone(),
            node: format!("{}.{}", me.node, me.cell),
        }))
    }
}

impl Held {
    /// A drill whose cut is proven, or that is reverted.
    pub(super) fn proven(
        mut self,
        canary: &Canary,
        hands: &mut Hands,
    ) -> Result<(Self, Proof), Error> {
        match self.prove(canary, hands) {
            Ok(proof) => Ok((self, proof)),
            Err(Unproven::Canary(cause)) => {
                let over = self.revert(hands, "the canary refused");
                let after = match over.outcome.clean() {
                    true => "nothing was altered".to_owned(),
                    false => describe(&over.outcome),
                };
                Err(Error::Canary { cause, after })
            }
            Err(Unproven::Journal(cause)) => {
                let over = self.revert(hands, "the journal failed");
                let after = describe(&over.outcome);
                Err(Error::JournalLost {
                    drill: over.drill,
                    cause,
                    after,
                })
            }
        }
    }

    /// Does nothing, unless the mistake is planted that the harness for crashes must find.
    pub(super) fn journal_too_late(&mut self, index: u32) {
        if mistakes::JOURNAL_AFTER {
            let intent = self.intents.iter().find(|known| known.index == index);
            let record = intent.map(|intent| Record::Intent(intent.clone()));
            let _ = record.map(|record| self.journal.append(&record));
        }
    }

    /// Flies the canary. Pods that must be cut in their own namespace go into the undo of every change,
    /// and with it to disk, before anything is loaded there.
    fn prove(&mut self, canary: &Canary, hands: &mut Hands) -> Result<Proof, Unproven> {
        let asked = Question {
            table: &canary.table,
            directions: canary.directions,
            operator: &canary.operator,
            pods: &canary.pods,
            pod_namespaces: canary.pod_namespaces,
            node: &canary.node,
        };
        let begun = Boottime::now();
        let proof = canary::prove(&asked, hands, &self.permit).map_err(Unproven::Canary)?;
        tracing::info!(drill = %self.drill, ms = Boottime::now().since(begun).as_millis() as u64,
            ways = ?proof.ways, "the canary proved the cut");
        if proof.inside.is_empty() {
            return Ok(proof);
        }
        for work in &mut self.work {
            let Undo::Firewall(undo) = &mut work.undo else {
                continue; // only packets have a way past the host
            };
            undo.inside.clone_from(&proof.inside);
            let Some(known) = self
                .intents
                .iter_mut()
                .find(|known| known.index == work.index)
            else {
                continue;
            };
            known.undo = work.undo.clone();
            // A reader undoes both records of this change; the second knows the pods too.
            self.journal
                .append(&Record::Intent(known.clone()))
                .map_err(Unproven::Journal)?;
        }
        Ok(proof)
    }
}
