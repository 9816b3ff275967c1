//! A file of ours that leaves others so much room and no more.
//!
//! Room counts as whoever is not root has it (`f_bavail`). The disk may be used and freed by others
//! meanwhile: what is left is right at the instant of fire. A file may be no larger than its file
//! system allows (4 GiB on vfat); a larger fill is not made there. On a file system in memory it takes
//! that memory.

use std::fs::File;
use std::io;

use rustix::io::Errno;

use super::{MOUNT, TRY_AGAIN, Undo, back};
use crate::boottime::boot_id;
use crate::changes::{Error, IN_ITS_MOUNT_NAMESPACE};
use crate::journal::Permit;
use crate::kernel::files::{Facts, Folder, shorten};
use crate::kernel::filesystem::{Mounted, allocate, elsewhere, lengthen};

/// What is allocated at arm, to see that it works there.
const FIRST: u64 = 4096;
/// Where nothing can be allocated, zeros are written; more of them would hold the agent up.
const WRITE_MOST: u64 = 1 << 30;
/// How often what is free is looked at again: others write and free, and bookkeeping takes its part.
const ROUNDS: u32 = 64;
const STILL: &str = "it may still be full";

pub(super) fn name(place: &str) -> String {
    format!(".{place}")
}

pub(super) fn check(folder: &Folder, name: &str, free: u64, leave: u64) -> Result<(), String> {
    if free <= leave.saturating_add(FIRST) {
        return Err(format!(
            "it has {free} free bytes, and {leave} are to be left"
        ));
    }
    match folder.find(name) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(format!("{name} is there already")),
        Err(cause) => Err(cause.to_string()),
    }
}

/// Makes the file, almost empty: a disk that takes none is known at arm.
pub(super) fn prepare(undo: &Undo, name: &str, permit: &Permit) -> Result<(), String> {
    let folder = Folder::open(&undo.point).map_err(|cause| cause.to_string())?;
    let words = |cause: io::Error| format!("cannot make {name}: {cause}");
    let file = folder.create(name, permit).map_err(words)?;
    match allocate(&file, FIRST, permit).map_err(words)? {
        Some(()) => Ok(()),
        None if folder.room().map_err(words)?.free > WRITE_MOST => Err(format!(
            "it cannot allocate, and has more than {WRITE_MOST} bytes free, which would take too \
             long to write"
        )),
        None => Ok(()),
    }
}

pub(super) fn make(undo: &Undo, name: &str, leave: u64, permit: &Permit) -> Result<(), String> {
    let words = |cause: io::Error| format!("it cannot be filled: {cause}");
    let folder = Folder::open(&undo.point).map_err(words)?;
    let entry = folder.find(name).map_err(words)?;
    let entry = entry.ok_or("what arming made ready is not there any more")?;
    let file = entry.write(permit).map_err(words)?;
    let mut most = u64::MAX;
    for _ in 0..ROUNDS {
        let free = folder.room().map_err(words)?.free;
        let missing = free.saturating_sub(leave).min(most);
        if missing == 0 {
            break;
        }
        match longer(&file, missing, permit) {
            Ok(()) => {}
            // Less would do: bookkeeping, or somebody was quicker.
            Err(cause) if is_full(&cause) => most = missing / 2,
            Err(cause) => return Err(words(cause)),
        }
    }
    match entry.again().map_err(words)?.size > FIRST {
        true => Ok(()),
        false => Err("nothing of it could be filled".to_owned()),
    }
}

fn longer(file: &File, bytes: u64, permit: &Permit) -> io::Result<()> {
    match allocate(file, bytes, permit)? {
        Some(()) => Ok(()),
        None => lengthen(file, bytes, permit),
    }
}

fn is_full(cause: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT].map(|errno| Some(errno.raw_os_error()));
    full.contains(&cause.raw_os_error())
}

pub(super) fn undo(undo: &Undo, name: &str, permit: &Permit) -> Result<Vec<String>, Error> {
    let failed = |cause: io::Error| back(undo, "empty", cause, STILL, TRY_AGAIN);
    let folder = match Folder::open(&undo.point) {
        Ok(folder) => folder,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return unmounted(undo),
        Err(cause) => return Err(failed(cause)),
    };
    if !is_it(undo, &folder).map_err(failed)? {
        return unmounted(undo);
    }
    let mut full = None;
    match folder.find(name).map_err(failed)? {
        None => return Ok(Vec::new()),
        Some(entry) if !entry.facts.regular => {
            let point = undo.point.display();
            return Ok(vec![format!("{name} in {point} is no file of ours")]);
        }
        // Emptied before its name goes: another name for it, or who has it open, would keep it full.
        Some(entry) if is_as_made(&entry.facts) => {
            let emptied = entry.write(permit);
            full = emptied.and_then(|file| shorten(&file, 0, permit)).err();
        }
        Some(_) => {}
    }
    folder.unlink(name, permit).map_err(failed)?;
    folder.sync(permit).map_err(failed)?;
    match folder.find(name).map_err(failed)? {
        None => Ok(full
            .map(|cause| format!("{name} is deleted, but could not be emptied first: {cause}"))
            .into_iter()
            .collect()),
        Some(_) => Err(failed(io::Error::other("its file came back"))),
    }
}

/// What somebody has put under our name is deleted, for the name is ours, and not emptied.
fn is_as_made(facts: &Facts) -> bool {
    facts.uid == rustix::process::geteuid().as_raw() && facts.mode == 0o600
}

/// Whether the same file system is mounted there. After a reboot its device may have another number.
fn is_it(undo: &Undo, folder: &Folder) -> io::Result<bool> {
    let same_boot = boot_id().is_ok_and(|now| now == undo.boot_id);
    let same = match same_boot {
        true => folder.id() == undo.root,
        false => folder.id().may_be(undo.root),
    };
    Ok(same && Mounted::at(&undo.point)?.is_root)
}

fn unmounted(undo: &Undo) -> Result<Vec<String>, Error> {
    let point = undo.point.display();
    let failed = |cause: io::Error| back(undo, "look for", cause, STILL, TRY_AGAIN);
    if undo.in_memory {
        if let Some(pid) = elsewhere(|line| line.superblock == undo.superblock).map_err(failed)? {
            let cause = format!("it is mounted where process {pid} sees it, and not here");
            return Err(back(undo, "empty", cause, STILL, IN_ITS_MOUNT_NAMESPACE));
        }
        return Ok(vec![format!(
            "{point} is unmounted, and was in memory only"
        )]);
    }
    let cause = "it is not mounted";
    let now = "the file that fills it is on it";
    Err(back(undo, "empty", cause, now, MOUNT))
}
