//! Owner, mode, times and extended attributes of an open file.

use std::fs::File;
use std::io;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::{Time, crash_point};
use crate::journal::Permit;

/// What lets a program have privileges; the kernel drops it when the content changes.
const CAPABILITY: &str = "security.capability";
/// About the content, not about the file: a copy of them would be wrong.
const OF_CONTENT: [&str; 2] = ["security.ima", "security.evm"];
/// An overlay's own notes on its files.
const OF_OVERLAY: &str = "trusted.overlay.";

pub fn set_mode(file: &File, mode: u32, _: &Permit) -> io::Result<()> {
    crash_point();
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// Clears setuid and setgid: the mode comes after it.
pub fn set_owner(file: &File, uid: u32, gid: u32, _: &Permit) -> io::Result<()> {
    crash_point();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
}

/// Sets the time of the last change of the content; that of the last access stays.
pub fn set_modified(file: &File, time: Time, _: &Permit) -> io::Result<()> {
    crash_point();
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: time.seconds,
            tv_nsec: time.nanos.into(),
        },
    };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Gives `to` what `from` has of extended attributes (labels, access lists, users' own). One that
/// may not be copied stays out.
pub fn copy_attributes(from: &File, to: &File, permit: &Permit) -> io::Result<()> {
    for name in names(from)? {
        if OF_CONTENT.contains(&name.as_str()) || name.starts_with(OF_OVERLAY) {
            continue;
        }
        let Some(value) = get(from, &name)? else {
            continue;
        };
        match set(to, &name, &value, permit) {
            Err(error) if refused(&error) && name.starts_with("security.") => {}
            done => done?,
        }
    }
    Ok(())
}

/// The capability of a program file, raw.
pub fn capability(file: &File) -> io::Result<Option<Vec<u8>>> {
    get(file, CAPABILITY)
}

pub fn restore_capability(file: &File, value: &[u8], permit: &Permit) -> io::Result<()> {
    set(file, CAPABILITY, value, permit)
}

fn refused(error: &io::Error) -> bool {
    [Errno::PERM, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Sets one, and reads it back.
fn set(file: &File, name: &str, value: &[u8], _: &Permit) -> io::Result<()> {
    crash_point();
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?;
    match get(file, name)?.is_some_and(|now| now == value) {
        true => Ok(()),
        false => Err(io::Error::other(format!("read back, {name} is another"))),
    }
}

/// None: there is no such attribute, or no attributes at all on this file system.
fn get(file: &File, name: &str) -> io::Result<Option<Vec<u8>>> {
    loop {
        let size = match rustix::fs::fgetxattr_query(file, name) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            size => size?,
        };
        let mut value = vec![0; size];
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Err(Errno::RANGE) => {} // it grew meanwhile
            Err(Errno::NODATA) => return Ok(None),
            read => {
                value.truncate(read?);
                return Ok(Some(value));
            }
        }
    }
}

fn names(file: &File) -> io::Result<Vec<String>> {
    let mut list = Vec::new();
    loop {
        let size = match rustix::fs::flistxattr_query(file) {
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            size => size?,
        };
        list.resize(size, 0);
        match rustix::fs::flistxattr(file, &mut list[..]) {
            Err(Errno::RANGE) => {}
            read => {
                list.truncate(read?);
                break;
            }
        }
    }
    let names = list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    Ok(names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect())
}
