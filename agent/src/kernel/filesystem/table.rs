//! What the kernel's tables say of mounts: `/proc/PID/mountinfo` (proc(5)) and `/sys/dev/block`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Mounted, superblock_of};
use crate::kernel::procfs;

/// How deep file systems may lie on images that lie on file systems.
const DEEP: usize = 8;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub number: u64,
    /// `MAJOR:MINOR` of the file system itself.
    pub superblock: String,
    pub point: PathBuf,
    /// This mount, whatever its file system allows.
    pub read_only: bool,
    /// Such as `ext4`.
    pub kind: String,
}

/// Every mount of this mount namespace.
pub fn lines() -> io::Result<Vec<Line>> {
    Ok(parse(&std::fs::read_to_string(
        "/proc/thread-self/mountinfo",
    )?))
}

fn parse(text: &str) -> Vec<Line> {
    text.lines().filter_map(line).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn line(text: &str) -> Option<Line> {
    let (mount, filesystem) = text.split_once(" - ")?;
    let mut mount = mount.split(' ');
    let number = mount.next()?.parse().ok()?;
    let superblock = mount.nth(1)?.to_owned();
    let point = unescaped(mount.nth(1)?);
    let mut options = mount.next()?.split(',');
    Some(Line {
        number,
        superblock,
        point: PathBuf::from(point),
        read_only: options.any(|option| option == "ro"),
        kind: filesystem.split(' ').next()?.to_owned(),
    })
}

/// Space, tab, newline and backslash stand there as three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// A thread in another mount namespace that sees a mount which is not in this one; its process too, as
/// long as it has only one namespace.
pub fn elsewhere(is_it: impl Fn(&Line) -> bool) -> io::Result<Option<u32>> {
    let mut seen = BTreeSet::new();
    for (process, thread) in procfs::all_threads()? {
        let folder = format!("/proc/{process}/task/{thread}");
        let Ok(namespace) = std::fs::read_link(format!("{folder}/ns/mnt")) else {
            continue; // it ended
        };
        if !seen.insert(namespace) {
            continue;
        }
        let text = match std::fs::read_to_string(format!("{folder}/mountinfo")) {
            Ok(text) => text,
            // It ended, or is one that this agent may not look at.
            Err(cause) if cannot_show(&cause) => continue,
            Err(cause) => return Err(cause),
        };
        if parse(&text).iter().any(&is_it) {
            return Ok(Some(thread));
        }
    }
    Ok(None)
}

fn cannot_show(cause: &io::Error) -> bool {
    // A zombie has no mounts: EINVAL.
    procfs::is_hidden(cause) || cause.kind() == io::ErrorKind::InvalidInput
}

/// A device number as mountinfo writes it; of a file system in memory, which has one for all of it.
pub fn superblock(device: u64) -> String {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    format!("{major}:{minor}")
}

/// Whether a file system's block device is in use although it is not mounted here. A frozen one
/// stays so when it is unmounted, and is frozen when it is mounted again. None: no block device.
pub fn claimed(superblock: &str) -> io::Result<Option<bool>> {
    let Ok(uevent) = std::fs::read_to_string(format!("/sys/dev/block/{superblock}/uevent")) else {
        return Ok(None);
    };
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="));
    let Some(name) = name else { return Ok(None) };
    // O_EXCL on a block device asks whether somebody claims it; nothing is written.
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(Path::new("/dev").join(name), flags, Mode::empty()) {
        Ok(_) => Ok(Some(false)),
        Err(Errno::BUSY) => Ok(Some(true)),
        Err(Errno::NOENT | Errno::NXIO | Errno::NODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The file system that a path is on, and those on which its image files lie (loop devices).
/// None at the end: something below cannot be looked through (an overlay).
pub fn lower(path: &Path) -> io::Result<Vec<Option<String>>> {
    let mut found = Vec::new();
    let mounted = Mounted::at(path)?;
    let stacked = ["overlay", "ecryptfs", "aufs"].contains(&mounted.line.kind.as_str());
    let mut superblock = mounted.line.superblock;
    for _ in 0..DEEP {
        let file = format!("/sys/dev/block/{superblock}/loop/backing_file");
        found.push(Some(superblock));
        let Ok(image) = std::fs::read_to_string(file) else {
            break;
        };
        superblock = superblock_of(File::open(image.trim_end())?)?;
    }
    if stacked {
        found.push(None);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read_as_the_manual_has_it() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402\\134 rw,noatime master:1 - ext3 /dev/root rw\n\
                    37 36 0:50 / /ro ro,nosuid - tmpfs none rw,size=4k\n\
                    not a line\n";
        let [one, other] = parse(text).try_into().unwrap();
        assert_eq!(one.point, Path::new("/mnt 2\\"));
        assert_eq!((one.number, one.superblock.as_str()), (36, "98:0"));
        assert!(!one.read_only && other.read_only);
        assert_eq!((one.kind.as_str(), other.kind.as_str()), ("ext3", "tmpfs"));
    }

    #[test]
    fn the_root_of_this_machine_is_a_mount_and_a_folder_of_it_is_not() {
        let root = Mounted::at(Path::new("/")).unwrap();
        assert!(root.is_root);
        assert_eq!(root.line.point, Path::new("/"));
        let folder = tempfile::tempdir().unwrap();
        assert!(!Mounted::at(folder.path()).unwrap().is_root);
        assert!(!lower(folder.path()).unwrap().is_empty());
    }
}
