//! One mount through which nobody may write; other mounts of the same file system go on.

use std::io;
use std::path::Path;

use super::marker::{begin, end};
use super::{Made, TRY_AGAIN, Undo, back};
use crate::changes::Error;
use crate::journal::Permit;
use crate::kernel::filesystem::{Mounted, elsewhere, lines};

const STILL: &str = "nobody can write through it";

pub(super) fn make(mounted: &Mounted, marker: &Path, permit: &Permit) -> Result<(), Made> {
    if mounted.line.read_only {
        return Err(Made::Nothing("it is read-only since arm".to_owned()));
    }
    begin(marker)?;
    if let Err(cause) = mounted.set_read_only(true, permit) {
        end(marker);
        return Err(Made::Nothing(match cause.kind() {
            io::ErrorKind::ResourceBusy => {
                "somebody has a file on it open for writing (EBUSY)".to_owned()
            }
            _ => format!("it cannot be made read-only: {cause}"),
        }));
    }
    match mounted.again() {
        Ok(line) if line.read_only => Ok(()),
        Ok(_) => Err(Made::Unknown("read back, it is writable".into())),
        Err(cause) => Err(Made::Unknown(cause.into())),
    }
}

pub(super) fn undo(undo: &Undo, permit: &Permit) -> Result<Vec<String>, Error> {
    let failed = |cause: io::Error| back(undo, "make writable again", cause, STILL, TRY_AGAIN);
    let Some(mounted) = mounted(undo).map_err(failed)? else {
        let mine = |line: &_| is_number(undo, line);
        if let Some(pid) = elsewhere(mine).map_err(failed)? {
            return Err(failed(io::Error::other(format!(
                "only process {pid} sees it: run this in its mount namespace"
            ))));
        }
        return Ok(vec![format!(
            "{} is not mounted any more",
            undo.point.display()
        )]);
    };
    if mounted.line.read_only {
        mounted.set_read_only(false, permit).map_err(failed)?;
        if mounted.again().map_err(failed)?.read_only {
            return Err(failed(io::Error::other("read back, it is read-only")));
        }
    }
    Ok(Vec::new())
}

fn is_number(undo: &Undo, line: &crate::kernel::filesystem::Line) -> bool {
    line.number == undo.mount.number && line.superblock == undo.superblock
}

/// The mount, wherever it was moved to. None: it is not in this namespace.
fn mounted(undo: &Undo) -> io::Result<Option<Mounted>> {
    let all = lines()?;
    let Some(line) = all.iter().find(|line| is_number(undo, line)) else {
        return Ok(None);
    };
    let mounted = Mounted::at(&line.point)?;
    if mounted.id == undo.mount {
        return Ok(Some(mounted));
    }
    // Its number was given to another mount of the same file system; or it is hidden.
    match mounted.id.number == undo.mount.number {
        true => Ok(None),
        false => Err(io::Error::other("something is mounted over it")),
    }
}
