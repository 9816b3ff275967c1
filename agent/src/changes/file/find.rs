//! Where the folder of a file is now: paths are moved, covered by mounts and seen from chroots.
//!
//! By its path, if the same folder is there; by the kernel's handle of it, wherever it is; or by what we
//! keep in it, where a file system gives its folders other numbers by itself (an overlay over several file
//! systems) or its device another one (mounted again). Only a folder that the kernel says is deleted is gone:
//! what is merely not found stays owed.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use super::settle::failed;
use super::{Act, Undo};
use crate::changes::{Error, IN_ITS_MOUNT_NAMESPACE};
use crate::kernel::files::{Entry, Facts, Folder, Inode, Lead};
use crate::kernel::filesystem::{Line, elsewhere, lines, superblock};

const MOUNT: &str = "mount its file system there again and run `cellwall-agent revert --all`; if it is \
                     gone for good, move the journal away";
const MOVE_BACK: &str = "put its folder back to where it was and run `cellwall-agent revert --all`; if it \
                         is gone for good, move the journal away";

/// The folder, and the undo with what names it now.
pub(super) struct Place<'a> {
    pub folder: Folder,
    pub undo: Cow<'a, Undo>,
    /// That it has another path, in words.
    pub moved: Option<String>,
}

pub(super) enum Found<'a> {
    Here(Box<Place<'a>>),
    /// Nothing can be done and nothing is owed, in words.
    Gone(String),
}

/// The folder in which all happened.
pub(super) fn folder(undo: &Undo) -> Result<Found<'_>, Error> {
    let there = match Folder::open(&undo.folder) {
        Ok(folder) if undo.is(folder.id(), undo.folder_id) => {
            return Ok(Found::Here(Box::new(Place {
                folder,
                undo: Cow::Borrowed(undo),
                moved: None,
            })));
        }
        Ok(other) => Some(other),
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(failed(undo, "open its folder", error)),
    };
    let look = |error: io::Error| failed(undo, "look for its folder", error);
    match by_handle(undo, there.as_ref()).map_err(look)? {
        Lead::To(folder) => return Ok(Found::Here(Box::new(moved(undo, folder)))),
        Lead::Nowhere => return Ok(Found::Gone(deleted(undo))),
        Lead::Unknown => {}
    }
    match there {
        Some(folder) => {
            if let Some(device) = kept_in(undo, &folder).map_err(look)? {
                return Ok(Found::Here(Box::new(renumbered(undo, folder, device))));
            }
        }
        None if undo.same_boot() && was_deleted(undo).map_err(look)? => {
            return Ok(Found::Gone(deleted(undo)));
        }
        None => {}
    }
    not_found(undo).map_err(look)?
}

pub(super) fn parent_of(folder: &Path) -> io::Result<Option<Inode>> {
    let parent = folder.parent().map(Folder::open).transpose()?;
    Ok(parent.map(|parent| parent.id()))
}

fn deleted(undo: &Undo) -> String {
    let (folder, path) = (undo.folder.display(), &undo.path);
    format!(
        "{folder} is gone or is another folder now, and {path} with it: the one of arm was deleted"
    )
}

/// In another path than at arm, or under what is mounted over its own.
fn moved(undo: &Undo, folder: Folder) -> Place<'_> {
    let mut now = undo.clone();
    // The kernel may not know a path to it, or one that leads elsewhere from here.
    let leads = Folder::open(folder.path()).is_ok_and(|there| there.id() == folder.id());
    let mut words = None;
    if leads && folder.path() != undo.folder {
        folder.path().clone_into(&mut now.folder);
        words = Some(format!(
            "{} was moved to {}, and what was done to {} is undone there",
            undo.folder.display(),
            folder.path().display(),
            undo.name
        ));
    }
    Place {
        folder,
        undo: Cow::Owned(now),
        moved: words,
    }
}

/// At its path, with another number or on another device.
fn renumbered(undo: &Undo, folder: Folder, device: u64) -> Place<'_> {
    let mut now = undo.clone();
    now.folder_id = folder.id();
    now.original.id.device = device;
    Place {
        folder,
        undo: Cow::Owned(now),
        moved: None,
    }
}

fn by_handle(undo: &Undo, there: Option<&Folder>) -> io::Result<Lead> {
    let Some(handle) = &undo.handle else {
        return Ok(Lead::Unknown);
    };
    let nearest = nearest(&undo.folder)?;
    let at_its_path = there.into_iter().chain(&nearest).map(|on| (on, true));
    let mounted = mounts_of(undo)?;
    let elsewhere = mounted.iter().map(|on| (on, false));
    for (on, at_its_path) in at_its_path.chain(elsewhere) {
        if undo.same_boot() && on.id().device != undo.folder_id.device {
            continue;
        }
        match on.by_handle(handle)? {
            Lead::To(folder) if undo.is(folder.id(), undo.folder_id) => {
                return Ok(Lead::To(folder));
            }
            // Only where it was: not every file system (xfs) has a name of its own, and after a reboot or at
            // another mount another one may have its device's number.
            Lead::Nowhere if at_its_path && undo.same_boot() => return Ok(Lead::Nowhere),
            _ => {}
        }
    }
    Ok(Lead::Unknown)
}

