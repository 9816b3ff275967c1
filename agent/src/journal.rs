//! The undo on disk before the change is in the kernel: one append-only file per drill.
//!
//! A line is: length of the JSON in bytes, CRC-32 of it in hex, the JSON, which names the line before
//! it. Every append is synced before it counts. The agent holds the file's lock (flock) as long as it
//! lives. docs/journal.md is the whole format.

mod contents;
pub mod record;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use contents::Contents;
pub use record::{Armed, FORMAT, Intent, Record};

use record::{Link, Told};

/// Closed journals that are kept for people to read.
const KEPT: usize = 16;
const EXTENSION: &str = "journal";
/// Of a journal whose first write is under way. No permit comes of it, and nobody reads it.
const UNFINISHED: &str = "part";
/// Write permission of anybody but the owner.
const OTHERS_WRITE: u32 = 0o022;
/// In such a folder nobody moves or deletes what belongs to others.
const STICKY: u32 = 0o1000;

/// Leave to write to the kernel: whoever holds one knows that the way back is on disk. Only this
/// module can make it, after the sync, or from a file that was read back.
pub struct Permit {
    _made_here: (),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what} {}: {cause}; nothing was altered by this", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    #[error("cannot write to {}: {cause}; it says what it said before", path.display())]
    Append { path: PathBuf, cause: io::Error },
    #[error("the journal of drill {0} is there already: a drill's id is used once; choose another")]
    Used(String),
    #[error(
        "{} can be written by others than this agent ({why}), so nobody could trust a journal in it; nothing \
         was altered; look who has been there, then chown it to this agent's user and chmod it to 0700", path.display()
    )]
    Exposed { path: PathBuf, why: String },
    #[error("{} is locked by a live agent or guardian, which alone may revert it", .0.display())]
    Locked(PathBuf),
}

/// The open journal of one drill, locked.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    length: u64,
    link: Link,
    corrupt: bool,
    told: Told,
    /// What must be done to the file before a line is written to it.
    tail: Tail,
}

/// How a file ends that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// What comes next begins a line.
    Whole,
    /// Behind so many bytes stands what a crash cut short.
    Torn(u64),
    /// The last line has no end.
    Open,
    /// Nothing says that it is a journal of ours.
    Foreign,
}

impl Tail {
    fn of(contents: &Contents, length: u64) -> Self {
        if contents.armed.is_none() && contents.intents.is_empty() {
            Self::Foreign
        } else if contents.torn {
            Self::Torn(contents.sound_length)
        } else if length > contents.sound_length {
            Self::Open
        } else {
            Self::Whole
        }
    }
}

impl Journal {
    /// Writes and syncs the first records of a drill: from here on its changes may be made.
    pub fn create(
        directory: &Path,
        armed: Armed,
        intents: &[Intent],
    ) -> Result<(Self, Permit), Error> {
        make_directory(directory)?;
        sweep(directory);
        forget_old(directory);
        let path = path_of(directory, &armed.drill);
        let part = path.with_extension(UNFINISHED);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let opened = options.open(&part);
        let file = opened.map_err(|cause| Error::File {
            what: "create",
            path: part.clone(),
            cause,
        })?;
        lock(&file, &part, Duration::ZERO)?;
        let mut journal = Self {
            file,
            path: part,
            length: 0,
            link: Link::default(),
            corrupt: false,
            told: Told::new(),
            tail: Tail::Whole,
        };
        let drill = armed.drill.clone();
        let intents = intents.iter().cloned().map(Record::Intent);
        let records: Vec<Record> = std::iter::once(Record::Armed(armed))
            .chain(intents)
            .collect();
        let part = journal.path.clone();
        let written = journal.write(&records).map_err(|cause| Error::File {
            what: "write",
            path: part,
            cause,
        });
        let named = written
            .and_then(|()| journal.take_name(path, &drill))
            .and_then(|()| sync_directory(directory));
        match named {
            Ok(()) => Ok((journal, Permit { _made_here: () })),
            Err(error) => {
                let _ = std::fs::remove_file(&journal.path); // else it would forbid every later drill
                Err(error)
            }
        }
    }

