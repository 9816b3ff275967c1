//! The same file cut short: programs that have it open meet its end. Its tail is kept beside it.
//!
//! Steps: arm copies the tail to the part; fire gives the part the sidecar's name, syncs, cuts, and
//! reserves the freed room so that a disk that fills up does not keep the tail out; undo appends what
//! is missing of the tail, verifies, sets the time of the last write back, and deletes the sidecar. A
//! part means: never cut. A sidecar means: maybe cut, and its content says how far it is back.
//! Whoever writes between the last look and the cut (microseconds) loses what they wrote.

use std::fs::File;
use std::io;

use super::Undo;
use super::replace::found;
use super::settle::{Looked, Stands};
use crate::changes::Error;
use crate::hex;
use crate::journal::Permit;
use crate::kernel::files::{self, Entry, Folder, Reach};

/// A longer tail is not copied at arm, nor back.
const TAIL_MOST: u64 = 1 << 30;
const CHANGED: &str = "it has changed since arm: somebody writes to it";
const TAIL: &str = "the end that was cut off";

/// How many bytes are cut off, if that is something.
pub(super) fn tail(size: u64, bytes: u64) -> Result<u64, String> {
    match size.checked_sub(bytes) {
        None | Some(0) => Err(format!("it has {size} bytes, so nothing would be cut")),
        Some(tail) if tail > TAIL_MOST => {
            Err(format!("{tail} bytes would be cut; {TAIL_MOST} at most"))
        }
        Some(tail) => Ok(tail),
    }
}

pub(super) fn prepare(undo: &Undo, permit: &Permit) -> Result<(), String> {
    let super::Act::Truncate { bytes } = undo.act else {
        return Err("its undo is of another kind".to_owned());
    };
    let words = |what: &'static str| move |cause: io::Error| format!("cannot {what}: {cause}");
    let folder = Folder::open(&undo.folder).map_err(words("open its folder"))?;
    let original = found(&folder, undo)?;
    let file = original.read().map_err(words("read it"))?;
    let part = folder
        .create(&undo.part(), permit)
        .map_err(words("make a file beside it"))?;
    files::copy_tail(&file, bytes, &part, permit).map_err(words("copy its tail"))?;
    files::sync(&part, permit).map_err(words("sync the copy of its tail"))?;
    let kept = files::facts(&part).map_err(words("look at the copy"))?.size;
    let now = original.again().map_err(words("look at it again"))?;
    if !undo.is_untouched(&now) || kept != undo.original.size - bytes {
        return Err("it has changed since it was captured: somebody writes to it".to_owned());
    }
    Ok(())
}

pub(super) fn make(undo: &Undo, bytes: u64, permit: &Permit) -> Result<(), String> {
    let words = |what: &'static str| move |cause: io::Error| format!("cannot {what}: {cause}");
    let folder = Folder::open(&undo.folder).map_err(words("open its folder"))?;
    let original = found(&folder, undo)?;
    if !undo.is_untouched(&original.facts) {
        return Err(CHANGED.to_owned());
    }
    let file = original.write(permit).map_err(words("open it"))?;
    folder
        .rename_new(&undo.part(), &undo.sidecar, permit)
        .map_err(words("keep its tail"))?;
    folder.sync(permit).map_err(words("sync its folder"))?;
    let now = original.again().map_err(words("look at it"))?;
    if !undo.is_untouched(&now) {
        // Nothing was cut, so nothing of the tail is missing.
        let dropped = folder.unlink(&undo.sidecar, permit);
        dropped.map_err(words("delete the copy of its tail"))?;
        return Err(CHANGED.to_owned());
    }
    files::shorten(&file, bytes, permit).map_err(words("cut it"))?;
    let tail = undo.original.size.saturating_sub(bytes);
    if !files::reserve(&file, bytes, tail, permit).map_err(words("keep room for its tail"))? {
        tracing::warn!(path = %undo.path, "its file system keeps no room for the tail");
    }
    match original.again() {
        Ok(facts) if facts.size == bytes => Ok(()),
        Ok(facts) => Err(format!("read back, it has {} bytes", facts.size)),
        Err(cause) => Err(format!("it cannot be read back: {cause}")),
    }
}

