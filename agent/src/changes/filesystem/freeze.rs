//! Writers wait; readers go on.
//!
//! A freeze belongs to the file system, not to a mount: it stays when the last mount goes, and is
//! there when the device is mounted again (seen on 6.18). So the undo looks for the file system
//! wherever it is mounted, and does not call it well when it is only out of sight.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::marker::{begin, end};
use super::{MOUNT, Made, TRY_AGAIN, Undo, back};
use crate::changes::Error;
use crate::journal::Permit;
use crate::kernel::filesystem::{Mounted, claimed, elsewhere, lines, own_writers};

const STILL: &str = "writers to it may wait";

/// The agent itself must not be one of those who wait.
pub(super) fn check(superblock: &str) -> io::Result<Result<(), String>> {
    let writers = own_writers(superblock)?;
    Ok(match writers.first() {
        None => Ok(()),
        Some(file) => Err(format!("the agent itself writes to it: {file}")),
    })
}

pub(super) fn make(mounted: &Mounted, marker: &Path, permit: &Permit) -> Result<(), Made> {
    begin(marker)?;
    if let Err(error) = mounted.freeze(permit) {
        end(marker);
        return Err(Made::Nothing(match error {
            Errno::BUSY => "it is frozen already, by somebody else".to_owned(),
            Errno::OPNOTSUPP => format!("{} cannot be frozen", mounted.line.kind),
            error => format!("it cannot be frozen: {error}"),
        }));
    }
    // Read back: what is frozen cannot be frozen again.
    match mounted.freeze(permit) {
        Err(Errno::BUSY) => Ok(()),
        Ok(()) => Err(Made::Unknown("read back, it was not frozen".into())),
        Err(error) => Err(Made::Unknown(error.into())),
    }
}

/// The kernel's answer to FITHAW is the proof: 0 comes after its last step, EINVAL if it was not
/// frozen. A second FITHAW as a look would end the freeze of somebody who was waiting for the end of
/// ours.
pub(super) fn undo(undo: &Undo, permit: &Permit) -> Result<Vec<String>, Error> {
    let failed = |cause: io::Error| back(undo, "thaw", cause, STILL, TRY_AGAIN);
    let Some(mounted) = mounted(undo).map_err(failed)? else {
        if let Some(place) = unseen(undo).map_err(failed)? {
            return Err(back(undo, "thaw", place, STILL, MOUNT));
        }
        return Ok(vec![format!(
            "{} is not mounted any more",
            undo.point.display()
        )]);
    };
    match mounted.thaw(permit) {
        Ok(()) | Err(Errno::INVAL) => Ok(Vec::new()),
        Err(error) => Err(failed(error.into())),
    }
}

/// The file system by any mount of it.
fn mounted(undo: &Undo) -> io::Result<Option<Mounted>> {
    let is_it = |superblock: &str| superblock == undo.superblock;
    for line in lines()?.iter().filter(|line| is_it(&line.superblock)) {
        // The path may lead to what was mounted over it, or be a file.
        match Mounted::at(&line.point) {
            Ok(mounted) if is_it(&mounted.line.superblock) => return Ok(Some(mounted)),
            _ => {}
        }
    }
    Ok(None)
}

/// Where it still may be, frozen, although no path of ours leads to it.
fn unseen(undo: &Undo) -> io::Result<Option<String>> {
    if let Some(pid) = elsewhere(|line| line.superblock == undo.superblock)? {
        return Ok(Some(format!(
            "it is mounted only where process {pid} sees it, or hidden below another mount"
        )));
    }
    Ok(match claimed(&undo.superblock)? {
        Some(true) => Some("it was unmounted while it was frozen, and still is frozen".to_owned()),
        Some(false) | None => None,
    })
}