/// The lowest folder above that is there.
fn nearest(path: &Path) -> io::Result<Option<Folder>> {
    for above in path.ancestors().skip(1) {
        match Folder::open(above) {
            Err(error) if is_absent(&error) => {}
            opened => return opened.map(Some),
        }
    }
    Ok(None)
}

/// What is mounted from the file system in this mount namespace, in this boot; as far as it is not covered.
fn mounts_of(undo: &Undo) -> io::Result<Vec<Folder>> {
    if !undo.same_boot() {
        return Ok(Vec::new());
    }
    let device = superblock(undo.folder_id.device);
    let mut found = Vec::new();
    for line in lines()?
        .into_iter()
        .filter(|line| line.superblock == device)
    {
        let point = match Folder::open(&line.point) {
            Err(error) if is_absent(&error) => continue, // a file, or covered
            opened => opened?,
        };
        let same = undo.handle.as_ref().map(|handle| point.is_beside(handle));
        if same.transpose()?.unwrap_or(true) && point.id().device == undo.folder_id.device {
            found.push(point);
        }
    }
    Ok(found)
}

/// Whether this folder holds the file, under its own name or ours; the answer is the file's device.
fn kept_in(undo: &Undo, folder: &Folder) -> io::Result<Option<u64>> {
    let then = undo.original.id;
    let kept = folder.find(&undo.sidecar)?;
    let tail = kept.as_ref().map(|kept| kept.facts.size);
    let at = folder.find(&undo.name)?;
    let is_inode = |entry: &&Entry| entry.facts.regular && entry.facts.id.may_be(then);
    for entry in [&at, &kept].into_iter().flatten().filter(is_inode) {
        let device = entry.facts.id.device;
        if device == then.device && undo.same_boot() {
            return Ok(Some(device));
        }
        // A copy of a whole file system has the same numbers; the other one must not be in sight.
        if is_as_recorded(undo, &entry.facts, tail) && !is_mounted(undo)? {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

/// As it was at arm, or as the act left it.
fn is_as_recorded(undo: &Undo, now: &Facts, tail: Option<u64>) -> bool {
    let then = &undo.original;
    let content = (now.size, now.modified) == (then.size, then.modified);
    let mode = now.mode == then.mode;
    let owner = (now.uid, now.gid) == (then.uid, then.gid);
    owner
        && match undo.act {
            Act::Replace { .. } | Act::MoveAway => content && mode,
            Act::Chmod { mode: ours } => content && (mode || now.mode == ours),
            Act::Truncate { bytes } => content || tail == then.size.checked_sub(bytes),
        }
}

/// Whether the file system of arm is mounted in any mount namespace, in this boot.
fn is_mounted(undo: &Undo) -> io::Result<bool> {
    let device = superblock(undo.folder_id.device);
    Ok(undo.same_boot() && elsewhere(|line| line.superblock == device)?.is_some())
}

/// Without a handle: whether what it was in is still the same, and has it no more under any name.
fn was_deleted(undo: &Undo) -> io::Result<bool> {
    let Some(parent) = undo.folder.parent() else {
        return Ok(false);
    };
    let parent = match Folder::open(parent) {
        Err(error) if is_absent(&error) => return Ok(false),
        opened => opened?,
    };
    let same = match &undo.parent_id {
        Some(then) => parent.id() == **then,
        None => parent.id().device == undo.folder_id.device, // an old journal
    };
    Ok(same && !parent.holds_folder(undo.folder_id)?)
}

/// What to look for, and where.
fn not_found(undo: &Undo) -> io::Result<Result<Found<'static>, Error>> {
    let (folder, path) = (undo.folder.display(), &undo.path);
    let owed = |cause: String, now: &str, next| {
        Ok(Err(Error::Back {
            what: format!("undo what was done to {path}"),
            cause: cause.into(),
            now: now.to_owned(),
            next,
        }))
    };
    const AS_IT_IS: &str = "it is as the fault left it";
    if let Some(point) = mounts_of(undo)?.first() {
        let (point, inode) = (point.path().display(), undo.folder_id.inode);
        let now = format!(
            "{AS_IT_IS}; look for its folder, or what is kept in it, by `find {point} -xdev -inum {inode} -o \
             -xdev -name {}`",
            undo.sidecar
        );
        let cause = format!("{folder} is not known to be the folder that was there at arm");
        return owed(cause, &now, MOVE_BACK);
    }
    let device = superblock(undo.folder_id.device);
    let is_numbered = |line: &Line| undo.same_boot() && line.superblock == device;
    if lines()?.iter().any(is_numbered) {
        let cause = format!(
            "{folder} is not the folder that was there at arm, and what is mounted from device {device} here \
             is another file system, or covered"
        );
        return owed(cause, AS_IT_IS, MOUNT);
    }
    if let Some(pid) = elsewhere(is_numbered)? {
        let cause = format!("{folder} is mounted where process {pid} sees it, and not here");
        return owed(cause, AS_IT_IS, IN_ITS_MOUNT_NAMESPACE);
    }
    if undo.in_memory {
        return Ok(Ok(Found::Gone(format!(
            "the file system of {path} is unmounted, and was in memory only"
        ))));
    }
    let cause = format!("{folder} is not the folder that was there at arm");
    let now = "what is on its file system is as the fault left it";
    owed(cause, now, MOUNT)
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}
