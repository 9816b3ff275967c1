//! A file whose folder is at another path, under another mount, or has another number when it is to come back.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use scenarios::change::{Change, FileAct, FileChange};

use crate::support::*;

const CONTENT: &str = "of the one who was here first";

fn acts() -> [FileAct; 4] {
    [
        FileAct::Replace {
            content: "x".into(),
        },
        FileAct::MoveAway,
        FileAct::Chmod { mode: 0 },
        FileAct::Truncate { bytes: 1 },
    ]
}

/// A folder with a file in it, another folder beside it, and a third.
struct Folders {
    conf: PathBuf,
    file: PathBuf,
    beside: PathBuf,
    away: PathBuf,
}

impl Folders {
    fn new(host: &Host, on: &Path) -> Self {
        let folder = |name: &str| {
            let path = on.join(name);
            host.command("mkdir", &format!("-p {}", path.display()));
            path
        };
        let (conf, beside) = (folder("conf"), folder("conf.v2"));
        let file = conf.join("f");
        host.write(&file, CONTENT);
        host.write(&beside.join("f"), "another");
        Self {
            file,
            conf,
            beside,
            away: folder("away").join("deep"),
        }
    }

    /// Puts the act in force, and leaves nobody who would end it.
    fn abandoned(&self, host: &Host, act: &FileAct) {
        let change = Change::File(FileChange {
            path: self.file.display().to_string(),
            act: act.clone(),
        });
        let before = seen(host, &self.conf);
        let mut changing = host.change("d", &[change], "1h");
        assert!(changing.says("in force"), "{:?}", changing.ends());
        until("it bites", || seen(host, &self.conf) != before);
        changing.crash_with_guardian();
    }
}

/// Of each file its name, inode, mode, times and content; of an overlay not all of it stays for what is only read.
fn seen(host: &Host, folder: &Path) -> Vec<String> {
    host.inventory(folder)
}

fn forget(host: &Host) {
    std::fs::remove_file(host.state().join("journal/d.journal")).unwrap();
}

fn disks(host: &Host) -> [PathBuf; 2] {
    [host.ext4("ext4"), host.tmpfs("tmpfs", "size=1m")]
}

#[test]
#[ignore = "needs root: mounts, loop device"]
fn under_another_one_that_is_mounted_over_it() {
    let host = Host::new();
    for disk in disks(&host) {
        let folders = Folders::new(&host, &disk);
        let (conf, beside) = (folders.conf.display(), folders.beside.display());
        let before = (seen(&host, &folders.conf), seen(&host, &folders.beside));
        for act in acts() {
            folders.abandoned(&host, &act);
            host.command("mount", &format!("--bind {beside} {conf}"));
            let told = host.revert_clean();
            host.command("umount", &conf.to_string());
            let after = (seen(&host, &folders.conf), seen(&host, &folders.beside));
            assert_eq!(after, before, "{act:?}: {told}");
            forget(&host);
        }
    }
}

#[test]
#[ignore = "needs root: mounts, loop device"]
fn at_another_path_of_its_file_system() {
    let host = Host::new();
    for disk in disks(&host) {
        let folders = Folders::new(&host, &disk);
        let (conf, away) = (folders.conf.display(), folders.away.display());
        let before = seen(&host, &folders.conf);
        for act in acts() {
            for again in [false, true] {
                folders.abandoned(&host, &act);
                host.command("mv", &format!("{conf} {away}"));
                if again {
                    host.command("mkdir", &conf.to_string());
                    host.write(&folders.file, "another");
                }
                let told = host.revert_clean();
                assert!(
                    told.contains(&format!("{conf} was moved to {away}")),
                    "{told}"
                );
                if again {
                    assert_eq!(host.read(&folders.file).as_deref(), Some("another"));
                    host.command("rm", &format!("-r {conf}"));
                }
                host.command("mv", &format!("{away} {conf}"));
                assert_eq!(seen(&host, &folders.conf), before, "{act:?}: {told}");
                forget(&host);
            }
        }
    }
}

#[test]
#[ignore = "needs root: mounts, loop device"]
fn where_its_file_system_was_moved_to() {
    let host = Host::new();
    for (number, disk) in disks(&host).into_iter().enumerate() {
        let folders = Folders::new(&host, &disk);
        let now = host.path(&format!("now{number}"));
        host.command("mkdir", &now.display().to_string());
        let before = seen(&host, &folders.conf);
        for act in acts() {
            folders.abandoned(&host, &act);
            host.command(
                "mount",
                &format!("--move {} {}", disk.display(), now.display()),
            );
            let told = host.revert_clean();
            assert!(told.contains(&format!("{}/conf", now.display())), "{told}");
            host.command(
                "mount",
                &format!("--move {} {}", now.display(), disk.display()),
            );
            assert_eq!(seen(&host, &folders.conf), before, "{act:?}: {told}");
            forget(&host);
        }
    }
}

