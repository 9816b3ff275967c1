//! Processes that entered a lab from outside: when it ends they would keep its namespaces alive.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::process::Handle;
use crate::state::LabDirectory;

/// Open descriptors of the lab's network namespaces. As long as they are open the kernel cannot
/// give their inode numbers to another namespace, so that a match is certain.
#[derive(Default)]
pub struct Guests {
    namespaces: Vec<File>,
}

impl Guests {
    /// Of the holder that the record names.
    pub fn of(directory: &LabDirectory) -> Guests {
        let Ok(record) = directory.record() else {
            return Guests::default();
        };
        let Some(holder) = record.holder else {
            return Guests::default();
        };
        let listing = fs::read_dir(format!("/proc/{}/root/run/netns", holder.pid));
        let names = listing.into_iter().flatten().flatten();
        let mut namespaces: Vec<File> = names
            .filter_map(|name| File::open(name.path()).ok())
            .collect();
        // And the hub.
        namespaces.extend(File::open(format!("/proc/{}/ns/net", holder.pid)));
        Guests { namespaces }
    }

    /// Asks every process that still stands in one of the namespaces to end, and kills it when it
    /// does not do so within a second.
    pub fn end(self) {
        let inodes: HashSet<(u64, u64)> = self
            .namespaces
            .iter()
            .filter_map(|file| file.metadata().ok())
            .map(|data| (data.dev(), data.ino()))
            .collect();
        // A list with the janitor's own namespace in it would be a list of the whole host.
        let own = fs::metadata("/proc/self/ns/net").map(|data| (data.dev(), data.ino()));
        if inodes.is_empty() || own.is_ok_and(|own| inodes.contains(&own)) {
            return;
        }
        // Twice, for what a process started while it was being ended.
        for _ in 0..2 {
            let guests = within(&inodes);
            for guest in &guests {
                guest.signal(Signal::TERM);
            }
            let mut patience = Duration::from_secs(1);
            for guest in &guests {
                if !guest.ended_within(patience) {
                    patience = Duration::ZERO;
                    guest.signal(Signal::KILL);
                }
            }
        }
    }
}

fn within(inodes: &HashSet<(u64, u64)>) -> Vec<Handle> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        // The descriptor first, so that what is then looked at is what will be signalled.
        let Some(pid) = Pid::from_raw(pid) else {
            continue;
        };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        let inside = fs::metadata(entry.path().join("ns/net"))
            .is_ok_and(|data| inodes.contains(&(data.dev(), data.ino())));
        if inside {
            found.push(Handle(pidfd));
        }
    }
    found
}
