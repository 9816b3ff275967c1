//! One file system whose writers wait, are refused, or find no room.
//!
//! A freeze and a read-only mount have no owner and no content: nobody can see who made them. So a
//! marker of ours in the state directory says that we began; without it the undo touches nothing.
//! Both end with the machine; a file that fills a disk does not, and its name says whose it is.

mod disks;
mod fill;
mod freeze;
mod marker;
mod read_only;

use std::io;
use std::path::{Path, PathBuf};

use scenarios::change::{FilesystemAct, FilesystemChange};
use serde::{Deserialize, Serialize};

use super::file::taken_back;
use super::{Cause, Error, Hands, Place, Reversible};
use crate::boottime::boot_id;
use crate::journal::Permit;
use crate::kernel::files::{Folder, Inode};
use crate::kernel::filesystem::{MountId, Mounted, lower};
use crate::kernel::nft::Gate;
use crate::neighbours::Claims;

pub use disks::Disks;

const TRY_AGAIN: &str = "see to the cause and run `cellwall-agent revert --all`";
const MOUNT: &str = "mount it there again and run `cellwall-agent revert --all`; if it is gone for \
                     good, move the journal away";

/// The mount as it was, and what was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// Where it is mounted, without symbolic links.
    pub point: PathBuf,
    pub mount: MountId,
    /// `MAJOR:MINOR` of the file system, whatever it is mounted by; holds for one boot.
    pub superblock: String,
    /// The root folder of the mount.
    pub root: Inode,
    pub boot_id: String,
    pub in_memory: bool,
    pub act: Act,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    Freeze {
        /// There from just before the freeze until its undo.
        marker: PathBuf,
    },
    ReadOnly {
        marker: PathBuf,
    },
    Fill {
        /// Of the file, in the root of the mount.
        name: String,
    },
}

impl Reversible for FilesystemChange {
    type Undo = Undo;

    fn capture(&self, hands: &mut Hands, place: &Place) -> Result<Undo, Error> {
        let refused = |why: String| Error::Refused {
            what: self.summary(),
            why,
        };
        let failed = |cause: io::Error| Error::Capture {
            what: format!("look at {}", self.path),
            cause: cause.into(),
        };
        let mounted = Mounted::at(Path::new(&self.path)).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                refused("there is no such folder".to_owned())
            }
            io::ErrorKind::Unsupported => refused(cause.to_string()),
            _ => failed(cause),
        })?;
        if !mounted.is_root {
            return Err(refused("it is not a mount point".to_owned()));
        }
        let whole = !matches!(self.act, FilesystemAct::ReadOnly);
        if let Some(why) = untouchable(&mounted, whole, &place.state).map_err(failed)? {
            return Err(refused(why));
        }
        let folder = Folder::open(&mounted.line.point).map_err(failed)?;
        let act = begun_with(&self.act, &mounted, &folder, place, hands).map_err(failed)?;
        Ok(Undo {
            point: mounted.line.point.clone(),
            mount: mounted.id,
            superblock: mounted.line.superblock.clone(),
            root: folder.id(),
            boot_id: boot_id().map_err(failed)?,
            in_memory: folder.in_memory().map_err(failed)?,
            act: act.map_err(refused)?,
        })
    }

    fn load(&self, undo: &Undo, _: &mut Hands, permit: &Permit) -> Result<(), Error> {
        let ready = here(undo).and_then(|mounted| match &undo.act {
            // What a freeze writes first would otherwise hold the agent up at fire.
            Act::Freeze { .. } => mounted.flush(permit).map_err(|cause| cause.to_string()),
            Act::ReadOnly { .. } => Ok(()),
            Act::Fill { name } => fill::prepare(undo, name, permit),
        });
        ready.map_err(|why| Error::Refused {
            what: self.summary(),
            why,
        })
    }

    fn apply(&self, undo: &Undo, hands: &mut Hands, _: Gate, permit: &Permit) -> Result<(), Error> {
        let mounted = here(undo).map_err(|why| Error::NotApplied {
            what: self.summary(),
            why,
        })?;
        let made = match (&undo.act, &self.act) {
            (Act::Freeze { marker }, _) => freeze::make(&mounted, marker, permit),
            (Act::ReadOnly { marker }, _) => read_only::make(&mounted, marker, permit),
            (Act::Fill { name }, FilesystemAct::Fill { leave_bytes }) => {
                // A file of ours is the whole of it, so it can be taken back at once.
                return fill::make(undo, name, *leave_bytes, permit).map_err(|why| {
                    let back = Self::undo(undo, hands, permit);
                    taken_back(&self.summary(), why, back)
                });
            }
            (Act::Fill { .. }, _) => Err(Made::Nothing("its undo is of another kind".to_owned())),
        };
        made.map_err(|made| match made {
            Made::Nothing(why) => Error::NotApplied {
                what: self.summary(),
                why,
            },
            Made::Unknown(cause) => Error::Act {
                what: format!("see to it that {}", self.summary()),
                cause,
            },
        })
    }

    fn claims(undo: &Undo) -> Claims {
        let mut claims = Claims {
            alters: [format!("file system {}", undo.superblock)].into(),
            ..Claims::default()
        };
        match undo.act {
            Act::Fill { .. } => claims.writes_to.insert(undo.superblock.clone()),
            Act::Freeze { .. } | Act::ReadOnly { .. } => {
                claims.stops.insert(undo.superblock.clone())
            }
        };
        claims
    }

    fn undo(undo: &Undo, hands: &mut Hands, permit: &Permit) -> Result<Vec<String>, Error> {
        let (marker, act): (_, Way) = match &undo.act {
            Act::Freeze { marker } => (marker, freeze::undo),
            Act::ReadOnly { marker } => (marker, read_only::undo),
            Act::Fill { name } => return fill::undo(undo, name, permit),
        };
        match marker::found(undo, marker, hands)? {
            Some(_) => act(undo, permit),
            None => Ok(Vec::new()),
        }
    }

    fn survives_reboot(undo: &Undo) -> bool {
        matches!(undo.act, Act::Fill { .. }) && !undo.in_memory
    }

    fn needs_disk(_: &Undo) -> bool {
        true
    }

    /// A freeze that comes late is thawed by the next walk, for its marker is still there.
    fn may_go_ahead(undo: &Undo) -> bool {
        !matches!(undo.act, Act::Fill { .. })
    }

    fn tidy(undo: &Undo, hands: &mut Hands) {
        if let Act::Freeze { marker } | Act::ReadOnly { marker } = &undo.act
            && let Ok(Some(marker)) = marker::found(undo, marker, hands)
        {
            marker::end(&marker);
        }
    }
}

