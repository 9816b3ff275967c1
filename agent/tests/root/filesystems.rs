//! File systems that a drill stops, makes read-only or fills.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use agent::changes::{self, Error, Hands};
use scenarios::change::{Change, FileAct, FileChange, FilesystemAct, FilesystemChange};

use crate::support::*;

fn change(point: &Path, act: FilesystemAct) -> Change {
    Change::Filesystem(FilesystemChange {
        path: point.to_str().unwrap().into(),
        act,
    })
}

fn freeze(point: &Path) -> Change {
    change(point, FilesystemAct::Freeze)
}

/// A writer that waits in the kernel. It must be let go before the test ends.
fn waiting_writer(host: &Host, point: &Path, changing: &mut Changing) -> Child {
    loop {
        let file = point.join("written");
        let mut writer = host.run(move || {
            let mut command = Command::new("sh");
            command.args(["-c", "echo x > \"$0\""]).arg(file);
            command.spawn().unwrap()
        });
        std::thread::sleep(Duration::from_millis(150));
        match writer.try_wait().unwrap() {
            None => return writer,
            Some(_) => assert!(
                changing.child.try_wait().unwrap().is_none(),
                "no writer ever waited"
            ),
        }
    }
}

fn is_frozen(host: &Host, point: &Path) -> bool {
    // Only what is frozen can be thawed: so this ends it, too.
    host.succeeds("fsfreeze", &format!("-u {}", point.display()))
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn writers_wait_for_the_end_of_a_freeze_and_readers_do_not() {
    let host = Host::new();
    let point = host.ext4("ext4");
    host.write(&point.join("there"), "text");
    let before = host.inventory(&point);
    let mut changing = host.change("d", &[freeze(&point)], "1500ms");
    assert!(changing.says("in force"));
    let mut writer = waiting_writer(&host, &point, &mut changing);
    assert_eq!(host.read(&point.join("there")).unwrap(), "text");
    assert_eq!(writer.try_wait().unwrap(), None);
    changing.ends_clean();
    assert!(writer.wait().unwrap().success());
    host.command("rm", point.join("written").to_str().unwrap());
    assert!(!is_frozen(&host, &point));
    assert_eq!(host.inventory(&point).len(), before.len());
    let left = host.state().join("journal").read_dir().unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["d.journal"], "the marker is gone");
}

/// What says that it began is there, and not where it is looked for.
#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn a_state_directory_that_was_moved_does_not_keep_a_freeze() {
    for act in [FilesystemAct::Freeze, FilesystemAct::ReadOnly] {
        let host = Host::new();
        let point = host.ext4("ext4");
        let (state, moved) = (host.state(), host.path("moved"));
        let mut changing = host.change("d", &[change(&point, act)], "1s");
        assert!(changing.says("in force"));
        std::fs::rename(&state, &moved).unwrap();
        let (code, told) = changing.ends();
        assert_eq!(code, Some(4), "{told}");
        assert!(told.contains("that is not where it was"), "{told}");
        std::fs::create_dir(&state).unwrap();
        let reverted = host.run(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_cellwall-agent"));
            command.args(["revert", "--all", "--state-dir"]).arg(&moved);
            command.output().unwrap()
        });
        assert!(reverted.status.success(), "{}", text(&reverted));
        host.write(&point.join("goes"), "on");
        assert!(!is_frozen(&host, &point));
    }
}

