//! What every undo of a file looks at first, and what it says when a person must decide.

use super::{Act, Undo};
use crate::changes::{Cause, Error};
use crate::journal::Permit;
use crate::kernel::files::{Entry, Folder};

const DECIDE: &str = "compare the two, then either `mv` the kept one to its own name or delete it, \
                      and run `cellwall-agent revert --all`";
const TRY_AGAIN: &str = "see to the cause and run `cellwall-agent revert --all`";

/// An undo in the folder where it belongs.
pub(super) struct Looked<'a> {
    pub undo: &'a Undo,
    pub folder: Folder,
}

/// What stands under one of the two names.
pub(super) enum Stands {
    Nothing,
    Original(Entry),
    Other(Entry),
}

impl<'a> Looked<'a> {
    pub(super) fn new(undo: &'a Undo, folder: Folder) -> Self {
        Self { undo, folder }
    }

    /// What stands at the file's own path.
    pub(super) fn path(&self) -> Result<Stands, Error> {
        self.look(&self.undo.name)
    }

    /// The file itself under another name in its folder, as whoever rotates logs gives it.
    pub(super) fn renamed(&self) -> Result<Option<Entry>, Error> {
        let found = self.folder.find_inode(|entry| self.undo.is_original(entry));
        found.map_err(|error| self.failed("look for it", error))
    }

    pub(super) fn sidecar(&self) -> Result<Stands, Error> {
        self.look(&self.undo.sidecar)
    }

    fn look(&self, name: &str) -> Result<Stands, Error> {
        let found = self.folder.find(name);
        Ok(match found.map_err(|e| self.failed("look at it", e))? {
            None => Stands::Nothing,
            Some(entry) if self.undo.is_original(&entry) => Stands::Original(entry),
            Some(entry) => Stands::Other(entry),
        })
    }

    /// Deletes what arming made and no program ever met.
    pub(super) fn drop_part(&self, permit: &Permit) -> Result<(), Error> {
        let part = self.undo.part();
        let there = self.folder.find(&part);
        if there
            .map_err(|error| self.failed("look at it", error))?
            .is_some()
        {
            let gone = self.folder.unlink(&part, permit);
            gone.map_err(|error| self.failed(&format!("delete {part}"), error))?;
        }
        Ok(())
    }

    /// Deletes our own file under the sidecar's name.
    pub(super) fn drop_sidecar(&self, permit: &Permit) -> Result<(), Error> {
        let gone = self.folder.unlink(&self.undo.sidecar, permit);
        gone.map_err(|error| self.failed(&format!("delete {}", self.undo.sidecar), error))
    }

    /// Nothing of ours is left beside it, and that is on disk.
    pub(super) fn settle(&self, permit: &Permit) -> Result<(), Error> {
        let synced = self.folder.sync(permit);
        synced.map_err(|error| self.failed("sync its folder", error))?;
        for name in [&self.undo.sidecar, &self.undo.part()] {
            let found = self.folder.find(name);
            if found
                .map_err(|error| self.failed("look at it", error))?
                .is_some()
            {
                return Err(self.failed("finish", format!("{name} came back")));
            }
        }
        Ok(())
    }

    /// What stands at the path when nothing is kept any more.
    pub(super) fn left(&self) -> Result<Vec<String>, Error> {
        let path = &self.undo.path;
        Ok(match self.path()? {
            Stands::Original(_) => Vec::new(),
            Stands::Nothing => vec![format!("{path} is gone, and nothing of it is kept")],
            Stands::Other(_) => vec![format!("{path} is another file than at arm")],
        })
    }

    /// Something must be seen to before the undo can go on.
    pub(super) fn failed(&self, what: &str, cause: impl Into<Cause>) -> Error {
        failed(self.undo, what, cause)
    }

    /// Somebody else has to do with the file: nothing is overwritten, and nothing is lost.
    pub(super) fn disputed(&self, kept: &str, cause: impl Into<Cause>) -> Error {
        Error::Back {
            what: format!("put {} back", self.undo.path),
            cause: cause.into(),
            now: format!("{kept} is kept as {}", self.undo.kept_at()),
            next: DECIDE,
        }
    }

    /// Under our name stands what neither we nor the agent's host put there.
    pub(super) fn stranger(&self) -> Error {
        Error::Back {
            what: format!("put {} back", self.undo.path),
            cause: "what has our name is not what we put there".into(),
            now: format!("{} was left as it is", self.undo.kept_at()),
            next: "move it away and run `cellwall-agent revert --all`",
        }
    }
}

pub(super) fn failed(undo: &Undo, what: &str, cause: impl Into<Cause>) -> Error {
    Error::Back {
        what: format!("put {} back: {what}", undo.path),
        cause: cause.into(),
        now: as_it_may_be(undo),
        next: TRY_AGAIN,
    }
}

/// How the host may be when an undo has not come to its end.
fn as_it_may_be(undo: &Undo) -> String {
    match &undo.act {
        Act::Chmod { mode } => {
            let then = undo.original.mode;
            format!("its mode may still be {mode:04o} instead of {then:04o}")
        }
        Act::Replace { .. } | Act::MoveAway | Act::Truncate { .. } => {
            format!("if {} is there, it holds what is missing", undo.kept_at())
        }
    }
}
