//! What the agent can alter, and the contract by which every alteration has its way back.

pub mod firewall;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use scenarios::change::Change;
use serde::{Deserialize, Serialize};

use crate::journal::Permit;
use crate::kernel::namespaces::{Namespace, NamespaceId};
use crate::kernel::netlink;
use crate::kernel::nft::{Gate, Nft};
use crate::pods;

pub use firewall::Directions;

/// Everything of ours in the kernel has a name that begins so.
pub const OURS: &str = "cellwall_";

/// What changes work with.
pub struct Hands {
    pub nft: Nft,
    /// Pods whose own nftables are worked on. They live at least as long as they are here.
    inside: BTreeMap<NamespaceId, (Namespace, Nft)>,
}

impl Hands {
    pub fn open() -> Result<Self, netlink::Error> {
        Ok(Self {
            nft: Nft::open()?,
            inside: BTreeMap::new(),
        })
    }

    /// Opens a pod's nftables, to be had from [`Self::nft_of`] until [`Self::leave_pods`].
    pub fn enter(&mut self, pod: &Namespace) -> Result<(), netlink::Error> {
        if let Entry::Vacant(place) = self.inside.entry(pod.id) {
            let again = pod.again().map_err(netlink::Error::Open)?;
            let nft = again.run(Nft::open).map_err(netlink::Error::Open)??;
            place.insert((again, nft));
        }
        Ok(())
    }

    /// The host's nftables (none), or those of a pod that was entered.
    pub fn nft_of(&mut self, place: Option<NamespaceId>) -> Option<&mut Nft> {
        match place {
            None => Some(&mut self.nft),
            Some(id) => self.inside.get_mut(&id).map(|(_, nft)| nft),
        }
    }

    pub fn inside(&self, id: NamespaceId) -> Option<&Namespace> {
        self.inside.get(&id).map(|(namespace, _)| namespace)
    }

    /// The nftables of a pod, entered if some process still is in it.
    fn found(&mut self, id: NamespaceId) -> Result<Option<&mut Nft>, Error> {
        if !self.inside.contains_key(&id) {
            match pods::find(id).map_err(Error::Pods)? {
                Some(namespace) => self.enter(&namespace).map_err(Error::Look)?,
                None => return Ok(None),
            }
        }
        Ok(self.nft_of(Some(id)))
    }

    /// Closes the sockets in pods; the kernel deletes whatever tables they still own.
    pub fn leave_pods(&mut self) {
        self.inside.clear();
    }
}

/// Which change of which drill on this node.
#[derive(Clone, Debug)]
pub struct Place {
    pub drill: String,
    pub step: u32,
    /// Number of the change on this node, over all steps: 0, 1, 2, ...
    pub index: u32,
}