/// Its way back would wait in the kernel until the other drill is over.
#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn what_another_drill_alters_is_not_stopped_nor_the_other_way_round() {
    let host = Host::new();
    let point = host.ext4("ext4");
    let path = point.join("there");
    host.write(&path, "text");
    let (act, path) = (FileAct::MoveAway, path.display().to_string());
    let away = Change::File(FileChange { path, act });
    let pairs = [
        (&away, &freeze(&point), "alters files of"),
        (&freeze(&point), &away, "keeps writers from"),
    ];
    for (number, (first, second, word)) in pairs.into_iter().enumerate() {
        let mut changing =
            host.change(&format!("a{number}"), std::slice::from_ref(first), "1500ms");
        assert!(changing.says("in force"));
        let drill = format!("b{number}");
        let (code, told) = host
            .change(&drill, std::slice::from_ref(second), "1s")
            .ends();
        assert_eq!(code, Some(70), "{told}");
        assert!(told.contains(word), "{told}");
        changing.ends_clean();
    }
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn another_name_for_the_file_that_fills_does_not_keep_it_full() {
    let host = Host::new();
    let point = host.ext4("ext4");
    let free = || host.command("stat", &format!("-fc %a {}", point.display()));
    let before = free();
    let fill = change(&point, FilesystemAct::Fill { leave_bytes: 0 });
    let mut changing = host.change("d", &[fill], "1s");
    assert!(changing.says("in force"));
    let ours = point.join(".cellwall_d_0_0");
    let copy = point.join("copy");
    host.command("ln", &format!("{} {}", ours.display(), copy.display()));
    changing.ends_clean();
    assert_eq!(free(), before);
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn a_killed_agent_leaves_nobody_waiting() {
    let host = Host::new();
    let point = host.ext4("ext4");
    let mut changing = host.change("d", &[freeze(&point)], "1h");
    assert!(changing.says("in force"));
    let mut writer = waiting_writer(&host, &point, &mut changing);
    changing.crash();
    assert!(writer.wait().unwrap().success());
    host.closes("d");
    assert!(!is_frozen(&host, &point));
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn a_freeze_of_somebody_else_is_not_ended() {
    let host = Host::new();
    let point = host.ext4("ext4");
    host.command("fsfreeze", &format!("-f {}", point.display()));
    let (code, told) = host.change("d", &[freeze(&point)], "100ms").ends();
    assert!(
        told.contains("frozen already, by somebody else"),
        "{code:?} {told}"
    );
    host.revert_clean();
    assert!(is_frozen(&host, &point), "theirs was ended");

    // Theirs comes between arm and fire of an agent that is killed there.
    let mut changing = host.change("e", &[freeze(&point)], "1h");
    assert!(changing.says("armed"));
    changing.crash_with_guardian();
    host.command("fsfreeze", &format!("-f {}", point.display()));
    host.revert_clean();
    host.closes("e");
    assert!(is_frozen(&host, &point), "theirs was ended");
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn what_is_unmounted_while_it_is_frozen_is_not_called_well() {
    let host = Host::new();
    let point = host.ext4("ext4");
    let device = host.command("findmnt", &format!("-no SOURCE {}", point.display()));
    let mut changing = host.change("d", &[freeze(&point)], "1s");
    assert!(changing.says("in force"));
    let marker = host.state().join("journal/cellwall_d_0_0.begun");
    until("it began", || marker.exists());
    std::thread::sleep(Duration::from_millis(200));
    host.command("umount", &point.display().to_string());
    let (code, told) = changing.ends();
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains("still is frozen"), "{told}");
    host.command("mount", &format!("{} {}", device.trim(), point.display()));
    host.revert_clean();
    host.write(&point.join("goes"), "on");
    assert!(!is_frozen(&host, &point));
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn one_mount_is_read_only_and_the_other_one_of_the_same_disk_is_not() {
    let host = Host::new();
    let point = host.ext4("ext4");
    let other = host.path("other");
    std::fs::create_dir(&other).unwrap();
    host.command(
        "mount",
        &format!("--bind {} {}", point.display(), other.display()),
    );
    host.command(
        "mount",
        &format!("-o remount,bind,nosuid,noatime {}", point.display()),
    );
    let (before, files) = (host.mountinfo(&point), host.inventory(&point));
    let touch = |folder: &Path| host.succeeds("touch", folder.join("new").to_str().unwrap());
    let read_only = [change(&point, FilesystemAct::ReadOnly)];
    for end in ["by its time", "by the guardian"] {
        let drill = if end == "by its time" { "d" } else { "e" };
        let lasts = if end == "by its time" { "1s" } else { "1h" };
        let mut changing = host.change(drill, &read_only, lasts);
        assert!(changing.says("in force"));
        until("read-only", || host.mountinfo(&point).contains(" ro,"));
        assert!(!touch(&point) && touch(&other));
        host.command("rm", other.join("new").to_str().unwrap());
        match drill {
            "d" => changing.ends_clean(),
            _ => changing.crash(),
        }
        host.closes(drill);
        assert_eq!(host.mountinfo(&point), before, "{end}");
        assert_eq!(host.inventory(&point), files);
    }
    // With a writer on it, it cannot be: nothing is altered, and the writer goes on.
    let mut writer = {
        let file = point.join("log");
        host.run(move || {
            let mut command = Command::new("sh");
            command
                .args(["-c", "exec 3> \"$0\"; read _; echo x >&3"])
                .arg(file);
            command.stdin(std::process::Stdio::piped()).spawn().unwrap()
        })
    };
    until("it is open", || host.read(&point.join("log")).is_some());
    let (_, told) = host.change("f", &read_only, "100ms").ends();
    assert!(told.contains("open for writing"), "{told}");
    assert_eq!(host.mountinfo(&point), before);
    drop(writer.stdin.take());
    assert!(writer.wait().unwrap().success());
}

fn free(host: &Host, point: &Path) -> u64 {
    let point = point.to_owned();
    host.run(move || {
        let seen = rustix::fs::statvfs(&point).unwrap();
        seen.f_bavail * seen.f_frsize
    })
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn a_full_disk_has_the_room_that_was_asked_for_and_then_all_of_it() {
    let host = Host::new();
    const LEAVE: u64 = 1 << 20;
    for point in [host.tmpfs("tmpfs", "size=8m"), host.ext4("ext4")] {
        host.write(&point.join("there"), "text");
        let (files, room) = (host.inventory(&point), free(&host, &point));
        let kind = point.file_name().unwrap().to_str().unwrap();
        for (end, lasts) in [("t", "1s"), ("g", "1h")] {
            let drill = format!("{kind}-{end}");
            let fill = [change(&point, FilesystemAct::Fill { leave_bytes: LEAVE })];
            let mut changing = host.change(&drill, &fill, lasts);
            assert!(changing.says("in force"));
            until("it is full", || free(&host, &point) <= LEAVE);
            assert!(
                free(&host, &point) + (64 << 10) >= LEAVE,
                "{}",
                free(&host, &point)
            );
            match end {
                "t" => changing.ends_clean(),
                _ => changing.crash(),
            }
            host.closes(&drill);
            assert_eq!(host.inventory(&point), files, "{drill}");
            until("its room is back", || free(&host, &point) == room);
        }
    }
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn what_must_not_be_stopped_is_refused() {
    let host = Host::new();
    let (point, tmpfs) = (host.ext4("ext4"), host.tmpfs("tmpfs", "size=1m"));
    let folder = point.join("folder");
    host.command("mkdir", folder.to_str().unwrap());
    let fill = |leave_bytes| FilesystemAct::Fill { leave_bytes };
    let file = Change::File(FileChange {
        path: point.join("f").display().to_string(),
        act: FileAct::MoveAway,
    });
    host.write(&point.join("f"), "");
    let cases = [
        (vec![freeze(&folder)], "not a mount point"),
        (vec![freeze(&point.join("f"))], "no such folder"),
        (vec![change(&tmpfs, fill(1 << 30))], "are to be left"),
        (vec![freeze(&point), file.clone()], "its own way back"),
        (
            vec![file, change(&point, FilesystemAct::ReadOnly)],
            "its own way back",
        ),
    ];
    for (number, (changes, words)) in cases.iter().enumerate() {
        let (code, told) = host.change(&format!("r{number}"), changes, "100ms").ends();
        assert_eq!(code, Some(70), "{told}");
        assert!(
            told.contains(words) && told.contains("nothing was altered"),
            "{words}: {told}"
        );
    }
    let (_, told) = host.change("t", &[freeze(&tmpfs)], "100ms").ends();
    assert!(told.contains("tmpfs cannot be frozen"), "{told}");
    host.command("mount", &format!("-o remount,ro {}", point.display()));
    let (_, told) = host.change("u", &[freeze(&point)], "100ms").ends();
    assert!(told.contains("read-only already"), "{told}");
}

/// Only captured, never fired: a guard that failed here would stop the machine that tests.
#[test]
#[ignore = "needs root: mount namespace"]
fn the_root_file_system_is_refused_by_whatever_mount() {
    let host = Host::new();
    let (root, again) = (Path::new("/"), host.path("again"));
    std::fs::create_dir(&again).unwrap();
    host.command("mount", &format!("--bind / {}", again.display()));
    let fill = || FilesystemAct::Fill { leave_bytes: 0 };
    let changes = [
        freeze(root),
        change(root, fill()),
        change(root, FilesystemAct::ReadOnly),
        freeze(&again),
        change(&again, fill()),
    ];
    let place = host.place();
    host.run(move || {
        let mut hands = Hands::closed(None);
        for change in changes {
            let error = changes::capture(&change, &mut hands, &place).unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{error}");
            assert!(error.to_string().contains("root file system"), "{error}");
        }
    });
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn what_the_agent_itself_needs_is_refused() {
    let host = Host::new();
    let point = host.ext4("ext4");
    // Its own log would stop the agent, and with it the end of the freeze.
    let (log, plan, state) = (point.join("log"), host.path("t.json"), host.state());
    let at_point = serde_json::to_string(&[freeze(&point)]).unwrap();
    std::fs::write(&plan, at_point).unwrap();
    let status = host.run(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cellwall-agent"));
        command
            .args(["change", "--drill", "l", "--state-dir"])
            .arg(state)
            .arg(plan);
        command
            .stderr(std::fs::File::create(log).unwrap())
            .status()
            .unwrap()
    });
    assert_eq!(status.code(), Some(70));
    let told = host.read(&point.join("log")).unwrap();
    assert!(told.contains("the agent itself writes to it"), "{told}");

    // A host whose state is on the disk in question.
    let state = host.state();
    host.command("mount", &format!("-t tmpfs none {}", state.display()));
    let on_state = [change(&state, FilesystemAct::ReadOnly)];
    let (_, told) = host.change("s", &on_state, "100ms").ends();
    assert!(told.contains("holds the agent's state"), "{told}");
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn thirty_random_deaths_leave_nothing() {
    let host = Host::new();
    let point = host.ext4("ext4");
    host.write(&point.join("there"), "text");
    let seen = || {
        (
            host.mountinfo(&point),
            host.inventory(&point),
            free(&host, &point),
        )
    };
    let (before, first, mut bit) = (seen(), first_seed(), 0);
    for seed in first..first + 30 {
        let act = match seed % 3 {
            0 => FilesystemAct::Freeze,
            1 => FilesystemAct::ReadOnly,
            _ => FilesystemAct::Fill {
                leave_bytes: 1 << 20,
            },
        };
        let marker = host
            .state()
            .join(format!("journal/cellwall_d{seed}_0_0.begun"));
        let bites = || marker.exists() || free(&host, &point) <= 1 << 20;
        bit += u32::from(die(&host, change(&point, act.clone()), seed, bites));
        assert!(!is_frozen(&host, &point), "seed {seed}");
        until("its room is back", || free(&host, &point) == before.2);
        assert_eq!(seen(), before, "seed {seed} {act:?}");
    }
    println!("30 deaths, seeds from {first}: {bit} with the act in force");
    assert!(bit > 0, "the deaths came at other moments");
}

#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn a_mount_that_moved_is_found_and_one_that_went_is_told() {
    let host = Host::new();
    let (point, moved) = (host.ext4("ext4"), host.path("moved"));
    std::fs::create_dir(&moved).unwrap();
    let source = host.command("findmnt", &format!("-no SOURCE {}", point.display()));
    let acts = [
        FilesystemAct::Freeze,
        FilesystemAct::ReadOnly,
        FilesystemAct::Fill { leave_bytes: 0 },
    ];
    for (number, act) in acts.into_iter().enumerate() {
        let drill = format!("m{number}");
        let bites = |point: &Path| {
            let marker = format!("journal/cellwall_{drill}_0_0.begun");
            host.state().join(marker).exists() || free(&host, point) == 0
        };
        let mut changing = host.change(&drill, &[change(&point, act.clone())], "1s");
        assert!(changing.says("in force"));
        until("it bites", || bites(&point));
        host.command(
            "mount",
            &format!("--move {} {}", point.display(), moved.display()),
        );
        let (code, told) = changing.ends();
        // A name in a folder is where its path leads, and that is another disk now.
        let fill = matches!(act, FilesystemAct::Fill { .. });
        assert_eq!(code, Some(if fill { 4 } else { 0 }), "{told}");
        assert!(!fill || told.contains("mount it there again"), "{told}");
        host.command(
            "mount",
            &format!("--move {} {}", moved.display(), point.display()),
        );
        host.revert_clean();
        host.write(&point.join("goes"), "on");
        assert!(!is_frozen(&host, &point));
    }
    let read_only = [change(&point, FilesystemAct::ReadOnly)];
    let mut changing = host.change("g", &read_only, "1s");
    assert!(changing.says("in force"));
    until("read-only", || host.mountinfo(&point).contains(" ro,"));
    let folder = host.path("keeps-the-device");
    std::fs::create_dir(&folder).unwrap();
    host.command("mount", &format!("{} {}", source.trim(), folder.display()));
    host.command("umount", &point.display().to_string());
    let (code, told) = changing.ends();
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("drifted") && told.contains("not mounted any more"),
        "{told}"
    );
}
