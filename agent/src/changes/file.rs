//! One regular file with other content, another mode, cut short, or gone; and back, to the inode.
//!
//! The original is never copied back: whatever takes its place, its inode stays in the same folder
//! under our name (`.cellwall_DRILL_STEP_INDEX`, the *sidecar*) and takes its own name again. The
//! same name with `.part` is what arming made ready and no program reads; it is ours alone and may
//! be deleted at any time. A file that somebody else wrote meanwhile is never overwritten, and an
//! original never deleted: then both stay and a person decides.
//!
//! Owner, mode, times, attributes and links come back as they were; not the time of the last change
//! of the inode (ctime), which no one can set, nor the folder's own times: its entries did change,
//! and whoever keeps a listing of it must see that.

mod away;
mod find;
mod mode;
mod replace;
mod settle;
#[cfg(test)]
mod tests;
mod truncate;

use std::path::{Path, PathBuf};

use scenarios::change::{FileAct, FileChange};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::filesystem::Disks;
use super::{Error, Hands, OURS, Place, Reversible};
use crate::boottime::boot_id;
use crate::hex;
use crate::journal::{self, Permit};
use crate::kernel::files::{self, Entry, Facts, Folder, Handle, Inode, Time};
use crate::kernel::filesystem;
use crate::kernel::nft::Gate;
use crate::neighbours::{self, Claims};

use settle::Looked;

/// A content up to this size has its digest taken, to be compared with when it is back.
const DIGEST_MOST: u64 = 16 << 20;
/// Besides the bytes themselves: what the disk's own bookkeeping may take.
const ROOM_LEAST: u64 = 64 << 10;

/// The file as it was, where it is kept, and what was done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// As the change names it.
    pub path: String,
    /// Without symbolic links: a link that is turned meanwhile leads nobody astray.
    pub folder: PathBuf,
    pub folder_id: Inode,
    /// By which the folder is found wherever it is moved, and known to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<Handle>,
    /// What the folder is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<Box<Inode>>,
    pub name: String,
    pub sidecar: String,
    /// A device's number holds for one boot only.
    pub boot_id: String,
    /// On a file system that ends with the machine.
    pub in_memory: bool,
    pub original: Box<Original>,
    pub act: Act,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Original {
    pub id: Inode,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub modified: Time,
    /// Of its content, if it is small and the act touches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// `security.capability` in hex, which the kernel drops with a write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// What stands in its place: size and digest.
    Replace {
        bytes: u64,
        sha256: String,
    },
    MoveAway,
    Chmod {
        mode: u32,
    },
    Truncate {
        bytes: u64,
    },
}

impl Undo {
    /// What is made ready at arm.
    fn part(&self) -> String {
        format!("{}.part", self.sidecar)
    }

    fn kept_at(&self) -> String {
        self.folder.join(&self.sidecar).display().to_string()
    }

    fn same_boot(&self) -> bool {
        boot_id().is_ok_and(|now| now == self.boot_id)
    }

    /// Whether these are the facts of `then`, as far as they can be known now.
    fn is(&self, now: Inode, then: Inode) -> bool {
        now.may_be(then) && (now.device == then.device || !self.same_boot())
    }

    fn is_original(&self, entry: &Entry) -> bool {
        entry.facts.regular && self.is(entry.facts.id, self.original.id)
    }

    /// Whether nobody wrote to it since it was captured.
    fn is_untouched(&self, facts: &Facts) -> bool {
        let then = &self.original;
        self.is(facts.id, then.id) && facts.size == then.size && facts.modified == then.modified
    }
}

impl Reversible for FileChange {
    type Undo = Undo;

    fn capture(&self, hands: &mut Hands, place: &Place) -> Result<Undo, Error> {
        captured(self, &mut hands.disks, place)
    }

    fn load(&self, undo: &Undo, _: &mut Hands, permit: &Permit) -> Result<(), Error> {
        loaded(self, undo, permit)
    }

    fn apply(&self, undo: &Undo, _: &mut Hands, _: Gate, permit: &Permit) -> Result<(), Error> {
        applied(self, undo, permit)
    }

    fn claims(undo: &Undo) -> Claims {
        let Inode { device, inode, .. } = undo.original.id;
        let by_whatever_name = format!("the file with inode {inode} of device {device}");
        let path = undo.folder.join(&undo.name).display().to_string();
        Claims {
            alters: [path, by_whatever_name].into(),
            writes_to: [filesystem::superblock(undo.folder_id.device)].into(),
            ..Claims::default()
        }
    }

    fn undo(undo: &Undo, _: &mut Hands, permit: &Permit) -> Result<Vec<String>, Error> {
        undone(undo, permit)
    }

    fn survives_reboot(undo: &Undo) -> bool {
        !undo.in_memory
    }

    fn needs_disk(_: &Undo) -> bool {
        true
    }