/// The way back of what a marker speaks of.
type Way = fn(&Undo, &Permit) -> Result<Vec<String>, Error>;

/// How an act that failed left things.
enum Made {
    Nothing(String),
    Unknown(Cause),
}

/// Whether the act can be made here, and what its undo will need.
fn begun_with(
    act: &FilesystemAct,
    mounted: &Mounted,
    folder: &Folder,
    place: &Place,
    hands: &mut Hands,
) -> io::Result<Result<Act, String>> {
    let room = mounted.room()?;
    if room.read_only {
        return Ok(Err("it is read-only already".to_owned()));
    }
    let (superblock, disks) = (&mounted.line.superblock, &mut hands.disks);
    let marker = marker::of(&place.state, &place.name());
    Ok(match act {
        FilesystemAct::Freeze => freeze::check(superblock)?
            .and_then(|()| disks.will_stop(superblock, &place.drill))
            .map(|()| Act::Freeze { marker }),
        FilesystemAct::ReadOnly => mounted
            .can_be_set()
            .map_err(|cause| format!("the kernel cannot set it alone (5.12 can): {cause}"))
            .and_then(|()| disks.will_stop(superblock, &place.drill))
            .map(|()| Act::ReadOnly { marker }),
        FilesystemAct::Fill { leave_bytes } => {
            let name = fill::name(&place.name());
            fill::check(folder, &name, room.free, *leave_bytes)
                .and_then(|()| disks.will_write(superblock, &place.drill))
                .map(|()| Act::Fill { name })
        }
    })
}

/// Why a file system may not be touched. A `whole` one is not altered by one mount alone: then it
/// counts what else lies on it.
fn untouchable(mounted: &Mounted, whole: bool, state: &Path) -> io::Result<Option<String>> {
    let root = Mounted::at(Path::new("/"))?;
    if mounted.id == root.id || whole && mounted.line.superblock == root.line.superblock {
        return Ok(Some("it is the root file system".to_owned()));
    }
    let state = existing(state);
    if Mounted::at(state)?.id == mounted.id {
        return Ok(Some("it holds the agent's state".to_owned()));
    }
    if !whole {
        return Ok(None);
    }
    for lies_on in lower(state)? {
        match lies_on {
            None => {
                let why = "what the agent's state lies on cannot be looked through (an overlay)";
                return Ok(Some(why.to_owned()));
            }
            Some(superblock) if superblock == mounted.line.superblock => {
                return Ok(Some("it holds the agent's state".to_owned()));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}

/// The state directory, or what is there of the path to it: it is made by the first journal.
fn existing(state: &Path) -> &Path {
    let there = state.ancestors().find(|path| path.is_dir());
    there.unwrap_or(Path::new("/"))
}

/// The very mount that was captured, at its place.
fn here(undo: &Undo) -> Result<Mounted, String> {
    let mounted = Mounted::at(&undo.point).map_err(|cause| cause.to_string())?;
    match mounted.id == undo.mount && mounted.line.superblock == undo.superblock {
        true => Ok(mounted),
        false => Err("another file system is mounted there since arm".to_owned()),
    }
}

fn back(undo: &Undo, what: &str, cause: impl Into<Cause>, now: &str, next: &'static str) -> Error {
    Error::Back {
        what: format!("{what} {}", undo.point.display()),
        cause: cause.into(),
        now: now.to_owned(),
        next,
    }
}
