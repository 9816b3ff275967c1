//! The word in the state directory that a freeze or a read-only mount is ours, which nobody could see of it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{Made, TRY_AGAIN, Undo, back};
use crate::changes::{Error, Hands, OURS};
use crate::journal;

const ENDING: &str = "begun";
const STILL: &str = "it is as the fault left it, if that had begun";

/// `name` is that of the change.
pub(super) fn of(journals: &Path, name: &str) -> PathBuf {
    journals.join(format!("{name}.{ENDING}"))
}

/// Says on disk that we begin. Not synced: what it speaks of does not outlive the machine either.
pub(super) fn begin(marker: &Path) -> Result<(), Made> {
    let made = File::create_new(marker);
    made.map(drop)
        .map_err(|cause| Made::Nothing(format!("cannot make {}: {cause}", marker.display())))
}

pub(super) fn end(marker: &Path) {
    if let Err(cause) = std::fs::remove_file(marker)
        && cause.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(marker = %marker.display(), %cause, "a marker of no use any more stays");
    }
}

/// Where it is; none if the change never began. That it is not there says so only where the drill's journal
/// is: a state directory may have been moved, unmounted, or named by another path since.
pub(super) fn found(undo: &Undo, marker: &Path, hands: &Hands) -> Result<Option<PathBuf>, Error> {
    let name = marker.file_name().unwrap_or_default();
    let drill = drill_of(name.to_str().unwrap_or_default());
    let mut folders: Vec<&Path> = hands.journals().into_iter().collect();
    folders.extend(marker.parent());
    let mut known = false;
    for folder in folders {
        let here = folder.join(name);
        // What cannot be known counts as begun.
        if !here.try_exists().is_ok_and(|there| !there) {
            return Ok(Some(here));
        }
        known |= journal::path_of(folder, drill).exists();
    }
    if known {
        return Ok(None);
    }
    let why = format!(
        "whether it began is said beside the journal of drill {drill}, and that is not where it was"
    );
    Err(back(undo, "undo what was done to", why, STILL, TRY_AGAIN))
}

/// Of `cellwall_DRILL_STEP_INDEX.begun`.
fn drill_of(name: &str) -> &str {
    let rest = name.strip_prefix(OURS).unwrap_or(name);
    rest.rsplitn(3, '_').nth(2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_names_its_drill() {
        let marker = of(Path::new("/j"), "cellwall_my-drill_3_14");
        assert_eq!(marker, Path::new("/j/cellwall_my-drill_3_14.begun"));
        let name = marker.file_name().unwrap().to_str().unwrap();
        assert_eq!(drill_of(name), "my-drill");
        assert_eq!(drill_of("nonsense"), "");
    }
}