    fn may_go_ahead(_: &Undo) -> bool {
        false
    }
}

fn captured(change: &FileChange, disks: &mut Disks, place: &Place) -> Result<Undo, Error> {
    let refused = |why: String| Error::Refused {
        what: change.summary(),
        why,
    };
    let failed = |cause: std::io::Error| Error::Capture {
        what: format!("look at {}", change.path),
        cause: cause.into(),
    };
    let (parent, name) = split(&change.path).map_err(|why| refused(why.to_owned()))?;
    let folder = Folder::open(parent).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => refused(format!("there is no {}", parent.display())),
        _ => failed(cause),
    })?;
    if holds_state(&folder, &place.state).map_err(failed)? {
        return Err(refused("it belongs to the agent's own state".to_owned()));
    }
    let entry = folder.find(name).map_err(failed)?;
    let entry = entry.ok_or_else(|| refused("it is not there".to_owned()))?;
    if is_own_program(&entry).map_err(failed)? {
        let why = "it is this agent's own program, which must be able to start again";
        return Err(refused(why.to_owned()));
    }
    let room = folder.room().map_err(failed)?;
    fit_to_alter(&entry.facts, room.read_only).map_err(|why| refused(why.to_owned()))?;
    if entry.is_of_the_kernel().map_err(failed)? {
        let why = "it is a value of the kernel and no file";
        return Err(refused(why.to_owned()));
    }
    let undo = Undo {
        path: change.path.clone(),
        folder: folder.path().to_owned(),
        folder_id: folder.id(),
        handle: folder.handle().map_err(failed)?,
        parent_id: find::parent_of(folder.path())
            .map_err(failed)?
            .map(Box::new),
        name: name.to_owned(),
        sidecar: format!(".{}", place.name()),
        boot_id: boot_id().map_err(failed)?,
        in_memory: folder.in_memory().map_err(failed)?,
        original: Box::new(original(&entry, &change.act).map_err(failed)?),
        act: act(&change.act),
    };
    if let Some(taken) = taken(&folder, &undo).map_err(failed)? {
        return Err(Error::Taken(taken.display().to_string()));
    }
    if let Some(why) = abandoned(&folder).map_err(failed)? {
        return Err(refused(why));
    }
    needs(&undo.act, &entry.facts, room.free).map_err(refused)?;
    let superblock = filesystem::superblock_of(folder.fd()).map_err(failed)?;
    disks
        .will_write(&superblock, &place.drill)
        .map_err(refused)?;
    Ok(undo)
}

/// What has one of our names already.
fn taken(folder: &Folder, undo: &Undo) -> std::io::Result<Option<PathBuf>> {
    for name in [&undo.sidecar, &undo.part()] {
        if folder.find(name)?.is_some() {
            return Ok(Some(folder.path().join(name)));
        }
    }
    Ok(None)
}

/// What a drill that nobody holds any more keeps of some file in here: this file may be what it made.
fn abandoned(folder: &Folder) -> std::io::Result<Option<String>> {
    let ours = format!(".{OURS}");
    let kept = folder.names(&ours)?.into_iter();
    // Of a part no program has met anything yet.
    let kept: Vec<String> = kept.filter(|name| !name.ends_with(".part")).collect();
    if kept.is_empty() {
        return Ok(None);
    }
    let held = neighbours::open_drills();
    let drill = |name: &str| {
        let rest = name.strip_prefix(&ours).unwrap_or_default();
        rest.split('_').next().unwrap_or_default().to_owned()
    };
    let lost = kept.into_iter().find(|name| !held.contains(&drill(name)));
    Ok(lost.map(|name| {
        format!(
            "{} beside it is of drill {}, which no agent here holds, so that this may be what that drill has \
             made of a file; run `cellwall-agent revert --all` with the state directory of that drill first",
            folder.path().join(&name).display(),
            drill(&name)
        )
    }))
}

fn loaded(change: &FileChange, undo: &Undo, permit: &Permit) -> Result<(), Error> {
    let made = match &change.act {
        FileAct::Replace { content } => replace::prepare(undo, content, permit),
        FileAct::Truncate { .. } => truncate::prepare(undo, permit),
        FileAct::MoveAway | FileAct::Chmod { .. } => Ok(()),
    };
    made.map_err(|why| Error::Refused {
        what: change.summary(),
        why,
    })
}

fn applied(change: &FileChange, undo: &Undo, permit: &Permit) -> Result<(), Error> {
    let made = match &undo.act {
        Act::Replace { .. } => replace::make(undo, permit),
        Act::MoveAway => away::make(undo, permit),
        Act::Chmod { mode } => mode::make(undo, *mode, permit),
        Act::Truncate { bytes } => truncate::make(undo, *bytes, permit),
    };
    // Whatever was made of it is taken away here, so that its undo is not owed.
    made.map_err(|why| taken_back(&change.summary(), why, undone(undo, permit)))
}

