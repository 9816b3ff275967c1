//! Files that a drill alters: seen from outside, and back to the last bit however it ends.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agent::boottime::Boottime;
use agent::changes::{self, Error, Hands, Management, Place, Undo, firewall};
use agent::journal::{Armed, FORMAT, Intent, Journal, Record};
use agent::kernel::nft::Gate;
use rustix::fs::XattrFlags;
use scenarios::change::{Change, FileAct, FileChange};

use crate::support::*;

/// Long enough that the tail is some pages.
const SIZE: u64 = 50_000;
const CUT: u64 = 4_321;

fn acts() -> [FileAct; 4] {
    [
        FileAct::Replace {
            content: "theirs, they think".into(),
        },
        FileAct::MoveAway,
        FileAct::Chmod { mode: 0 },
        FileAct::Truncate { bytes: CUT },
    ]
}

fn change(path: &Path, act: &FileAct) -> Change {
    Change::File(FileChange {
        path: path.to_str().unwrap().into(),
        act: act.clone(),
    })
}

/// A file with everything that a file can have.
fn rich(host: &Host, folder: &Path) -> PathBuf {
    let path = folder.join("app.db");
    let at = path.clone();
    host.run(move || {
        let text: String = (0..SIZE)
            .map(|n| char::from(b' ' + (n % 89) as u8))
            .collect();
        std::fs::write(&at, text).unwrap();
        std::fs::hard_link(&at, at.with_file_name("link")).unwrap();
        std::os::unix::fs::chown(&at, Some(1234), Some(4321)).unwrap();
        std::fs::set_permissions(&at, PermissionsExt::from_mode(0o6754)).unwrap();
        let file = std::fs::File::open(&at).unwrap();
        // struct vfs_cap_data of linux/capability.h, revision 2: cap_net_raw permitted.
        let mut capability = [0_u8; 20];
        capability[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
        capability[4..8].copy_from_slice(&(1_u32 << 13).to_le_bytes());
        for (name, value) in [
            ("user.note", &b"mine"[..]),
            ("security.capability", &capability),
        ] {
            rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()).unwrap();
        }
        let old = SystemTime::now() - Duration::new(3 * 86_400, 123_456_789);
        let times = std::fs::FileTimes::new()
            .set_accessed(old)
            .set_modified(old);
        file.set_times(times).unwrap();
    });
    path
}

/// Reads without a trace: a look at the original must not move its access time.
fn quietly(path: &Path) -> Option<String> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOATIME;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    std::io::read_to_string(std::fs::File::from(file)).ok()
}

/// Whether the act is in force.
fn bites(host: &Host, path: &Path, act: &FileAct) -> bool {
    let (at, act) = (path.to_owned(), act.clone());
    host.run(move || {
        let seen = at.metadata();
        match act {
            FileAct::Replace { content } => quietly(&at).is_some_and(|now| now == content),
            FileAct::MoveAway => seen.is_err(),
            FileAct::Chmod { mode } => seen.is_ok_and(|seen| seen.mode() & 0o7777 == mode),
            FileAct::Truncate { bytes } => seen.is_ok_and(|seen| seen.len() == bytes),
        }
    })
}

