//! Files with owners, modes, times, attributes and links that must come back as they were.

use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::XattrFlags;

pub const REPLACED: &str = "replaced.conf";
pub const MOVED: &str = "moved.key";
pub const CHMODDED: &str = "chmodded.sock.conf";
pub const TRUNCATED: &str = "truncated.db";

/// `vfs_cap_data` of revision 2 (`linux/capability.h`): CAP_NET_BIND_SERVICE, permitted, effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub fn make(folder: &Path) -> io::Result<()> {
    for (number, name) in (1..).zip([REPLACED, MOVED, CHMODDED, TRUNCATED, "foreign.txt"]) {
        let path = folder.join(name);
        fs::write(&path, format!("{name}\n").repeat(100 * number))?;
        chown(&path, Some(1000 + number as u32), Some(2000))?;
        // The set-group-id bit goes with a change of owner, so the mode comes after it.
        fs::set_permissions(&path, Permissions::from_mode(0o2600 | number as u32))?;
        // Where a tmpfs holds no attributes of users (before 6.6), those of root do as well.
        let user = rustix::fs::setxattr(&path, "user.note", b"kept", XattrFlags::empty());
        user.or_else(|_| {
            rustix::fs::setxattr(&path, "trusted.note", b"kept", XattrFlags::empty())
        })?;
        let long_ago =
            |s: u64| SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000 + s, 123_456_789);
        let times = FileTimes::new()
            .set_accessed(long_ago(number as u64))
            .set_modified(long_ago(10 * number as u64));
        File::options().write(true).open(&path)?.set_times(times)?;
    }
    let truncated = folder.join(TRUNCATED);
    rustix::fs::setxattr(
        &truncated,
        "security.capability",
        &CAPABILITY,
        XattrFlags::empty(),
    )?;
    fs::hard_link(folder.join(CHMODDED), folder.join("second-name"))?;
    symlink(REPLACED, folder.join("current.conf"))?;
    fs::create_dir(folder.join("beside"))?;
    fs::write(folder.join("beside/.hidden"), "nobody's\n")
}
