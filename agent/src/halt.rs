//! The halt of one agent: while it is in force nothing is armed, and whatever was held is reverted.
//!
//! It is a file in the state directory, so that it needs no network, no daemon and no policy to set
//! (`touch /var/lib/cellwall/halt`) and outlives restarts and reboots. What the file says is the
//! reason, for people; that it is there is what counts.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::journal::sync;

const FILE: &str = "halt";
/// More of a reason is not shown, in bytes.
const REASON_MOST: u64 = 512;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cannot write {}: {cause}; this agent is halted until it ends, and not after that",
        path.display()
    )]
    Write { path: PathBuf, cause: io::Error },
    #[error("cannot delete {}: {cause}; this agent stays halted", path.display())]
    Delete { path: PathBuf, cause: io::Error },
    #[error(
        "this agent is resumed, but {} cannot be synced: {cause}; after a power cut it may be \
         halted again",
        directory.display()
    )]
    NotSynced {
        directory: PathBuf,
        cause: io::Error,
    },
}

/// Shared by everyone in this process who must know of it.
#[derive(Clone, Debug)]
pub struct Halt {
    file: PathBuf,
    /// The reason of a halt that was asked for over the wire: it holds without the disk too.
    memory: Arc<Mutex<Option<String>>>,
}

impl Halt {
    /// Of the agent with this state directory.
    pub fn of(state: &Path) -> Self {
        Self {
            file: state.join(FILE),
            memory: Arc::default(),
        }
    }

    /// Of the agent that keeps this journal.
    pub fn beside(journal: &Path) -> Self {
        let state = journal.parent().and_then(Path::parent);
        Self::of(state.unwrap_or(Path::new(".")))
    }

    /// Why nothing may be held, if so. What cannot be looked at counts as a halt.
    pub fn reason(&self) -> Option<String> {
        match std::fs::symlink_metadata(&self.file) {
            Ok(metadata) => Some(self.read(&metadata)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => self.memory().clone(),
            Err(cause) => Some(format!("cannot look for {}: {cause}", self.file.display())),
        }
    }

    /// Whether the file was seen; what cannot be looked at was not.
    pub fn file_is_there(&self) -> bool {
        std::fs::symlink_metadata(&self.file).is_ok()
    }

    /// The refusal of a halted agent.
    pub fn refusal(&self) -> Option<String> {
        self.reason().map(|reason| {
            format!(
                "this agent is halted ({reason}): it takes no drill while {} is there; `cellwall \
                 resume` or deleting that file ends the halt",
                self.file.display()
            )
        })
    }

    /// In force at once, in this process.
    pub fn remember(&self, reason: &str) {
        *self.memory() = Some(reason.to_owned());
    }

    /// On disk when this returns. A file that is there already stays as it is.
    pub fn write(&self, reason: &str) -> Result<(), Error> {
        let directory = self.directory();
        let attempt = || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600);
            match file.open(&self.file) {
                Ok(mut file) => {
                    // Without room for its reason it is a halt all the same.
                    let _ = writeln!(file, "{reason}");
                    file.sync_all()?;
                }
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(cause),
            }
            sync(directory)
        };
        attempt().map_err(|cause| Error::Write {
            path: self.file.clone(),
            cause,
        })
    }

    /// Ends the halt; the answer is what it was for.
    pub fn lift(&self) -> Result<Option<String>, Error> {
        let reason = self.reason();
        match std::fs::remove_file(&self.file) {
            Ok(()) => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => {
                return Err(Error::Delete {
                    path: self.file.clone(),
                    cause,
                });
            }
        }
        *self.memory() = None;
        match sync(self.directory()) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(Error::NotSynced {
                directory: self.directory().to_owned(),
                cause,
            }),
            _ => Ok(reason),
        }
    }

    fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One line of what the file says. Anything but a plain file is not opened: it might block.
    fn read(&self, metadata: &Metadata) -> String {
        let mut bytes = Vec::new();
        if metadata.is_file() {
            let opened = File::open(&self.file);
            let _ = opened.and_then(|file| file.take(REASON_MOST).read_to_end(&mut bytes));
        }
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().next().unwrap_or_default();
        let plain: String = line.chars().filter(|c| !c.is_control()).collect();
        match plain.trim() {
            "" => "no reason given".to_owned(),
            reason => reason.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halt() -> (tempfile::TempDir, Halt) {
        let state = tempfile::tempdir().unwrap();
        let halt = Halt::of(state.path());
        (state, halt)
    }

    #[test]
    fn the_file_alone_halts_and_its_first_line_is_the_reason() {
        let (state, halt) = halt();
        assert_eq!(halt.reason(), None);
        assert_eq!(halt.refusal(), None);
        for (text, reason) in [
            ("", "no reason given"),
            ("  \n", "no reason given"),
            ("release\u{1b}[2J freeze\nmore", "release[2J freeze"),
        ] {
            std::fs::write(state.path().join(FILE), text).unwrap();
            assert_eq!(halt.reason().as_deref(), Some(reason), "{text:?}");
        }
        let refusal = halt.refusal().unwrap();
        assert!(refusal.contains("cellwall resume"), "{refusal}");
        assert!(refusal.contains(state.path().to_str().unwrap()));
    }

    #[test]
    fn whatever_stands_there_halts_and_is_not_waited_for() {
        let (state, halt) = halt();
        let path = state.path().join(FILE);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(halt.reason().is_some(), "a pipe that nobody writes into");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/nowhere", &path).unwrap();
        assert!(halt.reason().is_some() && halt.file_is_there());
    }

    #[test]
    fn what_cannot_be_looked_at_is_a_halt() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let halt = Halt::of(file.path()); // its state directory is a file
        let reason = halt.reason().unwrap();
        assert!(reason.contains("cannot look"), "{reason}");
        assert!(!halt.file_is_there());
    }

    #[test]
    fn it_outlives_the_process_and_ends_when_lifted() {
        let (state, halt) = halt();
        halt.remember("ops");
        halt.write("ops").unwrap();
        halt.write("again").unwrap();
        let other = Halt::of(state.path());
        assert_eq!(
            other.reason().as_deref(),
            Some("ops"),
            "the first one stays"
        );
        assert_eq!(halt.lift().unwrap().as_deref(), Some("ops"));
        assert_eq!((halt.reason(), other.reason()), (None, None));
        assert_eq!(halt.lift().unwrap(), None, "lifted twice");
    }

    #[test]
    fn without_a_disk_it_holds_in_memory_and_says_so() {
        let halt = Halt::of(Path::new("/proc/cellwall")); // nothing can be made there
        assert_eq!(halt.reason(), None);
        halt.remember("ops");
        let error = halt.write("ops").unwrap_err().to_string();
        assert!(
            error.contains("cannot write /proc/cellwall/halt"),
            "{error}"
        );
        assert_eq!(halt.clone().reason().as_deref(), Some("ops"));
        assert_eq!(halt.lift().unwrap().as_deref(), Some("ops"));
        assert_eq!(halt.reason(), None);
    }

    #[test]
    fn a_guardian_finds_it_from_its_journal() {
        let (state, halt) = halt();
        let journal = crate::journal::path_of(&crate::journal::directory(state.path()), "d");
        assert_eq!(Halt::beside(&journal).file, halt.file);
    }
}