/// A drill of one act, in force.
fn in_force(host: &Host, path: &Path, act: &FileAct, drill: &str, lasts: &str) -> Changing {
    let mut changing = host.change(drill, &[change(path, act)], lasts);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    until("it bites", || bites(host, path, act));
    changing
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn each_act_bites_and_ends_with_its_time() {
    let host = Host::new();
    for folder in [host.tmpfs("tmpfs", "size=8m"), host.ext4("ext4")] {
        let path = rich(&host, &folder);
        let before = host.inventory(&folder);
        for (number, act) in acts().iter().enumerate() {
            let kind = folder.file_name().unwrap().to_str().unwrap();
            let drill = format!("{kind}-{number}");
            let mut changing = in_force(&host, &path, act, &drill, "300ms");
            assert_ne!(host.inventory(&folder), before, "{act:?}");
            changing.ends_clean();
            assert_eq!(host.inventory(&folder), before, "{act:?}");
        }
    }
}

/// The new file is what a program with the same rights can use as it used the old one.
#[test]
#[ignore = "needs root: mount namespace"]
fn what_takes_the_place_has_owner_mode_and_attributes() {
    let host = Host::new();
    let folder = host.tmpfs("tmpfs", "size=8m");
    let path = rich(&host, &folder);
    let [replace, ..] = acts();
    let mut changing = in_force(&host, &path, &replace, "d", "10s");
    let seen = host.inventory(&folder);
    let new = seen.iter().find(|line| line.contains("app.db")).unwrap();
    for part in [
        "mode 106754",
        "owner 1234:4321",
        "user.note",
        "security.capability",
    ] {
        assert!(new.contains(part), "{part}: {new}");
    }
    changing.crash();
    host.closes("d");
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn a_killed_agent_leaves_it_to_the_guardian() {
    let host = Host::new();
    let folder = host.ext4("ext4");
    let path = rich(&host, &folder);
    let before = host.inventory(&folder);
    for (number, act) in acts().iter().enumerate() {
        let drill = format!("d{number}");
        let mut changing = in_force(&host, &path, act, &drill, "1h");
        changing.crash();
        host.closes(&drill);
        assert_eq!(host.inventory(&folder), before, "{act:?}");
    }
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn without_agent_and_guardian_revert_all_does_it() {
    let host = Host::new();
    let folder = host.ext4("ext4");
    let path = rich(&host, &folder);
    let before = host.inventory(&folder);
    for (number, act) in acts().iter().enumerate() {
        let mut changing = in_force(&host, &path, act, &format!("d{number}"), "1h");
        changing.crash_with_guardian();
        assert!(bites(&host, &path, act), "nobody has undone it");
        host.revert_clean();
        assert_eq!(host.inventory(&folder), before, "{act:?}");
    }
}

#[test]
#[ignore = "needs root: mount namespace"]
fn a_file_rewritten_meanwhile_is_kept_and_the_original_too() {
    let host = Host::new();
    let folder = host.tmpfs("tmpfs", "size=8m");
    let path = rich(&host, &folder);
    let [replace, ..] = acts();
    let mut changing = in_force(&host, &path, &replace, "d", "400ms");
    host.command("rm", path.to_str().unwrap());
    host.write(&path, "from the configuration management");
    let (code, told) = changing.ends();
    assert_eq!(code, Some(4), "{told}");
    let kept = folder.join(".cellwall_d_0_0");
    assert!(
        told.contains(&format!("the original is kept as {}", kept.display())),
        "{told}"
    );
    assert_eq!(
        host.read(&path).unwrap(),
        "from the configuration management"
    );
    assert_eq!(host.read(&kept).unwrap().len() as u64, SIZE);
    assert_eq!(
        host.revert_all().status.code(),
        Some(4),
        "still to be decided"
    );
    host.command("rm", kept.to_str().unwrap());
    let told = host.revert_clean();
    assert!(told.contains("drifted"), "{told}");
    assert_eq!(
        host.read(&path).unwrap(),
        "from the configuration management"
    );
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn a_disk_that_fills_up_meanwhile_does_not_keep_the_tail_out() {
    let host = Host::new();
    for folder in [host.tmpfs("tmpfs", "size=1m"), host.ext4("ext4")] {
        let path = rich(&host, &folder);
        let before = host.inventory(&folder);
        let kind = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let act = FileAct::Truncate { bytes: 1 };
        let mut changing = in_force(&host, &path, &act, &kind, "2s");
        let hog = folder.join("hog");
        assert!(!host.succeeds("dd", &format!("if=/dev/zero of={} bs=4096", hog.display())));
        assert!(
            bites(&host, &path, &act),
            "it was full while the tail was away"
        );
        changing.ends_clean();
        host.command("rm", hog.to_str().unwrap());
        assert_eq!(host.inventory(&folder), before);
    }
}

/// Refused, with words; nothing is altered.
fn refused(host: &Host, folder: &Path, path: &Path, act: &FileAct, words: &str) {
    let before = host.inventory(folder);
    let drill = format!(
        "r{}",
        host.state()
            .join("journal")
            .read_dir()
            .map_or(0, |d| d.count())
    );
    let (code, told) = host.change(&drill, &[change(path, act)], "100ms").ends();
    assert_eq!(code, Some(70), "{told}");
    assert!(
        told.contains(words) && told.contains("nothing was altered"),
        "{told}"
    );
    assert_eq!(host.inventory(folder), before, "{told}");
}

#[test]
#[ignore = "needs root: network namespace"]
fn what_is_no_ordinary_file_is_refused() {
    let host = Host::new();
    for (number, (path, word)) in [
        ("/proc/sys/net/ipv4/ip_default_ttl", "a value of the kernel"),
        (
            env!("CARGO_BIN_EXE_cellwall-agent"),
            "this agent's own program",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        for (act_number, act) in acts().iter().enumerate() {
            let drill = format!("r{number}{act_number}");
            let change = change(Path::new(path), act);
            let (code, told) = host.change(&drill, &[change], "100ms").ends();
            assert_eq!(code, Some(70), "{told}");
            assert!(told.contains(word), "{told}");
        }
    }
}

#[test]
#[ignore = "needs root: mount namespace"]
fn a_mode_comes_back_under_the_name_that_a_rotation_gave() {
    let host = Host::new();
    let folder = host.tmpfs("logs", "size=1m");
    let (path, rotated) = (folder.join("a.log"), folder.join("a.log.1"));
    host.write(&path, "one");
    let before = host.inventory(&folder);
    let mut changing = in_force(&host, &path, &FileAct::Chmod { mode: 0o001 }, "d", "1h");
    host.command("mv", &format!("{} {}", path.display(), rotated.display()));
    host.write(&path, "two");
    changing.crash_with_guardian();
    let told = host.revert_clean();
    assert!(!told.contains("drifted"), "{told}");
    assert_eq!(host.read(&path).as_deref(), Some("two"));
    host.command("mv", &format!("{} {}", rotated.display(), path.display()));
    assert_eq!(host.inventory(&folder), before, "{told}");
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn what_has_no_room_or_may_not_be_altered_is_refused() {
    let host = Host::new();
    let [replace, away, chmod, truncate] = acts();
    let folder = host.tmpfs("full", "size=256k");
    let path = rich(&host, &folder);
    host.succeeds(
        "dd",
        &format!("if=/dev/zero of={} bs=4096", folder.join("hog").display()),
    );
    for act in [&replace, &truncate] {
        refused(&host, &folder, &path, act, "are needed");
    }
    // Room for bytes, but for no further file: found when it is made ready.
    let folder = host.tmpfs("inodes", "size=8m,nr_inodes=2");
    let path = folder.join("app.db");
    host.write(&path, "0123456789");
    for act in [&replace, &FileAct::Truncate { bytes: 1 }] {
        refused(&host, &folder, &path, act, "No space left on device");
    }
    let folder = host.ext4("ext4");
    let path = rich(&host, &folder);
    for (flag, on) in [("+i", &path), ("+a", &path), ("+i", &folder)] {
        host.command("chattr", &format!("{flag} {}", on.display()));
        let words = if on == &path {
            "immutable"
        } else {
            "Operation not permitted"
        };
        refused(&host, &folder, &path, &replace, words);
        host.command("chattr", &format!("-ia {}", on.display()));
    }
    host.command("mount", &format!("-o remount,ro {}", folder.display()));
    for act in [&replace, &away, &chmod, &truncate] {
        refused(&host, &folder, &path, act, "read-only");
    }
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn a_hundred_random_deaths_leave_nothing() {
    let host = Host::new();
    let folder = host.ext4("ext4");
    let path = rich(&host, &folder);
    let before = host.inventory(&folder);
    let (first, mut bit) = (first_seed(), 0);
    for seed in first..first + 100 {
        let act = &acts()[seed as usize % 4];
        bit += u32::from(die(&host, change(&path, act), seed, || {
            bites(&host, &path, act)
        }));
        assert_eq!(host.inventory(&folder), before, "seed {seed} {act:?}");
    }
    println!("100 deaths, seeds from {first}: {bit} with the act in force");
    assert!(bit > 5, "the deaths came at other moments: {bit}");
}

/// A disk that becomes read-only between arm and fire: whatever can be said of it is true.
#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn a_disk_that_takes_no_writes_at_fire_is_told_and_tidied_later() {
    let host = Host::new();
    let folder = host.ext4("ext4");
    let path = rich(&host, &folder);
    let before = host.inventory(&folder);
    for (number, act) in acts().into_iter().enumerate() {
        let (change, state, point) = (change(&path, &act), host.state(), folder.clone());
        host.run(move || {
            let remount = |how: &str| {
                let mut command = std::process::Command::new("mount");
                let how = format!("remount,{how}");
                assert!(
                    command
                        .args(["-o", &how])
                        .arg(&point)
                        .status()
                        .unwrap()
                        .success()
                );
            };
            let drill = format!("d{number}");
            let place = Place {
                drill: drill.clone(),
                step: 0,
                index: 0,
                state: state.join("journal"),
                management: Management {
                    operator: Vec::new(),
                    port: PORT,
                },
            };
            let mut hands = Hands::closed(None);
            let undo = changes::capture(&change, &mut hands, &place).unwrap();
            let (mut journal, permit) =
                Journal::create(&place.state, armed(&drill, String::new()), &[]).unwrap();
            changes::load(&change, &undo, &mut hands, &permit).unwrap();
            remount("ro");
            let gate = Gate::from_millis(1);
            let error = changes::apply(&change, &undo, &mut hands, gate, &permit).unwrap_err();
            // What arming made ready cannot be taken away now, so its undo is owed.
            let owed = !matches!(act, FileAct::MoveAway | FileAct::Chmod { .. });
            assert_eq!(matches!(error, Error::Act { .. }), owed, "{act:?}: {error}");
            assert_eq!(
                matches!(error, Error::NotApplied { .. }),
                !owed,
                "{act:?}: {error}"
            );
            assert_eq!(undo.undo(&mut hands, &permit).is_err(), owed, "{act:?}");
            remount("rw");
            assert_eq!(
                undo.undo(&mut hands, &permit).unwrap(),
                Vec::<String>::new()
            );
            let closed = Record::Closed {
                cause: String::new(),
                residue: Vec::new(),
            };
            journal.append(&closed).unwrap();
        });
        assert_eq!(host.inventory(&folder), before);
    }
}

fn armed(drill: &str, boot_id: String) -> Armed {
    Armed {
        format: FORMAT,
        drill: drill.into(),
        conductor: String::new(),
        plan_sha256: String::new(),
        boot_id,
        expires: Boottime::now(),
    }
}

/// What a power cut leaves: the files of a disk as they were, under another boot and maybe another
/// device number; of the kernel's own nothing, so a table of that name is somebody else's.
#[test]
#[ignore = "needs root: mount namespace, loop device, nftables"]
fn after_a_reboot_a_file_is_still_undone_and_a_table_is_not() {
    for in_memory in [false, true] {
        let host = Host::new();
        let folder = host.ext4("ext4");
        let path = rich(&host, &folder);
        let before = host.inventory(&folder);
        let [replace, ..] = acts();
        let mut changing = in_force(&host, &path, &replace, "d", "1h");
        changing.crash_with_guardian();
        let journals = host.state().join("journal");
        let old = journals.join("d.journal");
        let mut intents = agent::journal::read(&old).unwrap().intents;
        std::fs::remove_file(&old).unwrap();
        let Undo::File(undo) = &mut intents[0].undo else {
            panic!("{intents:?}")
        };
        "of another boot".clone_into(&mut undo.boot_id);
        undo.in_memory = in_memory;
        for id in [&mut undo.folder_id, &mut undo.original.id] {
            id.device += 1;
        }
        let tables = firewall::Undo::of_canary(
            "cellwall_d_0_1",
            Management {
                operator: Vec::new(),
                port: PORT,
            },
            Vec::new(),
        );
        intents.push(Intent {
            step: 0,
            index: 1,
            change: "firewall".into(),
            undo: Undo::Firewall(tables),
        });
        drop(Journal::create(&journals, armed("d", "of another boot".into()), &intents).unwrap());
        host.command("nft", "add table inet cellwall_d_0_1");
        let output = host.revert_all();
        assert_eq!(
            output.status.code(),
            Some(4),
            "the table is there: {}",
            text(&output)
        );
        assert!(
            host.command("nft", "list tables")
                .contains("cellwall_d_0_1")
        );
        assert_eq!(host.inventory(&folder) == before, !in_memory);
        host.command("nft", "delete table inet cellwall_d_0_1");
        host.revert_clean();
    }
}
