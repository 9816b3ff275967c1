//! Control groups of both versions: one folder, pinned, and the files in it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::journal::Permit;

/// The inode of the one group that all others of a hierarchy are below (fs/kernfs counts from it).
const ROOT: u64 = 1;

/// A group that cannot be taken for a later one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// The inode of the highest group that was in sight at its path; none in old journals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    top: Option<u64>,
}

impl Folder {
    pub fn open(path: &Path) -> io::Result<Self> {
        let there = path.symlink_metadata()?;
        if !there.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        std::fs::metadata(path.join("cgroup.procs"))
            .map_err(|_| io::Error::other("it is no control group"))?;
        let mut group = Self {
            path: path.to_owned(),
            device: there.dev(),
            inode: there.ino(),
            top: None,
        };
        group.top = group.top_now().map(|(_, inode)| inode);
        Ok(group)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same for every path that leads to it.
    pub fn identity(&self) -> String {
        format!("control group {}:{}", self.device, self.inode)
    }

    /// Whether the group was removed. Only what the kernel says counts: who has no descriptors left, may not
    /// look, or sees less of its hierarchy than at arm (another mount, another cgroup namespace) has not seen
    /// that it is gone.
    pub fn is_gone(&self) -> bool {
        let told = self.handle().err();
        told.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound)
    }

    /// The group itself, so that nothing is read or written in one that has taken its name. One of v1 may have
    /// got another name. NotFound: it was removed.
    fn handle(&self) -> io::Result<OwnedFd> {
        let another = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        match self.handle_at(&self.path) {
            Err(cause) if another.contains(&cause.kind()) => {}
            told => return told,
        }
        let mut above = self.path.ancestors().skip(1);
        let nearest = above.find_map(|path| path.symlink_metadata().ok());
        let covered = nearest.is_none_or(|nearest| nearest.dev() != self.device);
        let Some((top, inode)) = self.top_now().filter(|_| !covered) else {
            return Err(out_of_sight("its hierarchy is not mounted there"));
        };
        if let Some(path) = self.renamed(top)? {
            return self.handle_at(&path);
        }
        match self.top.is_none_or(|then| inode == then) || inode == ROOT {
            true => Err(io::ErrorKind::NotFound.into()),
            false => Err(out_of_sight(
                "only another part of its hierarchy is seen here",
            )),
        }
    }

    /// The highest group of its hierarchy at its path, and the inode of that.
    fn top_now(&self) -> Option<(&Path, u64)> {
        let of_it = |path: &&Path| {
            let there = path.join("cgroup.procs").metadata();
            there.is_ok_and(|there| there.dev() == self.device)
        };
        let top = self.path.ancestors().filter(of_it).last()?;
        Some((top, top.metadata().ok()?.ino()))
    }

    fn handle_at(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        let seen = rustix::fs::fstat(&folder)?;
        match (seen.st_dev, seen.st_ino) == (self.device, self.inode) {
            true => Ok(folder),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Where it is now below `top`, if it or one above it was renamed.
    fn renamed(&self, top: &Path) -> io::Result<Option<PathBuf>> {
        let mut open = vec![top.to_owned()];
        while let Some(folder) = open.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Err(cause) if was_removed(&cause) => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = match entry {
                    Err(cause) if was_removed(&cause) => break,
                    entry => entry?,
                };
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if entry.ino() == self.inode && self.handle_at(&entry.path()).is_ok() {
                    return Ok(Some(entry.path()));
                }
                open.push(entry.path());
            }
        }
        Ok(None)
    }

    fn file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let file = rustix::fs::openat(self.handle()?, name, flags | OFlags::CLOEXEC, Mode::empty());
        Ok(file?.into())
    }

    pub fn has(&self, file: &str) -> bool {
        let found = |folder| rustix::fs::accessat(folder, file, Access::EXISTS, AtFlags::empty());
        self.handle().is_ok_and(|folder| found(folder).is_ok())
    }

    /// Without the line end.
    pub fn read(&self, file: &str) -> io::Result<String> {
        let mut text = String::new();
        self.file(file, OFlags::RDONLY)?.read_to_string(&mut text)?;
        Ok(text.trim_end().to_owned())
    }

    /// In one system call, which the kernel takes whole or not at all.
    pub fn write(&self, file: &str, value: &str, _: &Permit) -> io::Result<()> {
        self.file(file, OFlags::WRONLY)?.write_all(value.as_bytes())
    }

    /// Every process in the group and below it.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        let root = self.handle()?;
        let root = (
            PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd())),
            root,
        );
        let mut open = vec![root.0.clone()];
        let mut pids = Vec::new();
        while let Some(folder) = open.pop() {
            let procs = match std::fs::read_to_string(folder.join("cgroup.procs")) {
                Ok(procs) => procs,
                Err(cause) if folder != root.0 && was_removed(&cause) => continue,
                Err(cause) => return Err(cause),
            };
            pids.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
            let entries = match std::fs::read_dir(&folder) {
                Err(cause) if folder != root.0 && was_removed(&cause) => continue,
                entries => entries?.collect::<io::Result<Vec<_>>>()?,
            };
            let folders = entries
                .into_iter()
                .filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
            open.extend(folders.map(|entry| entry.path()));
        }
        Ok(pids)
    }
}

fn out_of_sight(why: &str) -> io::Error {
    io::Error::other(format!(
        "it is not in sight: {why}; run `cellwall-agent revert --all` where the whole hierarchy is mounted as \
         at arm (on the machine itself: nsenter --target 1 --mount --cgroup)"
    ))
}

/// What a group gives that was removed after it was seen: ENOENT, and ENODEV by its open files.
fn was_removed(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::NotFound
        || cause.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_the_same_name_is_another_one() {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("hierarchy");
        let path = root.join("g");
        let group = |path: &Path| {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("cgroup.procs"), "").unwrap();
        };
        let make = || group(&path);
        group(&root);
        make();
        let folder = Folder::open(&path).unwrap();
        assert!(!folder.is_gone() && folder.members().unwrap().is_empty());
        let old = root.join("old");
        std::fs::rename(&path, &old).unwrap();
        assert!(!folder.is_gone() && folder.members().unwrap().is_empty());
        make();
        std::fs::write(path.join("cgroup.procs"), "7").unwrap();
        assert!(folder.members().unwrap().is_empty(), "that of the old name");
        std::fs::remove_dir_all(old).unwrap();
        assert!(folder.is_gone(), "another inode");
        // One above it gets another name, and somebody makes one of the old name.
        let above = root.join("above");
        let inner = above.join("g");
        group(&above);
        group(&inner);
        let inner = Folder::open(&inner).unwrap();
        std::fs::rename(&above, root.join("above-2")).unwrap();
        group(&above);
        assert!(!inner.is_gone() && inner.has("cgroup.procs"));
        assert!(Folder::open(top.path()).is_err(), "no control group");
    }
}