    /// From an unfinished one to one that whoever comes after a crash must walk.
    fn take_name(&mut self, path: PathBuf, drill: &str) -> Result<(), Error> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, &self.path, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.path = path;
                Ok(())
            }
            Err(rustix::io::Errno::EXIST) => Err(Error::Used(drill.to_owned())),
            Err(cause) => Err(Error::File {
                what: "name",
                path,
                cause: cause.into(),
            }),
        }
    }

    /// Takes over the journal of a drill whose agent is gone; waits up to `patience` for the lock.
    /// The permit is for undoing what the file says, which does not depend on a disk that can be
    /// written. A torn tail is cut off by the first write: no permit came of it.
    pub fn reopen(path: &Path, patience: Duration) -> Result<(Self, Contents, Permit), Error> {
        let error = |what, cause| Error::File {
            what,
            path: path.to_owned(),
            cause,
        };
        let opened = open_regular(path, OpenOptions::new().read(true).write(true));
        let opened = opened.or_else(|_| open_regular(path, OpenOptions::new().read(true)));
        let mut file = opened.map_err(|cause| error("open", cause))?;
        lock(&file, path, patience)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|cause| error("read", cause))?;
        let contents = Contents::of(path, &bytes);
        let length = bytes.len() as u64;
        let journal = Self {
            file,
            path: path.to_owned(),
            length,
            link: contents.link,
            corrupt: contents.corrupt,
            told: contents.told.clone(),
            tail: Tail::of(&contents, length),
        };
        Ok((journal, contents, Permit { _made_here: () }))
    }

    /// What is appended must begin a line. Not before something is: a disk that hangs holds up no undo.
    fn end_line(&mut self) -> io::Result<()> {
        match self.tail {
            Tail::Whole => return Ok(()),
            Tail::Foreign => return Err(io::Error::other("it is no journal of ours")),
            Tail::Torn(sound_length) => {
                self.file.set_len(sound_length)?;
                self.length = sound_length;
            }
            Tail::Open => {
                self.file.seek(SeekFrom::Start(self.length))?;
                self.file.write_all(b"\n")?;
                self.length += 1;
            }
        }
        self.tail = Tail::Whole;
        Ok(())
    }

    /// Whether it says too little to be closed ever.
    pub fn is_corrupt(&self) -> bool {
        self.corrupt
    }

    /// Appends one record; it is on disk when this returns. What it said last of an undo it does not say again:
    /// one that fails is tried for as long as it takes.
    pub fn append(&mut self, record: &Record) -> Result<(), Error> {
        let news = record.undo_told();
        if let Some((index, how)) = &news
            && self.told.get(index) == Some(how)
        {
            return Ok(());
        }
        self.write(std::slice::from_ref(record))
            .map_err(|cause| Error::Append {
                path: self.path.clone(),
                cause,
            })?;
        self.told.extend(news);
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        self.end_line()?;
        let mut link = self.link;
        let lines = link.encode(records);
        let mut attempt = || {
            self.file.seek(SeekFrom::Start(self.length))?;
            self.file.write_all(&lines)?;
            self.file.sync_all()
        };
        let cause = match attempt() {
            Ok(()) => {
                self.length += lines.len() as u64;
                self.link = link;
                return Ok(());
            }
            Err(cause) => cause,
        };
        // Half a line in the middle would make all that follows unreadable.
        let _ = self.file.set_len(self.length);
        Err(cause)
    }
}

/// What a journal says, and leave to undo it, without its lock: only for who has seen to it that its holder
/// never acts again.
pub fn read_ahead(path: &Path) -> Result<(Contents, Permit), Error> {
    Ok((read(path)?, Permit { _made_here: () }))
}

/// Whether nobody holds the lock of a journal: whoever held it has let go, or is dead.
pub fn is_free(path: &Path) -> bool {
    let opened = open_regular(path, OpenOptions::new().read(true));
    opened.is_ok_and(|file| file.try_lock().is_ok())
}

/// Reads a journal without its lock, as the guardian does while the agent lives.
pub fn read(path: &Path) -> Result<Contents, Error> {
    let mut bytes = Vec::new();
    let read = open_regular(path, OpenOptions::new().read(true))
        .and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|cause| Error::File {
        what: "read",
        path: path.to_owned(),
        cause,
    })?;
    Ok(Contents::of(path, &bytes))
}

