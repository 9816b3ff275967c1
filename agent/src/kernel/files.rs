//! Regular files by their folder's descriptor: looked at without a trace, altered a call at a time.
//!
//! No path is walked twice: a folder is opened once, a file by its name in it without following a
//! link, and its content by `/proc/self/fd` of exactly what was looked at. Looking never moves an
//! access time (O_NOATIME), never waits for a lease holder or a pipe (O_NONBLOCK).

mod attributes;
mod content;
#[cfg(test)]
pub mod crash;
mod handle;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, StatVfsMountFlags, StatxAttributes, StatxFlags,
};
use serde::{Deserialize, Serialize};

use crate::journal::Permit;

pub use attributes::{
    capability, copy_attributes, restore_capability, set_mode, set_modified, set_owner,
};
pub use content::{
    Reach, add_tail, compare_tail, copy_tail, reserve, sha256_of, shorten, write_all,
};

pub use handle::Handle;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h and fs/ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// File systems whose inodes keep the time at which they were made, of linux/magic.h: ext2 to ext4, xfs, btrfs,
/// f2fs, tmpfs.
const KEEP_BIRTH: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// File systems whose files are the kernel's own values, of linux/magic.h: proc, sysfs, cgroup, cgroup2,
/// debugfs, tracefs, securityfs, configfs, bpf, pstore, efivarfs, selinuxfs, smackfs, binfmt_misc, nsfs.
const OF_THE_KERNEL: [u64; 15] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x6265_6570,
    0xcafe_4a11,
    0x6165_676c,
    0xde5e_81e4,
    0xf97c_ff8c,
    0x4341_5d53,
    0x4249_4e4d,
    0x6e73_6673,
];

/// What names an inode: as long as its file system is mounted, and, where that keeps the time at which an inode
/// was made, for ever. Devices and inodes get the numbers of earlier ones.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inode {
    /// `st_dev`: may be another one after a reboot.
    pub device: u64,
    pub inode: u64,
    /// `stx_btime`; none: not known, or not to be trusted (an overlay shows that of what lies below).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<Time>,
}

impl Inode {
    /// Whether it may be the same on a device that has another number now.
    pub fn may_be(self, other: Self) -> bool {
        let born_alike = match (self.born, other.born) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        self.inode == other.inode && born_alike
    }
}

impl PartialEq for Inode {
    fn eq(&self, other: &Self) -> bool {
        self.device == other.device && self.may_be(*other)
    }
}

impl Eq for Inode {}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    pub seconds: i64,
    pub nanos: u32,
}

/// What the inode says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub id: Inode,
    pub regular: bool,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub modified: Time,
    /// `chattr +i` or `+a`: the kernel refuses to alter it.
    pub locked: bool,
}

/// A folder that is held open, so that no rename above it leads elsewhere.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    id: Inode,
}

/// What a folder's handle leads to.
pub enum Lead {
    To(Folder),
    /// It was deleted.
    Nowhere,
    /// Its file system cannot say, or this process may not ask.
    Unknown,
}

/// A file of a folder, held by inode and not opened.
#[derive(Debug)]
pub struct Entry {
    fd: OwnedFd,
    pub facts: Facts,
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// What whoever is not root may still use.
    pub free: u64,
    pub read_only: bool,
}

