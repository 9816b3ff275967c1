//! Other agents on this node, as far as their open journals tell: no two drills alter the same thing.
//!
//! Whoever captured a value that another drill has set would put the fault back instead of what was
//! before it. An agent, and its guardian, has its journal open as long as the drill is held.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::journal::{self, Intent};
use crate::kernel::procfs;

/// What is wanted and held by a drill of another agent already, in words; none if nothing is.
pub fn holds(wanted: &[Intent]) -> Option<String> {
    let wanted: BTreeSet<String> = wanted.iter().flat_map(|w| w.undo.alters()).collect();
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
        let mut held = owed.flat_map(|held| held.undo.alters());
        if let Some(both) = held.find(|held| wanted.contains(held)) {
            let drill = &armed.drill;
            return Some(format!("drill {drill} of another agent here alters {both}"));
        }
    }
    None
}

/// Of every other process that runs this program; by their file descriptors, so that it matters
/// neither where they are nor in which mount namespace.
fn open_journals() -> Vec<PathBuf> {
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let others = pids.filter(|pid: &u32| *pid != own && procfs::is_ours(*pid));
    let is_journal = |path: &PathBuf| {
        let target = std::fs::read_link(path).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        target.trim_end_matches(" (deleted)").ends_with(".journal")
    };
    others
        .flat_map(|pid| {
            std::fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
        })
        .flatten()
        .map(|entry| entry.path())
        .filter(is_journal)
        .collect()
}