/// Anything else under the name, such as a pipe, would hold up whoever opens it, and all ways back
/// behind it.
pub(crate) fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let unblocked = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = options.custom_flags(unblocked).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Where the journals of a state directory are.
pub fn directory(state: &Path) -> PathBuf {
    state.join("journal")
}

/// The file of one drill; `drill` must be a checked word.
pub fn path_of(directory: &Path, drill: &str) -> PathBuf {
    directory.join(format!("{drill}.{EXTENSION}"))
}

/// All journals of a directory, oldest name first; none if there is no directory yet.
pub fn all(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    with_extension(directory, EXTENSION)
}

/// Deletes what crashes have left of journals that had no name yet. One that is locked is being written.
pub fn sweep(directory: &Path) {
    for path in with_extension(directory, UNFINISHED).unwrap_or_default() {
        let file = open_regular(&path, OpenOptions::new().read(true));
        if file.is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = std::fs::remove_file(&path); // it says nothing and forbids nothing
        }
    }
}

fn with_extension(directory: &Path, wanted: &str) -> Result<Vec<PathBuf>, Error> {
    let error = |cause| Error::File {
        what: "list",
        path: directory.to_owned(),
        cause,
    };
    let entries = match std::fs::read_dir(directory) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(error)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(error)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == wanted)
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn make_directory(directory: &Path) -> Result<(), Error> {
    let error = |cause| Error::File {
        what: "make",
        path: directory.to_owned(),
        cause,
    };
    let missing = directory.ancestors().take_while(|folder| !folder.exists());
    let missing: Vec<&Path> = missing.collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(error)?;
    refuse_exposed(directory, 0)?;
    if let Some(parent) = directory.parent() {
        refuse_exposed(parent, STICKY)?;
        sync_directory(parent)?;
    }
    // The name of whatever is new stands in the folder above it.
    let above = missing.iter().filter_map(|folder| folder.parent());
    above.for_each(|folder| drop(sync(folder)));
    Ok(())
}

/// Whoever can put files there can take an undo away, or have the agent walk one of his own. Where a bit of
/// `unless` is set, only the folder's owner can.
fn refuse_exposed(directory: &Path, unless: u32) -> Result<(), Error> {
    let seen = directory.metadata().map_err(|cause| Error::File {
        what: "look at",
        path: directory.to_owned(),
        cause,
    })?;
    let (mode, owner) = (seen.mode() & 0o7777, seen.uid());
    let own = [0, rustix::process::geteuid().as_raw()].contains(&owner);
    let others_write = mode & OTHERS_WRITE != 0 && mode & unless == 0;
    let why = match (own, others_write) {
        (true, false) => return Ok(()),
        (false, _) => format!("it belongs to user {owner}"),
        (true, true) => format!("its mode is {mode:04o}"),
    };
    let path = directory.to_owned();
    Err(Error::Exposed { path, why })
}

fn sync_directory(directory: &Path) -> Result<(), Error> {
    sync(directory).map_err(|cause| Error::File {
        what: "sync",
        path: directory.to_owned(),
        cause,
    })
}

/// The entries of a directory are on disk when this returns.
pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn lock(file: &File, path: &Path, patience: Duration) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= patience => {
                return Err(Error::Locked(path.to_owned()));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::Error(cause)) => {
                return Err(Error::File {
                    what: "lock",
                    path: path.to_owned(),
                    cause,
                });
            }
        }
    }
}

/// Deletes all but the last closed, sound journals, so that there are not too many when the new one is
/// closed too. Whatever cannot be read stays.
fn forget_old(directory: &Path) {
    let Ok(paths) = all(directory) else { return };
    let mut closed: Vec<(_, PathBuf)> = paths
        .into_iter()
        .filter(|path| read(path).is_ok_and(|contents| contents.is_settled()))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    closed.sort();
    let excess = closed.len().saturating_sub(KEPT - 1);
    for (_, path) in closed.into_iter().take(excess) {
        if let Err(cause) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %cause, "cannot delete an old journal");
        }
    }
}

#[cfg(test)]
mod corruption;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