impl Folder {
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self::of(rustix::fs::open(path, flags, Mode::empty())?)
    }

    fn of(fd: OwnedFd) -> io::Result<Self> {
        let id = facts(&fd)?.id;
        Ok(Self {
            path: std::fs::read_link(link_of(&fd))?,
            fd,
            id,
        })
    }

    /// By which it is found again wherever it is moved; none: its file system has no such thing.
    pub fn handle(&self) -> io::Result<Option<Handle>> {
        handle::of(&self.fd)
    }

    /// The folder of this handle, on the same file system.
    pub fn by_handle(&self, handle: &Handle) -> io::Result<Lead> {
        let on = match self.open_to_read() {
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Lead::Unknown);
            }
            opened => opened?,
        };
        Ok(match handle::open(on, handle)? {
            handle::Lead::To(fd) => Lead::To(Self::of(fd)?),
            handle::Lead::Nowhere => Lead::Nowhere,
            handle::Lead::Unknown => Lead::Unknown,
        })
    }

    /// Whether it is on the file system of this handle.
    pub fn is_beside(&self, handle: &Handle) -> io::Result<bool> {
        handle.is_on(&self.fd)
    }

    fn open_to_read(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOATIME;
        Ok(rustix::fs::openat(&self.fd, ".", flags, Mode::empty())?)
    }

    /// Its real path, without symbolic links, when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn id(&self) -> Inode {
        self.id
    }

    /// For asking what it is mounted from.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The file of this name; none if there is none.
    pub fn find(&self, name: &str) -> io::Result<Option<Entry>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Entry {
                facts: facts(&fd)?,
                fd,
            })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn room(&self) -> io::Result<Room> {
        room(&self.fd)
    }

    /// Whether its files live in memory only, and so end with the machine.
    pub fn in_memory(&self) -> io::Result<bool> {
        Ok(IN_MEMORY.contains(&kind(&self.fd)?))
    }

    /// The file of this inode, whatever its name in here is; none if it is not in here.
    pub fn find_inode(&self, wanted: impl Fn(&Entry) -> bool) -> io::Result<Option<Entry>> {
        for entry in std::fs::read_dir(link_of(&self.fd))? {
            let entry = entry?;
            if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue; // a folder may be a mount whose server does not answer
            }
            let name = entry.file_name();
            let found = name.to_str().map(|name| self.find(name)).transpose()?;
            if let Some(entry) = found.flatten().filter(&wanted) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The names of all that is right in here and begins so.
    pub fn names(&self, beginning: &str) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(link_of(&self.fd))? {
            let name = entry?.file_name();
            let name = name.to_str().filter(|name| name.starts_with(beginning));
            found.extend(name.map(str::to_owned));
        }
        Ok(found)
    }

    /// Whether a folder of this inode is right in here, under whatever name.
    pub fn holds_folder(&self, wanted: Inode) -> io::Result<bool> {
        use std::os::unix::fs::DirEntryExt;
        for entry in std::fs::read_dir(link_of(&self.fd))? {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.ino() == wanted.inode {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A new, empty file that only root may read.
    pub fn create(&self, name: &str, _: &Permit) -> io::Result<File> {
        crash_point();
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::NOATIME;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(File::from(rustix::fs::openat(&self.fd, name, flags, mode)?))
    }

    /// Gives a file another name in the same folder; fails with EEXIST rather than replace another.
    pub fn rename_new(&self, from: &str, to: &str, _: &Permit) -> io::Result<()> {
        crash_point();
        let flags = RenameFlags::NOREPLACE;
        Ok(rustix::fs::renameat_with(
            &self.fd, from, &self.fd, to, flags,
        )?)
    }

    /// Each of two files takes the other's name, in one instant (RENAME_EXCHANGE of renameat2(2)).
    pub fn exchange(&self, one: &str, other: &str, _: &Permit) -> io::Result<()> {
        crash_point();
        let flags = RenameFlags::EXCHANGE;
        Ok(rustix::fs::renameat_with(
            &self.fd, one, &self.fd, other, flags,
        )?)
    }

    /// Takes a name away; that it is gone already is no error.
    pub fn unlink(&self, name: &str, _: &Permit) -> io::Result<()> {
        crash_point();
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Its names are on disk when this returns.
    pub fn sync(&self, _: &Permit) -> io::Result<()> {
        crash_point();
        Ok(rustix::fs::fsync(self.open_to_read()?)?)
    }
}

impl Entry {
    pub fn read(&self) -> io::Result<File> {
        self.open(OFlags::RDONLY)
    }

    pub fn write(&self, _: &Permit) -> io::Result<File> {
        self.open(OFlags::RDWR)
    }

    /// Whether it is no file but a value of the kernel, also where that is mounted under an ordinary name.
    pub fn is_of_the_kernel(&self) -> io::Result<bool> {
        Ok(OF_THE_KERNEL.contains(&kind(&self.fd)?))
    }

    /// As it is now.
    pub fn again(&self) -> io::Result<Facts> {
        facts(&self.fd)
    }

    fn open(&self, access: OFlags) -> io::Result<File> {
        let quietly = OFlags::NOATIME | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let link = link_of(&self.fd);
        Ok(File::from(rustix::fs::open(
            link,
            access | quietly,
            Mode::empty(),
        )?))
    }
}

/// The magic number of the file system that something open is on, statfs(2).
fn kind(fd: impl AsFd) -> io::Result<u64> {
    let kind = rustix::fs::fstatfs(fd)?.f_type as u64;
    Ok(kind & 0xffff_ffff)
}

/// `/proc/self/fd/N`, which leads to the very object and no path.
fn link_of(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Of anything that is open, also of what is opened by O_PATH alone.
pub fn facts(fd: impl AsFd) -> io::Result<Facts> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let seen = rustix::fs::statx(&fd, "", AtFlags::EMPTY_PATH, wanted)?;
    let is_told = seen.stx_mask & StatxFlags::BTIME.bits() != 0;
    let born = (is_told && KEEP_BIRTH.contains(&kind(&fd)?)).then_some(Time {
        seconds: seen.stx_btime.tv_sec,
        nanos: seen.stx_btime.tv_nsec,
    });
    let locked = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    let mode = u32::from(seen.stx_mode);
    Ok(Facts {
        id: Inode {
            device: rustix::fs::makedev(seen.stx_dev_major, seen.stx_dev_minor),
            inode: seen.stx_ino,
            born,
        },
        regular: rustix::fs::FileType::from_raw_mode(mode).is_file(),
        mode: mode & 0o7777,
        uid: seen.stx_uid,
        gid: seen.stx_gid,
        size: seen.stx_size,
        modified: Time {
            seconds: seen.stx_mtime.tv_sec,
            nanos: seen.stx_mtime.tv_nsec,
        },
        locked: seen.stx_attributes.intersects(locked),
    })
}

/// Of whatever file system something open is on.
pub fn room(fd: impl AsFd) -> io::Result<Room> {
    let seen = rustix::fs::fstatvfs(fd)?;
    Ok(Room {
        free: seen.f_bavail.saturating_mul(seen.f_frsize),
        read_only: seen.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// Everything written through this descriptor is on disk when this returns.
pub fn sync(file: &File, _: &Permit) -> io::Result<()> {
    crash_point();
    file.sync_all()
}

/// Where a test may stop the world: before every call that alters something.
fn crash_point() {
    #[cfg(test)]
    crash::pass();
}