pub(super) fn undo(looked: &Looked<'_>, bytes: u64, permit: &Permit) -> Result<Vec<String>, Error> {
    looked.drop_part(permit)?;
    let kept = match looked.sidecar()? {
        Stands::Nothing => return without_tail(looked, permit),
        Stands::Other(kept) if kept.facts.regular => kept,
        Stands::Other(_) | Stands::Original(_) => return Err(looked.stranger()),
    };
    if Some(kept.facts.size) != looked.undo.original.size.checked_sub(bytes) {
        return Err(looked.stranger());
    }
    let original = match looked.path()? {
        Stands::Original(entry) => entry,
        Stands::Other(_) => return Err(looked.disputed(TAIL, "somebody put another file there")),
        Stands::Nothing => return Err(looked.disputed(TAIL, "somebody deleted the file")),
    };
    let drifted = append(looked, &original, &kept, bytes, permit)?;
    looked.drop_sidecar(permit)?;
    looked.settle(permit)?;
    Ok(drifted)
}

/// The cut was never made, or all is back; or a person has decided.
fn without_tail(looked: &Looked<'_>, permit: &Permit) -> Result<Vec<String>, Error> {
    looked.settle(permit)?;
    match looked.path()? {
        Stands::Original(entry) if entry.facts.size != looked.undo.original.size => {
            Ok(vec![format!(
                "{} has {} bytes, not {} as at arm",
                looked.undo.path, entry.facts.size, looked.undo.original.size
            )])
        }
        _ => looked.left(),
    }
}

fn append(
    looked: &Looked<'_>,
    original: &Entry,
    kept: &Entry,
    bytes: u64,
    permit: &Permit,
) -> Result<Vec<String>, Error> {
    let io = |what: &'static str| move |error: io::Error| looked.failed(what, error);
    let tail = kept.read().map_err(io("read its tail"))?;
    let file = original.write(permit).map_err(io("open it"))?;
    let size = original.again().map_err(io("look at it"))?.size;
    match files::compare_tail(&file, bytes, &tail).map_err(io("compare it"))? {
        Reach::Whole => {}
        Reach::Part(done) if size >= bytes => {
            files::add_tail(&file, bytes, &tail, done, permit).map_err(io("append its tail"))?;
        }
        Reach::Part(_) | Reach::Foreign => {
            return Err(looked.disputed(TAIL, "somebody wrote to the file"));
        }
    }
    restore_attributes(looked, &file, permit)?;
    let whole = files::compare_tail(&file, bytes, &tail).map_err(io("read it back"))?;
    let now = original.again().map_err(io("look at it"))?;
    if whole != Reach::Whole {
        return Err(looked.failed("append its tail", "read back, it is not the same"));
    }
    let drifted = restore_time(looked, &file, now.size, permit)?;
    files::sync(&file, permit).map_err(io("sync it"))?;
    Ok(drifted)
}

/// What the kernel took away with the write.
fn restore_attributes(looked: &Looked<'_>, file: &File, permit: &Permit) -> Result<(), Error> {
    let io = |error: io::Error| looked.failed("give it its attributes", error);
    let then = &looked.undo.original;
    if let Some(value) = then.capability.as_deref().and_then(hex::decode)
        && files::capability(file).map_err(io)?.is_none()
    {
        files::restore_capability(file, &value, permit).map_err(io)?;
    }
    // Without CAP_FSETID a write also clears setuid and setgid.
    let now = files::facts(file).map_err(io)?.mode;
    if now != then.mode && now == then.mode & !0o6000 {
        files::set_mode(file, then.mode, permit).map_err(io)?;
    }
    Ok(())
}

/// The time of the last write is set back only if nobody else wrote: a backup must not be told that
/// nothing changed. Of a file too large for a digest nobody knows, so its time stays.
fn restore_time(
    looked: &Looked<'_>,
    file: &File,
    size: u64,
    permit: &Permit,
) -> Result<Vec<String>, Error> {
    let io = |error: io::Error| looked.failed("verify it", error);
    let (then, path) = (&looked.undo.original, &looked.undo.path);
    let now = files::facts(file).map_err(io)?.modified;
    if now == then.modified {
        return Ok(Vec::new());
    }
    let Some(sha256) = &then.sha256 else {
        return Ok(vec![format!(
            "{path} is whole again; whether somebody wrote to its beginning is not known, so the \
             time of its last write is that of the undo"
        )]);
    };
    if size == then.size && files::sha256_of(file).map_err(io)? == *sha256 {
        files::set_modified(file, then.modified, permit).map_err(io)?;
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "{path} has its tail again, and somebody wrote to it meanwhile"
    )])
}
