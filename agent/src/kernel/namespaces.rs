//! Network namespaces of others, entered by short-lived threads only.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

/// What names a network namespace as long as anything holds it: its file in nsfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceId {
    pub device: u64,
    pub inode: u64,
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "netns {}", self.inode)
    }
}

/// An open namespace: it lives at least as long as this.
#[derive(Debug)]
pub struct Namespace {
    pub id: NamespaceId,
    file: File,
}

impl Namespace {
    /// Of a file such as `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let id = NamespaceId {
            device: metadata.dev(),
            inode: metadata.ino(),
        };
        Ok(Self { id, file })
    }

    /// The one of the calling thread.
    pub fn own() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// A second hold on the same namespace.
    pub fn again(&self) -> io::Result<Self> {
        let file = self.file.try_clone()?;
        Ok(Self { id: self.id, file })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Runs something on a thread of its own that has entered the namespace; sockets that it opens
    /// stay in there wherever they are used.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_a_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(job())
        })
    }
}

/// Runs something in a new, empty network namespace, which is gone with the last socket of it.
pub fn scratch<T: Send>(job: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(job())
    })
}

fn on_a_thread<T: Send>(job: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, job)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}
