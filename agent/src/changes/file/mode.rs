//! Other permission bits on one inode, whatever its name is by then.

use super::Undo;
use super::replace::found;
use super::settle::{Looked, Stands};
use crate::changes::Error;
use crate::journal::Permit;
use crate::kernel::files::{self, Entry, Folder};

pub(super) fn make(undo: &Undo, mode: u32, permit: &Permit) -> Result<(), String> {
    let folder = Folder::open(&undo.folder).map_err(|cause| format!("its folder: {cause}"))?;
    let entry = found(&folder, undo)?;
    if !undo.is_original(&entry) || entry.facts.mode != undo.original.mode {
        return Err("it is another file, or has another mode, since arm".to_owned());
    }
    set(&entry, mode, permit).map_err(|cause| format!("its mode cannot be set: {cause}"))?;
    match entry.again() {
        Ok(facts) if facts.mode == mode => Ok(()),
        Ok(facts) => Err(format!(
            "read back, its mode is {:04o}, not {mode:04o}",
            facts.mode
        )),
        Err(cause) => Err(format!("its mode cannot be read back: {cause}")),
    }
}

pub(super) fn undo(looked: &Looked<'_>, ours: u32, permit: &Permit) -> Result<Vec<String>, Error> {
    let (path, then) = (&looked.undo.path, looked.undo.original.mode);
    let found = match looked.path()? {
        Stands::Original(entry) => Some(entry),
        Stands::Nothing | Stands::Other(_) => looked.renamed()?,
    };
    let Some(entry) = found else {
        return Ok(vec![format!(
            "{path} is gone or another file now; if the old one was moved elsewhere, it may still have \
                 mode {ours:04o} instead of {then:04o}"
        )]);
    };
    match entry.facts.mode {
        now if now == then => Ok(Vec::new()),
        now if now == ours => {
            set(&entry, then, permit).map_err(|error| looked.failed("set its mode", error))?;
            let read = entry.again();
            match read
                .map_err(|error| looked.failed("look at it", error))?
                .mode
            {
                now if now == then => Ok(Vec::new()),
                now => Err(looked.failed("set its mode", format!("read back, it is {now:04o}"))),
            }
        }
        now => Ok(vec![format!(
            "{path} has mode {now:04o}: not {then:04o} as at arm, and not {ours:04o}"
        )]),
    }
}

/// On disk too: an undo that a power cut takes back would be none.
fn set(entry: &Entry, mode: u32, permit: &Permit) -> std::io::Result<()> {
    let file = entry.read()?;
    files::set_mode(&file, mode, permit)?;
    files::sync(&file, permit)
}
