//! A file under a name that nobody reads, and back.

use super::Undo;
use super::replace::found;
use super::settle::{Looked, Stands};
use crate::changes::Error;
use crate::journal::Permit;
use crate::kernel::files::Folder;

pub(super) fn make(undo: &Undo, permit: &Permit) -> Result<(), String> {
    let folder = Folder::open(&undo.folder).map_err(|cause| format!("its folder: {cause}"))?;
    if !undo.is_original(&found(&folder, undo)?) {
        return Err("another file is in its place since arm".to_owned());
    }
    folder
        .rename_new(&undo.name, &undo.sidecar, permit)
        .map_err(|cause| match cause.raw_os_error() {
            Some(22) => "its file system cannot rename without replacing (EINVAL)".to_owned(),
            _ => format!("it cannot be renamed: {cause}"),
        })?;
    let kept = folder.find(&undo.sidecar).map_err(|e| e.to_string())?;
    if kept.is_some_and(|kept| undo.is_original(&kept)) {
        return Ok(());
    }
    let back = folder.rename_new(&undo.sidecar, &undo.name, permit);
    back.map_err(|cause| format!("another file came between, and stays there: {cause}"))?;
    Err("another file came in its place at this very instant".to_owned())
}

pub(super) fn undo(looked: &Looked<'_>, permit: &Permit) -> Result<Vec<String>, Error> {
    let (name, sidecar) = (&looked.undo.name, &looked.undo.sidecar);
    match (looked.sidecar()?, looked.path()?) {
        (Stands::Nothing, _) => {}
        (Stands::Original(_), Stands::Nothing) => {
            let back = looked.folder.rename_new(sidecar, name, permit);
            back.map_err(|error| looked.failed("rename it", error))?;
        }
        // A person linked it back: both names are the same file.
        (Stands::Original(_), Stands::Original(_)) => looked.drop_sidecar(permit)?,
        (Stands::Original(_), Stands::Other(_)) => {
            return Err(looked.disputed("the original", "somebody made another file there"));
        }
        (Stands::Other(_), _) => return Err(looked.stranger()),
    }
    looked.settle(permit)?;
    looked.left()
}
