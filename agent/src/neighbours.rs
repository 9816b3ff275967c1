//! Other agents on this node, as far as their open journals tell: no two drills alter the same thing.
//!
//! Whoever captured a value that another drill has set would put the fault back instead of what was
//! before it. An agent, and its guardian, has its journal open as long as the drill is held.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::journal::{self, Intent};
use crate::kernel::procfs;

/// What changes have to do with, in words that are the same for the same thing.
#[derive(Debug, Default)]
pub struct Claims {
    /// Where a value that somebody else's fault has set cannot be told from an ordinary one.
    pub alters: BTreeSet<String>,
    /// File systems (`MAJOR:MINOR`) to which the way back writes.
    pub writes_to: BTreeSet<String>,
    /// File systems to which nobody can write as long as the change is in force.
    pub stops: BTreeSet<String>,
}

impl Claims {
    fn of<'a>(intents: impl Iterator<Item = &'a Intent>) -> Self {
        let mut all = Self::default();
        for claims in intents.map(|intent| intent.undo.claims()) {
            all.alters.extend(claims.alters);
            all.writes_to.extend(claims.writes_to);
            all.stops.extend(claims.stops);
        }
        all
    }

    fn is_empty(&self) -> bool {
        self.alters.is_empty() && self.writes_to.is_empty() && self.stops.is_empty()
    }

    /// What both cannot have, in words: the same thing, or a file system that one stops and the other
    /// writes to, which would hold up its way back.
    fn against(&self, held: &Self) -> Option<String> {
        if let Some(both) = self.alters.intersection(&held.alters).next() {
            return Some(format!("alters {both}"));
        }
        if let Some(both) = self.stops.intersection(&held.writes_to).next() {
            return Some(format!("alters files of the file system {both}"));
        }
        let both = self.writes_to.intersection(&held.stops).next()?;
        Some(format!("keeps writers from the file system {both}"))
    }
}

/// What is wanted and held by a drill of another agent already, in words; none if nothing is.
pub fn holds(wanted: &[Intent]) -> Option<String> {
    let wanted = Claims::of(wanted.iter());
    if wanted.is_empty() {
        return None;
    }
    for open in open_journals() {
        let Ok(contents) = journal::read(&open) else {
            continue; // closed meanwhile, or no journal
        };
        let Some(armed) = contents.armed.as_ref().filter(|_| !contents.closed) else {
            continue;
        };
        let owed = contents.intents.iter().filter(|held| contents.owes(held));
        if let Some(why) = wanted.against(&Claims::of(owed)) {
            let drill = &armed.drill;
            return Some(format!("drill {drill} of another agent here {why}"));
        }
    }
    None
}

/// The drills that a living agent or guardian here still holds, but for this one's own.
pub fn open_drills() -> BTreeSet<String> {
    let contents = open_journals()
        .into_iter()
        .filter_map(|open| journal::read(&open).ok());
    let open = contents.filter(|contents| !contents.closed);
    open.filter_map(|contents| Some(contents.armed?.drill))
        .collect()
}

/// Of every other process of this user, by their file descriptors, so that it matters neither where they are,
/// nor in which mount namespace, nor what their program is called.
fn open_journals() -> Vec<PathBuf> {
    let own = std::process::id();
    let pids = procfs::pids().unwrap_or_default().into_iter();
    let user = rustix::process::geteuid().as_raw();
    let is_of_user = |pid: &u32| {
        std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|process| process.uid() == user)
    };
    let others = pids.filter(|pid| *pid != own && is_of_user(pid));
    let is_journal = |path: &PathBuf| {
        let target = std::fs::read_link(path).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        target.trim_end_matches(" (deleted)").ends_with(".journal")
    };
    others
        .flat_map(|pid| procfs::open_files(pid).unwrap_or_default())
        .filter(|path| is_journal(path) && begins_with_a_number(path))
        .collect()
}

/// As all of ours do; systemd's journals, which are large, do not.
fn begins_with_a_number(path: &Path) -> bool {
    let mut first = [0];
    let file = journal::open_regular(path, OpenOptions::new().read(true));
    file.is_ok_and(|mut file| file.read_exact(&mut first).is_ok()) && first[0].is_ascii_digit()
}