/// What stays open during a cut: TCP between these addresses and the agent's own port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Management {
    pub operator: Vec<IpAddr>,
    pub port: u16,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot list the network devices: {0}; this cut was not put in force")]
    Devices(std::io::Error),
    #[error("cannot look at the nftables of the host or a pod: {0}")]
    Look(#[source] netlink::Error),
    #[error("cannot look for pods: {0}")]
    Pods(std::io::Error),
    #[error("cannot look into the pods: {0}")]
    LookAtPods(#[from] pods::Error),
    #[error("{0} is there already; nothing was altered; end its holder or delete it first")]
    Taken(String),
    #[error("cannot load the inert tables: {0}; no packet was touched")]
    Load(#[source] netlink::Error),
    #[error(
        "cannot put the cut in force: {0}; the drill is reverted now, with whatever of it is in force"
    )]
    Apply(#[source] netlink::Error),
    #[error("the gate had closed by itself, so the cut is over and stays over")]
    GateClosed,
    #[error("cannot renew the gate: {0}; the cut ends when the gate runs out")]
    Renew(#[source] netlink::Error),
    #[error("cannot delete {table}: {cause}; it may still be in force until its gate runs out")]
    Undo {
        table: String,
        cause: netlink::Error,
    },
}

/// One mechanism. `capture` looks, `load` puts in place what has no effect, `apply` makes it bite,
/// `renew` keeps it, `undo` takes all of it away.
///
/// Contract of `undo`: idempotent; succeeds if the others never ran or what they made is gone; never
/// touches what is not ours; works from the serialised `Undo` alone, in another process, after a
/// crash. The methods are synchronous because netlink answers within the system call: there is
/// nothing to await, and nothing else may run between the steps of an alteration.
pub trait Reversible {
    type Undo;

    fn capture(
        &self,
        hands: &mut Hands,
        place: &Place,
        management: &Management,
    ) -> Result<Self::Undo, Error>;
    fn load(&self, undo: &Self::Undo, hands: &mut Hands, permit: &Permit) -> Result<(), Error>;
    fn apply(
        &self,
        undo: &Self::Undo,
        hands: &mut Hands,
        gate: Gate,
        permit: &Permit,
    ) -> Result<(), Error>;
    fn renew(
        undo: &Self::Undo,
        hands: &mut Hands,
        gate: Gate,
        permit: &Permit,
    ) -> Result<(), Error>;
    fn undo(undo: &Self::Undo, hands: &mut Hands, permit: &Permit) -> Result<(), Error>;
    /// What the change does not reach any more although it should, in words.
    fn gaps(undo: &Self::Undo) -> Vec<String>;
}

/// The way back of any change, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Undo {
    Firewall(firewall::Undo),
}

pub fn capture(
    change: &Change,
    hands: &mut Hands,
    place: &Place,
    management: &Management,
) -> Result<Undo, Error> {
    match change {
        Change::Firewall(cut) => cut.capture(hands, place, management).map(Undo::Firewall),
    }
}

pub fn load(change: &Change, undo: &Undo, hands: &mut Hands, permit: &Permit) -> Result<(), Error> {
    match (change, undo) {
        (Change::Firewall(cut), Undo::Firewall(undo)) => cut.load(undo, hands, permit),
    }
}

pub fn apply(
    change: &Change,
    undo: &Undo,
    hands: &mut Hands,
    gate: Gate,
    permit: &Permit,
) -> Result<(), Error> {
    match (change, undo) {
        (Change::Firewall(cut), Undo::Firewall(undo)) => cut.apply(undo, hands, gate, permit),
    }
}

impl Undo {
    pub fn renew(&self, hands: &mut Hands, gate: Gate, permit: &Permit) -> Result<(), Error> {
        use scenarios::change::FirewallCut;
        match self {
            Undo::Firewall(undo) => FirewallCut::renew(undo, hands, gate, permit),
        }
    }

    pub fn undo(&self, hands: &mut Hands, permit: &Permit) -> Result<(), Error> {
        use scenarios::change::FirewallCut;
        match self {
            Undo::Firewall(undo) => FirewallCut::undo(undo, hands, permit),
        }
    }

    pub fn gaps(&self) -> Vec<String> {
        use scenarios::change::FirewallCut;
        match self {
            Undo::Firewall(undo) => FirewallCut::gaps(undo),
        }
    }
}

/// What of a packet's way a change cuts, and so has to be proven by a canary.
pub fn directions(change: &Change) -> Directions {
    match change {
        Change::Firewall(cut) => Directions {
            ingress: cut.direction.ingress(),
            egress: cut.direction.egress(),
        },
    }
}

/// What is altered, in words.
pub fn summary(change: &Change) -> String {
    match change {
        Change::Firewall(cut) => firewall::summary(cut),
    }
}

/// Everything of ours that the kernel holds now, at the host and in its pods, in words.
pub fn scan(hands: &mut Hands) -> Result<Vec<String>, Error> {
    let mut words = ours(&mut hands.nft)?;
    for pod in pods::look()?.attached {
        let nft = pod.namespace.run(Nft::open).map_err(Error::Pods)?;
        let found = ours(&mut nft.map_err(Error::Look)?)?;
        words.extend(
            found
                .iter()
                .map(|table| format!("{table} in pod {}", pod.name)),
        );
    }
    Ok(words)
}

fn ours(nft: &mut Nft) -> Result<Vec<String>, Error> {
    let tables = nft.tables().map_err(Error::Look)?;
    Ok(tables
        .iter()
        .filter(|t| t.name.starts_with(OURS))
        .map(ToString::to_string)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_answer_is_not_called_harmless() {
        let unknown = netlink::Error::Receive(std::io::ErrorKind::TimedOut.into());
        let text = Error::Apply(unknown).to_string();
        assert!(text.contains("what it did is unknown"), "{text}");
        assert!(text.contains("the drill is reverted now"), "{text}");
        assert!(!text.contains("not in force"), "{text}");
    }
}
