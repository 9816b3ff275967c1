//! Files and disks that get the numbers of earlier ones: an undo takes nobody else's for its own.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use scenarios::change::{Change, FileAct, FileChange, FilesystemAct, FilesystemChange};

use crate::support::*;

const BEFORE: &str = "as it was\n";
const OTHERS: &str = "somebody else's\n";

fn file(path: &Path, act: FileAct) -> Change {
    Change::File(FileChange {
        path: path.display().to_string(),
        act,
    })
}

/// Device, inode and mode, as the host sees it.
fn seen(host: &Host, path: &Path) -> (u64, u64, u32) {
    let path = path.to_owned();
    host.run(move || {
        let seen = path.metadata().unwrap();
        (seen.dev(), seen.ino(), seen.mode() & 0o7777)
    })
}

fn set_mode(host: &Host, path: &Path, mode: u32) {
    let path = path.to_owned();
    host.run(move || std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap());
}

/// ext4 gives the next file the number of the one that was deleted last.
#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn a_new_file_with_the_number_of_the_old_one_is_left_alone() {
    let changes = [
        (FileAct::Chmod { mode: 0o600 }, ""),
        (FileAct::Truncate { bytes: 0 }, ""),
    ];
    for (act, content) in changes {
        let host = Host::new();
        let conf = host.ext4("disk").join("conf");
        host.write(&conf, BEFORE);
        set_mode(&host, &conf, 0o644);
        let (_, number, _) = seen(&host, &conf);
        let mut changing = host.change("d", &[file(&conf, act)], "1s");
        assert!(changing.says("in force"), "{:?}", changing.ends());
        let path = conf.clone();
        host.run(move || std::fs::remove_file(path).unwrap());
        host.write(&conf, content);
        set_mode(&host, &conf, 0o600);
        assert_eq!(seen(&host, &conf).1, number, "else this tests nothing");
        let (_, text) = changing.ends();
        assert_eq!(seen(&host, &conf).2, 0o600, "{text}");
        assert_eq!(host.read(&conf).as_deref(), Some(content), "{text}");
        assert!(text.contains("conf"), "it is told: {text}");
    }
}

/// Another disk at the same device and the same place.
struct Swapped {
    host: Host,
    point: PathBuf,
}

impl Swapped {
    /// With the change in force, and nobody left to undo it.
    fn with(act: impl Fn(&Path) -> Change) -> Self {
        let host = Host::new();
        let point = host.ext4("disk");
        host.write(&point.join("conf"), BEFORE);
        set_mode(&host, &point.join("conf"), 0o644);
        let mut changing = host.change("d", &[act(&point)], "60s");
        assert!(changing.says("in force"), "{:?}", changing.ends());
        changing.crash_with_guardian();
        Self { host, point }
    }

    fn put(&self, image: &str) {
        let (image, point) = (self.host.path(image), self.point.display());
        let arguments = format!("-o loop {} {point}", image.display());
        self.host.command("mount", &arguments);
    }

    fn take_out(&self) {
        let point = self.point.display().to_string();
        self.host.command("umount", &point);
    }
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn another_disk_with_the_number_of_the_old_one_is_left_alone() {
    type Act = fn(&Path) -> Change;
    let acts: [Act; 3] = [
        |point| file(&point.join("conf"), FileAct::Chmod { mode: 0o600 }),
        |point| {
            let content = "ours\n".to_owned();
            file(&point.join("conf"), FileAct::Replace { content })
        },
        |point| {
            Change::Filesystem(FilesystemChange {
                path: point.display().to_string(),
                act: FilesystemAct::Fill {
                    leave_bytes: 1 << 20,
                },
            })
        },
    ];
    for act in acts {
        let it = Swapped::with(act);
        let (device, _, _) = seen(&it.host, &it.point);
        it.take_out();
        // What mkfs makes is as old as the second in which it ran.
        std::thread::sleep(Duration::from_millis(1_100));
        let image = it.host.path("other.img");
        let other = std::fs::File::create(&image).unwrap();
        other.set_len(24 << 20).unwrap();
        let arguments = format!("-q -F {}", image.display());
        it.host.command("mkfs.ext4", &arguments);
        it.put("other.img");
        assert_eq!(
            seen(&it.host, &it.point).0,
            device,
            "else this tests nothing"
        );
        let conf = it.point.join("conf");
        it.host.write(&conf, OTHERS);
        set_mode(&it.host, &conf, 0o600);
        let output = it.host.revert_all();
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
        assert_eq!(it.host.read(&conf).as_deref(), Some(OTHERS));
        assert_eq!(seen(&it.host, &conf).2, 0o600);
        it.take_out();
        it.put("disk.img");
        it.host.revert_clean();
        assert_eq!(it.host.read(&conf).as_deref(), Some(BEFORE));
        assert_eq!(seen(&it.host, &conf).2, 0o644);
    }
}