/// Mounted again it is another device, if something else has taken its number meanwhile.
#[test]
#[ignore = "needs root: mounts, loop devices"]
fn on_a_device_of_another_number() {
    let host = Host::new();
    let (disk, other) = (host.ext4("ext4"), host.ext4("other"));
    let [image, other_image] = ["ext4.img", "other.img"].map(|name| host.path(name));
    let [image, other_image] = [image.display(), other_image.display()];
    let folders = Folders::new(&host, &disk);
    let device = |path: &Path| {
        let path = path.to_owned();
        host.run(move || path.metadata().unwrap().dev())
    };
    let umount = |point: &Path| host.command("umount", &point.display().to_string());
    umount(&other);
    let before = seen(&host, &folders.conf);
    for act in acts() {
        folders.abandoned(&host, &act);
        let old = device(&disk);
        umount(&disk);
        let told = text(&host.revert_all());
        assert!(told.contains("mount its file system there again"), "{told}");
        let numbered = format!("/dev/loop{}", rustix::fs::minor(old));
        until("the number is taken", || {
            host.succeeds("losetup", &format!("{numbered} {other_image}"))
        });
        host.command("mount", &format!("{numbered} {}", other.display()));
        host.command("mount", &format!("-o loop {image} {}", disk.display()));
        assert!(
            device(&disk) != old && device(&other) == old,
            "nothing is tried"
        );
        let output = host.revert_all();
        let told = text(&output);
        assert_eq!(
            output.status.code(),
            Some(4),
            "another has the number: {told}"
        );
        assert!(
            told.contains("is another file system, or covered"),
            "{told}"
        );
        umount(&other);
        let told = host.revert_clean();
        host.command("losetup", &format!("-d {numbered}"));
        assert_eq!(seen(&host, &folders.conf), before, "{act:?}: {told}");
        forget(&host);
    }
}

#[test]
#[ignore = "needs root: mounts, loop device"]
fn a_folder_that_was_deleted_is_told_and_blocks_nobody() {
    let host = Host::new();
    for disk in disks(&host) {
        for above in [false, true] {
            let folders = Folders::new(&host, &disk.join("above"));
            folders.abandoned(&host, &FileAct::MoveAway);
            let gone = if above {
                disk.join("above")
            } else {
                folders.conf
            };
            host.command("rm", &format!("-r {}", gone.display()));
            let told = host.revert_clean();
            assert!(told.contains("the one of arm was deleted"), "{told}");
            forget(&host);
        }
    }
}

/// One whose layers lie on two file systems: a folder has another number each time it is looked up anew.
fn overlay(host: &Host) -> PathBuf {
    let (lower, upper) = (host.ext4("lower"), host.tmpfs("upper", "size=4m"));
    host.command("mkdir", &format!("{0}/u {0}/w", upper.display()));
    let conf = Folders::new(host, &lower).conf;
    host.command("chmod", &format!("640 {}/f", conf.display()));
    let point = host.path("overlay");
    host.command("mkdir", &point.display().to_string());
    mount_overlay(host, &point);
    point
}

fn mount_overlay(host: &Host, point: &Path) {
    let [lower, upper] = ["lower", "upper"].map(|name| host.path(name).display().to_string());
    let layers = format!("lowerdir={lower},upperdir={upper}/u,workdir={upper}/w,xino=off");
    let words = format!("-t overlay -o {layers} overlay {}", point.display());
    host.command("mount", &words);
}

fn inode(host: &Host, path: &Path) -> u64 {
    let path = path.to_owned();
    host.run(move || path.metadata().unwrap().ino())
}

#[test]
#[ignore = "needs root: mounts, overlay, loop device"]
fn an_overlay_that_gives_its_folders_other_numbers_by_itself() {
    let host = Host::new();
    let point = overlay(&host);
    let folders = Folders::new(&host, &point);
    let before = seen(&host, &folders.conf);
    for act in acts() {
        folders.abandoned(&host, &act);
        let old = inode(&host, &folders.conf);
        host.command("mount", &format!("-o remount {}", point.display()));
        assert_ne!(inode(&host, &folders.conf), old, "nothing is tried");
        let told = host.revert_clean();
        assert!(!told.contains("drifted"), "{act:?}: {told}");
        assert_eq!(seen(&host, &folders.conf), before, "{act:?}");
        forget(&host);
    }
}

/// Nobody can say then whether the folder was moved or deleted.
#[test]
#[ignore = "needs root: mounts, overlay, loop device"]
fn what_an_overlay_hides_is_owed() {
    let host = Host::new();
    let point = overlay(&host);
    let folders = Folders::new(&host, &point);
    let (conf, beside) = (folders.conf.display(), folders.beside.display());
    let before = seen(&host, &folders.conf);
    for act in acts() {
        folders.abandoned(&host, &act);
        host.command("mount", &format!("--bind {beside} {conf}"));
        for _ in 0..2 {
            let output = host.revert_all();
            let told = text(&output);
            assert_eq!(output.status.code(), Some(4), "{act:?}: {told}");
            let find = format!("find {} -xdev", point.display());
            assert!(
                told.contains(&find) && told.contains(".cellwall_d_0_0"),
                "{told}"
            );
        }
        host.command("umount", &conf.to_string());
        host.revert_clean();
        assert_eq!(seen(&host, &folders.conf), before, "{act:?}");
        forget(&host);
    }
}
