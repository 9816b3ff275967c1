//! The freezer of one control group, of v2 (`cgroup.freeze`) or v1 (`freezer.state`).

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::until;
use crate::journal::Permit;
use crate::kernel::cgroups::Folder;

/// A group stands still by its own word or by that of a group above it. Ours is only its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freezer {
    group: Folder,
    v2: bool,
}

impl Freezer {
    pub fn of(group: Folder) -> io::Result<Self> {
        let v2 = group.has("cgroup.freeze");
        if !v2 && !group.has("freezer.state") {
            return Err(io::Error::other(
                "the group has no freezer: of v1, name its folder in the freezer hierarchy",
            ));
        }
        Ok(Self { group, v2 })
    }

    pub fn group(&self) -> &Folder {
        &self.group
    }

    pub fn path(&self) -> &Path {
        self.group.path()
    }

    /// Whether the group was told so itself, whatever those above it were told.
    pub fn is_frozen_by_itself(&self) -> io::Result<bool> {
        let file = match self.v2 {
            true => "cgroup.freeze",
            false => "freezer.self_freezing",
        };
        Ok(self.group.read(file)? == "1")
    }

    /// Whether anything stands still in it or is about to, by its own doing or from above.
    pub fn is_frozen(&self) -> io::Result<bool> {
        Ok(match self.v2 {
            true => self.is_frozen_by_itself()? || self.events("frozen 1")? || self.is_below()?,
            false => self.group.read("freezer.state")? != "THAWED",
        })
    }

    fn events(&self, line: &str) -> io::Result<bool> {
        let events = self.group.read("cgroup.events")?;
        Ok(events.lines().any(|told| told == line))
    }

    /// Whether a group above it was told to stand still.
    fn is_below(&self) -> io::Result<bool> {
        if !self.v2 {
            return Ok(self.group.read("freezer.parent_freezing")? == "1");
        }
        let above = self.path().ancestors().skip(1);
        let told = |group: &Path| std::fs::read_to_string(group.join("cgroup.freeze"));
        Ok(above
            .map(told)
            .map_while(Result::ok)
            .any(|word| word.trim() == "1"))
    }

    /// Returns when the kernel says that all in it stand still. A group without a process counts.
    pub fn freeze(&self, permit: &Permit) -> io::Result<()> {
        if !self.v2 {
            self.group.write("freezer.state", "FROZEN", permit)?;
            return until(|| Ok(self.group.read("freezer.state")? == "FROZEN"));
        }
        self.group.write("cgroup.freeze", "1", permit)?;
        until(|| Ok(self.events("frozen 1")? || self.events("populated 0")?))
    }

    /// Takes its own word back, and returns when all in it go on. The answer says if they do not because
    /// of a group above it, which others have frozen.
    pub fn thaw(&self, permit: &Permit) -> io::Result<Option<String>> {
        match self.try_to_thaw(permit) {
            // It was removed, which is only possible without a process in it; one of its name is another's.
            Err(_) if self.group.is_gone() => Ok(None),
            tried => tried,
        }
    }

    fn try_to_thaw(&self, permit: &Permit) -> io::Result<Option<String>> {
        if self.group.is_gone() || !self.is_frozen_by_itself()? {
            return Ok(None);
        }
        let (file, word) = match self.v2 {
            true => ("cgroup.freeze", "0"),
            false => ("freezer.state", "THAWED"),
        };
        self.group.write(file, word, permit)?;
        let mut below = false;
        until(|| {
            below = self.is_below()?;
            let goes_on = match self.v2 {
                true => self.events("frozen 0")?,
                false => self.group.read("freezer.state")? == "THAWED",
            };
            Ok(!self.is_frozen_by_itself()? && (goes_on || below))
        })?;
        Ok(below.then(|| {
            let path = self.path().display();
            format!("{path} is thawed, but a group above it was frozen by someone else")
        }))
    }
}
