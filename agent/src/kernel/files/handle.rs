//! The kernel's own name of a folder, by which it is found under whatever path: open_by_handle_at(2).
#![allow(unsafe_code)] // name_to_handle_at(2) and open_by_handle_at(2) have no safe wrapper

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::fs::{AtFlags, OFlags, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::kind;
use crate::hex;

/// `MAX_HANDLE_SZ` of linux/exportfs.h.
const MOST: usize = 128;
/// File systems that know of every handle whether its inode is there: ext2 to ext4, xfs, btrfs, f2fs, tmpfs.
/// Others may only have forgotten it (FUSE) or not look at all.
const KNOW: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// Holds as long as the inode is there, also over reboots; a later one of the same number has another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handle {
    /// `f_fsid` of statfs(2): a device's number may be that of another file system by now.
    filesystem: u64,
    kind: i32,
    /// In hex.
    bytes: String,
}

impl Handle {
    pub(super) fn is_on(&self, fd: impl AsFd) -> io::Result<bool> {
        Ok(filesystem(fd)? == self.filesystem)
    }
}

/// `struct file_handle` of linux/fs.h.
#[repr(C)]
struct Raw {
    bytes: u32,
    kind: c_int,
    handle: [u8; MOST],
}

/// What a handle leads to.
pub(super) enum Lead<T> {
    To(T),
    /// The folder was deleted.
    Nowhere,
    /// It is another file system or cannot say, or this process may not ask.
    Unknown,
}

/// None: its file system has no handles that could be opened again.
pub(super) fn of(fd: impl AsFd) -> io::Result<Option<Handle>> {
    let mut raw = Raw {
        bytes: MOST as u32,
        kind: 0,
        handle: [0; MOST],
    };
    let mut mount: c_int = 0;
    // SAFETY: the path is an empty C string; the kernel writes at most `bytes` bytes behind the two numbers
    // and one number to `mount`; all outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            &raw mut raw,
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if answer != 0 {
        let cause = io::Error::last_os_error();
        let none = [Errno::OPNOTSUPP, Errno::OVERFLOW, Errno::NOSYS, Errno::PERM];
        return match none.iter().any(|errno| is(&cause, *errno)) {
            true => Ok(None),
            false => Err(cause),
        };
    }
    let bytes = raw.handle.get(..raw.bytes as usize).unwrap_or_default();
    Ok(Some(Handle {
        filesystem: filesystem(fd)?,
        kind: raw.kind,
        bytes: hex::encode(bytes),
    }))
}

/// Opens it by O_PATH; `on` is a folder of the same file system, open for reading.
pub(super) fn open(on: impl AsFd, handle: &Handle) -> io::Result<Lead<OwnedFd>> {
    if !handle.is_on(on.as_fd())? {
        return Ok(Lead::Unknown);
    }
    let bytes = hex::decode(&handle.bytes).unwrap_or_default();
    let mut raw = Raw {
        bytes: bytes.len() as u32,
        kind: handle.kind,
        handle: [0; MOST],
    };
    let Some(place) = raw.handle.get_mut(..bytes.len()) else {
        return Ok(Lead::Unknown); // no handle of ours
    };
    place.copy_from_slice(&bytes);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // SAFETY: the kernel reads `bytes` bytes behind the two numbers, which outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            on.as_fd().as_raw_fd(),
            &raw const raw,
            flags.bits() as c_int,
        )
    };
    if answer < 0 {
        let cause = io::Error::last_os_error();
        let unknown = [Errno::PERM, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS];
        return match () {
            () if is(&cause, Errno::STALE) => nowhere(on),
            () if unknown.iter().any(|errno| is(&cause, *errno)) => Ok(Lead::Unknown),
            () => Err(cause),
        };
    }
    // SAFETY: the kernel has just given this descriptor, which nobody else has.
    let fd = unsafe { OwnedFd::from_raw_fd(answer as c_int) };
    let seen = rustix::fs::statx(&fd, "", AtFlags::EMPTY_PATH, StatxFlags::NLINK)?;
    // Deleted, and somebody is still in it.
    match seen.stx_nlink {
        0 => nowhere(on),
        _ => Ok(Lead::To(fd)),
    }
}

fn filesystem(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstatvfs(fd)?.f_fsid)
}

fn nowhere<T>(on: impl AsFd) -> io::Result<Lead<T>> {
    Ok(match KNOW.contains(&kind(on)?) {
        true => Lead::Nowhere,
        false => Lead::Unknown,
    })
}

fn is(cause: &io::Error, errno: Errno) -> bool {
    cause.raw_os_error() == Some(errno.raw_os_error())
}
