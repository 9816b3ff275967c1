//! The sockets and notes that changes work with.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Error, OURS, filesystem};
use crate::journal;
use crate::kernel::namespaces::{Namespace, NamespaceId};
use crate::kernel::netlink;
use crate::kernel::nft::{Nft, TableSeen};
use crate::pods;

/// What changes work with.
///
/// Sockets are opened when they are first needed: who only gives back files needs none.
pub struct Hands {
    nft: Option<Nft>,
    /// NETLINK_ROUTE.
    route: Option<netlink::Socket>,
    /// Pods whose own nftables are worked on. They live at least as long as they are here.
    inside: BTreeMap<NamespaceId, (Namespace, Nft)>,
    /// Where the journals of this agent are: they say which drills are its own.
    journals: Option<PathBuf>,
    /// What the drill at hand does to each disk.
    pub(super) disks: filesystem::Disks,
    /// Helpers that this process has started, to be reaped by their undo.
    pub(super) helpers: Vec<std::process::Child>,
    /// Numbers of the changes that this process has undone, by their drill. What others have set since is not
    /// undone, however often something else of the drill is tried, and whatever could not be journaled.
    undone: BTreeMap<String, BTreeSet<u32>>,
}

impl Hands {
    /// For whoever gives back what the agent with this state directory owes; it may not be the only one on
    /// its node.
    pub fn closed(state: Option<&Path>) -> Self {
        Self {
            nft: None,
            route: None,
            inside: BTreeMap::new(),
            journals: state.map(journal::directory),
            disks: filesystem::Disks::default(),
            helpers: Vec::new(),
            undone: BTreeMap::new(),
        }
    }

    /// For the agent itself, which is of no use where nftables cannot be had.
    pub fn of(state: &Path) -> Result<Self, netlink::Error> {
        let mut hands = Self::closed(Some(state));
        hands.nft()?;
        Ok(hands)
    }

    pub fn has_undone(&self, drill: &str, index: u32) -> bool {
        self.undone.get(drill).is_some_and(|of| of.contains(&index))
    }

    pub fn note_undone(&mut self, drill: &str, index: u32) {
        self.undone
            .entry(drill.to_owned())
            .or_default()
            .insert(index);
    }

    /// Of a drill that is over, or of which something came back.
    pub fn forget_undone(&mut self, drill: &str) {
        self.undone.remove(drill);
    }

    /// The host's nftables.
    pub fn nft(&mut self) -> Result<&mut Nft, netlink::Error> {
        match &mut self.nft {
            Some(nft) => Ok(nft),
            closed => Ok(closed.insert(Nft::open()?)),
        }
    }

    /// Whether a table is held by a living process for a drill that no journal here knows: then it is
    /// of another agent, whose own ways out end it.
    pub(super) fn is_anothers(&self, table: &TableSeen) -> bool {
        let name = table.name.strip_prefix(OURS).unwrap_or_default();
        let drill = name.split('_').next().unwrap_or_default();
        let Some(journals) = &self.journals else {
            return false;
        };
        let known = journal::path_of(journals, drill).try_exists();
        table.owner.is_some() && matches!(known, Ok(false))
    }

    /// Where the journals of this agent are.
    pub fn journals(&self) -> Option<&Path> {
        self.journals.as_deref()
    }

    /// The host's routes and queueing disciplines.
    pub fn route(&mut self) -> Result<&mut netlink::Socket, netlink::Error> {
        match &mut self.route {
            Some(socket) => Ok(socket),
            closed => Ok(closed.insert(netlink::Socket::open_route()?)),
        }
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
    pub fn nft_of(
        &mut self,
        place: Option<NamespaceId>,
    ) -> Result<Option<&mut Nft>, netlink::Error> {
        match place {
            None => self.nft().map(Some),
            Some(id) => Ok(self.inside.get_mut(&id).map(|(_, nft)| nft)),
        }
    }

    pub fn inside(&self, id: NamespaceId) -> Option<&Namespace> {
        self.inside.get(&id).map(|(namespace, _)| namespace)
    }

    /// The nftables of a pod, entered if some process still is in it.
    pub(super) fn found(&mut self, id: NamespaceId) -> Result<Option<&mut Nft>, Error> {
        if !self.inside.contains_key(&id) {
            match pods::find(id).map_err(Error::Pods)? {
                Some(namespace) => self.enter(&namespace).map_err(Error::Look)?,
                None => return Ok(None),
            }
        }
        self.nft_of(Some(id)).map_err(Error::Look)
    }

    /// Closes the sockets in pods; the kernel deletes whatever tables they still own.
    pub fn leave_pods(&mut self) {
        self.inside.clear();
    }
}
