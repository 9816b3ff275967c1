//! Another file in the place of the one that was there, by one exchange of names.
//!
//! Names after each step, `o` the original and `n` the new one: arm `path=o part=n`; fire
//! `path=o sidecar=n`, then `path=n sidecar=o`; undo `path=o sidecar=n`, then `path=o`. Every one of
//! them says by itself what is left to do, so no sync is needed at fire: after a power cut the disk
//! has one of them.

use std::io;

use super::Undo;
use super::settle::{Looked, Stands};
use crate::changes::Error;
use crate::journal::Permit;
use crate::kernel::files::{self, Entry, Folder};

/// What we put in the place: by size and digest, since a crash leaves no inode's number.
pub(super) struct Ours<'a> {
    pub bytes: u64,
    pub sha256: &'a str,
}

impl Ours<'_> {
    fn is(&self, entry: &Entry) -> io::Result<bool> {
        if !entry.facts.regular || entry.facts.size != self.bytes {
            return Ok(false);
        }
        Ok(files::sha256_of(&entry.read()?)? == self.sha256)
    }
}

/// Writes the new file under a name that nobody reads.
pub(super) fn prepare(undo: &Undo, content: &str, permit: &Permit) -> Result<(), String> {
    let words = |what: &'static str| move |cause: io::Error| format!("cannot {what}: {cause}");
    let folder = Folder::open(&undo.folder).map_err(words("open its folder"))?;
    let original = found(&folder, undo)?;
    if !undo.is_untouched(&original.facts) {
        return Err("it has changed since it was captured".to_owned());
    }
    let new = folder
        .create(&undo.part(), permit)
        .map_err(words("make a file beside it"))?;
    files::write_all(&new, content.as_bytes(), permit).map_err(words("write the new file"))?;
    let then = &original.facts;
    files::set_owner(&new, then.uid, then.gid, permit).map_err(words("give it the owner"))?;
    let from = original.read().map_err(words("read its attributes"))?;
    files::copy_attributes(&from, &new, permit).map_err(words("copy its attributes"))?;
    files::set_mode(&new, then.mode, permit).map_err(words("give it the mode"))?;
    files::sync(&new, permit).map_err(words("sync the new file"))?;
    let made = files::facts(&new).map_err(words("look at the new file"))?;
    if (made.uid, made.gid, made.mode) != (then.uid, then.gid, then.mode) {
        return Err("the new file did not get the owner and mode of the old one".to_owned());
    }
    Ok(())
}

pub(super) fn make(undo: &Undo, permit: &Permit) -> Result<(), String> {
    let folder = Folder::open(&undo.folder).map_err(|cause| format!("its folder: {cause}"))?;
    if !undo.is_untouched(&found(&folder, undo)?.facts) {
        return Err("it has changed since arm".to_owned());
    }
    let new = folder.find(&undo.part()).map_err(|e| e.to_string())?;
    let new = new
        .ok_or("what arming made ready is not there any more")?
        .facts
        .id;
    folder
        .rename_new(&undo.part(), &undo.sidecar, permit)
        .map_err(|cause| format!("the new file cannot be renamed: {cause}"))?;
    folder
        .exchange(&undo.name, &undo.sidecar, permit)
        .map_err(|cause| match cause.raw_os_error() {
            Some(22) => "its file system cannot exchange two files (EINVAL)".to_owned(),
            _ => format!("the two files cannot be exchanged: {cause}"),
        })?;
    let kept = folder.find(&undo.sidecar).map_err(|e| e.to_string())?;
    if !kept.is_some_and(|kept| undo.is_original(&kept)) {
        // Somebody was quicker; what they put there goes back.
        let back = folder.exchange(&undo.name, &undo.sidecar, permit);
        back.map_err(|cause| format!("another file came between, and stays: {cause}"))?;
        return Err("another file came in its place at this very instant".to_owned());
    }
    let stands = folder.find(&undo.name).map_err(|e| e.to_string())?;
    match stands.is_some_and(|stands| stands.facts.id == new) {
        true => Ok(()),
        false => Err("read back, it is not the new file".to_owned()),
    }
}

pub(super) fn undo(
    looked: &Looked<'_>,
    ours: &Ours<'_>,
    permit: &Permit,
) -> Result<Vec<String>, Error> {
    looked.drop_part(permit)?;
    let is_ours = |entry: &Entry| {
        ours.is(entry)
            .map_err(|error| looked.failed("read what is there", error))
    };
    let mut drifted = Vec::new();
    match (looked.sidecar()?, looked.path()?) {
        (Stands::Nothing, _) => {}
        // A person linked it back: both names are the same file.
        (Stands::Original(_), Stands::Original(_)) => looked.drop_sidecar(permit)?,
        (Stands::Original(_), Stands::Other(entry)) if is_ours(&entry)? => {
            drifted.extend(altered(looked, &entry));
            put_back(looked, ours, permit)?;
        }
        (Stands::Original(_), Stands::Other(_)) => {
            return Err(looked.disputed("the original", "somebody put another file there"));
        }
        (Stands::Original(_), Stands::Nothing) => {
            return Err(looked.disputed("the original", "somebody deleted the file in its place"));
        }
        // Before the exchange at fire, or after the one of an undo.
        (Stands::Other(entry), _) if is_ours(&entry)? => looked.drop_sidecar(permit)?,
        (Stands::Other(_), _) => return Err(looked.stranger()),
    }
    looked.settle(permit)?;
    drifted.extend(looked.left()?);
    Ok(drifted)
}

/// What others have done to the file in its place, which ends with it.
fn altered(looked: &Looked<'_>, stands: &Entry) -> Option<String> {
    let (then, now) = (&looked.undo.original, &stands.facts);
    let same = (then.mode, then.uid, then.gid) == (now.mode, now.uid, now.gid);
    (!same).then(|| {
        format!(
            "{} had got mode {:04o} and owner {}:{} meanwhile; the original is back with its own",
            looked.undo.path, now.mode, now.uid, now.gid
        )
    })
}

fn put_back(looked: &Looked<'_>, ours: &Ours<'_>, permit: &Permit) -> Result<(), Error> {
    let (name, sidecar) = (&looked.undo.name, &looked.undo.sidecar);
    let exchange = || {
        let done = looked.folder.exchange(name, sidecar, permit);
        done.map_err(|error| looked.failed("exchange the files again", error))
    };
    exchange()?;
    // Only what is ours may be deleted: somebody may have written between the look and the exchange.
    if let Stands::Other(entry) = looked.sidecar()?
        && ours
            .is(&entry)
            .map_err(|error| looked.failed("read what was there", error))?
    {
        // The names first, or a power cut could leave neither.
        let synced = looked.folder.sync(permit);
        synced.map_err(|error| looked.failed("sync its folder", error))?;
        return looked.drop_sidecar(permit);
    }
    exchange()?;
    Err(looked.disputed("the original", "somebody wrote to the file at this instant"))
}

pub(super) fn found(folder: &Folder, undo: &Undo) -> Result<Entry, String> {
    if !undo.is(folder.id(), undo.folder_id) {
        return Err("its folder is another one now".to_owned());
    }
    let entry = folder
        .find(&undo.name)
        .map_err(|cause| format!("it cannot be looked at: {cause}"))?;
    entry.ok_or_else(|| "it is gone".to_owned())
}