fn undone(undo: &Undo, permit: &Permit) -> Result<Vec<String>, Error> {
    let place = match find::folder(undo)? {
        find::Found::Here(place) => *place,
        find::Found::Gone(drifted) => return Ok(vec![drifted]),
    };
    let looked = Looked::new(&place.undo, place.folder);
    let mut drifted = match &place.undo.act {
        Act::Replace { bytes, sha256 } => {
            let ours = replace::Ours {
                bytes: *bytes,
                sha256,
            };
            replace::undo(&looked, &ours, permit)
        }
        Act::MoveAway => away::undo(&looked, permit),
        Act::Chmod { mode } => mode::undo(&looked, *mode, permit),
        Act::Truncate { bytes } => truncate::undo(&looked, *bytes, permit),
    }?;
    drifted.extend(place.moved);
    Ok(drifted)
}

/// What an act that failed has come to, when it was undone at once.
pub(super) fn taken_back(what: &str, why: String, back: Result<Vec<String>, Error>) -> Error {
    match back {
        Ok(_) => Error::NotApplied {
            what: what.to_owned(),
            why,
        },
        Err(error) => Error::Act {
            what: format!("see to it that {what}"),
            cause: format!("{why}, and then: {error}").into(),
        },
    }
}

/// Folder and name.
fn split(path: &str) -> Result<(&Path, &str), &'static str> {
    let whole = Path::new(path);
    let plain = whole.is_absolute() && !path.ends_with('/');
    let parts = whole
        .parent()
        .zip(whole.file_name().and_then(|name| name.to_str()));
    let (folder, name) = parts
        .filter(|_| plain)
        .ok_or("it is not the absolute path of a file")?;
    if name.strip_prefix('.').unwrap_or(name).starts_with(OURS) {
        return Err("cellwall made it itself");
    }
    Ok((folder, name))
}

fn is_own_program(entry: &Entry) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata("/proc/self/exe")?;
    let Inode { device, inode, .. } = entry.facts.id;
    Ok((own.dev(), own.ino()) == (device, inode))
}

fn fit_to_alter(facts: &Facts, read_only: bool) -> Result<(), &'static str> {
    if !facts.regular {
        return Err("it is not a regular file (a link is not followed)");
    }
    if facts.locked {
        return Err("it is immutable or append-only (lsattr)");
    }
    if read_only {
        return Err("its file system is read-only");
    }
    Ok(())
}

/// Whether the folder is the agent's state, or in it; also by another path (a bind mount).
fn holds_state(folder: &Folder, journals: &Path) -> std::io::Result<bool> {
    let above = journals.parent();
    let state = above.filter(|state| journal::directory(state) == journals);
    let state = [Some(journals), state].into_iter().flatten();
    let mut protected = Vec::new();
    for path in state {
        match Folder::open(path) {
            Ok(state) => protected.push(state.id()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for above in folder.path().ancestors() {
        if protected.contains(&Folder::open(above)?.id()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn original(entry: &Entry, act: &FileAct) -> std::io::Result<Original> {
    let mut original = Original {
        id: entry.facts.id,
        mode: entry.facts.mode,
        uid: entry.facts.uid,
        gid: entry.facts.gid,
        size: entry.facts.size,
        modified: entry.facts.modified,
        sha256: None,
        capability: None,
    };
    if let FileAct::Truncate { .. } = act {
        let file = entry.read()?;
        if original.size <= DIGEST_MOST {
            original.sha256 = Some(files::sha256_of(&file)?);
        }
        original.capability = files::capability(&file)?.map(|bytes| hex::encode(&bytes));
    }
    Ok(original)
}

fn act(act: &FileAct) -> Act {
    match act {
        FileAct::Replace { content } => Act::Replace {
            bytes: content.len() as u64,
            sha256: hex::encode(&Sha256::digest(content)),
        },
        FileAct::MoveAway => Act::MoveAway,
        FileAct::Chmod { mode } => Act::Chmod { mode: *mode },
        FileAct::Truncate { bytes } => Act::Truncate { bytes: *bytes },
    }
}

/// Whether the act would do something here that can be undone.
fn needs(act: &Act, now: &Facts, free: u64) -> Result<(), String> {
    let room = match act {
        Act::Replace { bytes, .. } => *bytes,
        Act::Truncate { bytes } => truncate::tail(now.size, *bytes)?,
        Act::Chmod { mode } if *mode > 0o7777 => {
            return Err(format!("{mode:o} is no mode: 0 to 7777 are"));
        }
        Act::Chmod { mode } if *mode == now.mode => {
            return Err("it has this mode already".to_owned());
        }
        Act::Chmod { .. } | Act::MoveAway => return Ok(()),
    };
    let room = room.saturating_add(ROOM_LEAST);
    if free < room {
        return Err(format!(
            "its file system has {free} free bytes, and {room} are needed"
        ));
    }
    Ok(())
}
