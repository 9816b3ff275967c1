//! Mounted file systems: which one a path is on, stopped and let go, read-only, filled.
#![allow(unsafe_code)] // FIFREEZE, FITHAW and mount_setattr(2) have no safe wrapper

mod table;

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::ioctl::{NoArg, ioctl, opcode};
use serde::{Deserialize, Serialize};

use super::files::{self, Room};
use crate::journal::Permit;

pub use table::{Line, claimed, elsewhere, lines, lower, superblock};

/// `FIFREEZE` and `FITHAW` of linux/fs.h; the kernel does not look at their argument.
const FREEZE: u32 = opcode::read_write::<c_int>(b'X', 119);
const THAW: u32 = opcode::read_write::<c_int>(b'X', 120);
/// `STATX_MNT_ID` and `STATX_MNT_ID_UNIQUE` of linux/stat.h (5.8 and 6.8).
const MOUNT_ID: u32 = 0x1000;
const MOUNT_ID_UNIQUE: u32 = 0x4000;
/// Bytes at a time where a file system cannot allocate.
const CHUNK: usize = 1 << 20;

/// What names one mount as long as the machine runs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountId {
    /// As in mountinfo; given to another mount when this one is gone.
    pub number: u64,
    /// Never given twice; from Linux 6.8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<u64>,
}

impl PartialEq for MountId {
    fn eq(&self, other: &Self) -> bool {
        match (self.unique, other.unique) {
            (Some(one), Some(other)) => one == other,
            _ => self.number == other.number,
        }
    }
}

impl Eq for MountId {}

/// What a path is on, held open by O_PATH: looking writes nothing and waits for nobody, even if the
/// file system is frozen.
#[derive(Debug)]
pub struct Mounted {
    fd: OwnedFd,
    pub id: MountId,
    /// Whether the path is the very root of the mount.
    pub is_root: bool,
    pub line: Line,
}

impl Mounted {
    /// Of a folder.
    pub fn at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let (id, is_root) = mount_of(&fd)?;
        Ok(Self {
            line: line_of(id)?,
            fd,
            id,
            is_root,
        })
    }

    /// As mountinfo says now.
    pub fn again(&self) -> io::Result<Line> {
        line_of(self.id)
    }

    pub fn room(&self) -> io::Result<Room> {
        files::room(&self.fd)
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, ".", flags, Mode::empty())?)
    }

    /// Writes what is still in memory, so that a freeze is quick.
    pub fn flush(&self, _: &Permit) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self.open()?)?)
    }

    /// Every writer waits, through whatever mount. EBUSY: it is frozen already, by whomever.
    pub fn freeze(&self, _: &Permit) -> Result<(), Errno> {
        let open = self.open().map_err(errno)?;
        // SAFETY: FIFREEZE takes no argument that the kernel would read or write.
        unsafe { ioctl(&open, NoArg::<FREEZE>::new()) }
    }

    /// Ends it. EINVAL: it is not frozen.
    pub fn thaw(&self, _: &Permit) -> Result<(), Errno> {
        let open = self.open().map_err(errno)?;
        // SAFETY: FITHAW takes no argument that the kernel would read or write.
        unsafe { ioctl(&open, NoArg::<THAW>::new()) }
    }

    /// Makes this mount read-only or writable; nothing else of it is altered, nor other mounts of
    /// the same file system. EBUSY: somebody has a file open for writing.
    pub fn set_read_only(&self, read_only: bool, _: &Permit) -> io::Result<()> {
        let flag = libc::MOUNT_ATTR_RDONLY;
        set_attributes(&self.fd, if read_only { (flag, 0) } else { (0, flag) })
    }

    /// Whether the kernel can set attributes of one mount (5.12): asks it to set none.
    pub fn can_be_set(&self) -> io::Result<()> {
        set_attributes(&self.fd, (0, 0))
    }
}

/// Sets and clears MOUNT_ATTR_ flags of one mount, mount_setattr(2).
fn set_attributes(mount: &OwnedFd, (attr_set, attr_clr): (u64, u64)) -> io::Result<()> {
    let asked = libc::mount_attr {
        attr_set,
        attr_clr,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is an empty C string, and the kernel reads the structure, whose size it is
    // told; both outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const asked,
            size_of::<libc::mount_attr>(),
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// The mount that something open is on, and whether it is the mount's root.
fn mount_of(fd: impl AsFd) -> io::Result<(MountId, bool)> {
    let ask = |what: u32| {
        let wanted = StatxFlags::from_bits_retain(what);
        rustix::fs::statx(fd.as_fd(), "", AtFlags::EMPTY_PATH, wanted)
    };
    let (first, second) = (ask(MOUNT_ID)?, ask(MOUNT_ID_UNIQUE)?);
    let root = StatxAttributes::MOUNT_ROOT;
    let told = first.stx_mask & MOUNT_ID != 0 && first.stx_attributes_mask.contains(root);
    if !told {
        let old = "the kernel does not say which mount a path is on (5.8 does)";
        return Err(io::Error::new(io::ErrorKind::Unsupported, old));
    }
    let id = MountId {
        number: first.stx_mnt_id,
        unique: (second.stx_mask & MOUNT_ID_UNIQUE != 0).then_some(second.stx_mnt_id),
    };
    Ok((id, first.stx_attributes.contains(root)))
}

fn line_of(id: MountId) -> io::Result<Line> {
    let mut lines = lines()?.into_iter();
    lines.find(|line| line.number == id.number).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "its mount is not in this mount namespace",
        )
    })
}

/// The file system that something open is on, as `MAJOR:MINOR` of mountinfo: one for all subvolumes
/// and mounts of it, unlike `st_dev`.
pub fn superblock_of(fd: impl AsFd) -> io::Result<String> {
    Ok(line_of(mount_of(fd)?.0)?.superblock)
}

/// Descriptors of this process that can write to the file system: a log that is on it would stop the
/// agent together with everybody else.
pub fn own_writers(superblock: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let link = entry?.path();
        let (Ok(target), Ok(metadata)) = (std::fs::read_link(&link), link.metadata()) else {
            continue; // the listing's own, closed by now
        };
        if !metadata.is_file() {
            continue;
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let held = rustix::fs::open(&link, flags, Mode::empty())?;
        if superblock_of(&held).is_ok_and(|on| on == superblock) && writes(&link)? {
            found.push(target.display().to_string());
        }
    }
    Ok(found)
}

/// Whether a descriptor of this process was opened for writing: `flags` of its fdinfo, in octal.
fn writes(link: &Path) -> io::Result<bool> {
    let number = link.file_name().unwrap_or_default();
    let text = std::fs::read_to_string(Path::new("/proc/self/fdinfo").join(number))?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    Ok(flags.is_none_or(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY))
}

/// Makes `file` `bytes` longer and gives it room on the disk. None: the file system cannot do that.
pub fn allocate(file: &File, bytes: u64, _: &Permit) -> io::Result<Option<()>> {
    let at = file.metadata()?.len();
    match rustix::fs::fallocate(file, FallocateFlags::empty(), at, bytes) {
        Ok(()) => Ok(Some(())),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes `file` up to `bytes` longer by writing zeros.
pub fn lengthen(mut file: &File, bytes: u64, _: &Permit) -> io::Result<()> {
    use io::{Seek, Write};
    file.seek(io::SeekFrom::End(0))?;
    let zeros = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(CHUNK as u64);
        file.write_all(&zeros[..usize::try_from(now).unwrap_or(CHUNK)])?;
        left -= now;
    }
    Ok(())
}
