//! What is undone while a killed agent has not ended, and what waits for its end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::changes::{self, Hands, Undo};
use agent::journal;
use agent::revert::{Ahead, take_over_behind};
use scenarios::change::{Change, FileAct, FileChange, FilesystemAct, FilesystemChange};

use crate::support::make::freeze;
use crate::support::*;

fn of_filesystem(point: &Path, act: FilesystemAct) -> Change {
    Change::Filesystem(FilesystemChange {
        path: point.to_str().unwrap().into(),
        act,
    })
}

/// The undo that arming would have journaled, and the journal with it.
fn armed(host: &Host, kind: &str, change: Change) -> PathBuf {
    let place = host.place();
    let state = host.state();
    let undo: Undo = host
        .run(move || changes::capture(&change, &mut Hands::closed(Some(&state)), &place).unwrap());
    host.journals(kind, undo);
    journal::path_of(&journal::directory(&host.state()), "d")
}

/// Walks ahead, lets the agent's last call come, and takes over: what each left undone.
fn ahead_and_behind(
    host: &Host,
    path: &Path,
    late: impl FnOnce() + Send + 'static,
) -> (Vec<String>, Vec<String>) {
    let (path, state) = (path.to_owned(), host.state());
    host.run(move || {
        let mut hands = Hands::closed(Some(&state));
        let mut ahead = Ahead::default();
        let left = ahead.walk(&path, &mut hands).unwrap();
        late();
        let taken = take_over_behind(&path, Duration::ZERO, &mut hands, "test", &ahead);
        (left, taken.unwrap().unwrap().residue())
    })
}

/// The agent waits in FIFREEZE for somebody who writes; the guardian, that comes first, finds nothing frozen.
#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn a_freeze_that_comes_late_is_thawed() {
    let host = Host::new();
    let point = host.ext4("ext4");
    let path = armed(
        &host,
        "filesystem",
        of_filesystem(&point, FilesystemAct::Freeze),
    );
    let marker = path.with_file_name("cellwall_d_0_0.begun");
    std::fs::write(&marker, "").unwrap();
    let frozen = point.clone();
    let late = move || {
        let mut freeze = std::process::Command::new("fsfreeze");
        assert!(freeze.arg("-f").arg(&frozen).status().unwrap().success());
    };
    let (left, residue) = ahead_and_behind(&host, &path, late);
    assert!(
        left.is_empty() && residue.is_empty(),
        "{left:?} {residue:?}"
    );
    assert!(
        !host.succeeds("fsfreeze", &format!("-u {}", point.display())),
        "it was thawed"
    );
    assert!(!marker.exists() && host.has_closed("d"));
}

/// The agent waits in RENAME_EXCHANGE or ftruncate(2) on a disk that hangs.
#[test]
#[ignore = "needs root: mount namespace, loop device"]
fn files_wait_for_the_end_of_whoever_may_still_rename_them() {
    let acts = [
        FileAct::Truncate { bytes: 4 },
        FileAct::MoveAway,
        FileAct::Replace {
            content: "theirs, they think".into(),
        },
    ];
    for act in acts {
        let host = Host::new();
        let folder = host.ext4("ext4");
        let file = folder.join("app.db");
        host.write(&file, "thirty bytes that must be kept");
        let before = host.read(&file);
        let path = armed(
            &host,
            "file",
            Change::File(FileChange {
                path: file.to_str().unwrap().into(),
                act,
            }),
        );
        let sidecar = folder.join(".cellwall_d_0_0");
        let beside = sidecar.clone();
        host.run(move || std::fs::write(beside, "what the agent put there first").unwrap());
        let seen = host.inventory(&folder);
        let (path, state) = (path.clone(), host.state());
        let left = host.run(move || {
            let mut hands = Hands::closed(Some(&state));
            Ahead::default().walk(&path, &mut hands).unwrap()
        });
        assert!(left[0].contains("waits for the agent's end"), "{left:?}");
        assert_eq!(host.inventory(&folder), seen, "nothing was touched");
        assert_eq!(host.read(&file), before);
    }
}

/// The read-only mount is the newest change and its marker is on the disk that hangs.
#[test]
#[ignore = "needs root: mount and network namespaces, loop device"]
fn a_state_disk_that_hangs_holds_up_no_undo() {
    let host = Host::new();
    let (disk, beside) = (host.ext4("disk"), host.tmpfs("beside", "size=1m"));
    host.command("chmod", &format!("0700 {}", disk.display()));
    let (from, to) = (disk.display(), host.state());
    host.command("mount", &format!("--bind {from} {}", to.display()));
    let sleeper = Sleeper::new();
    let read_only = of_filesystem(&beside, FilesystemAct::ReadOnly);
    let mut changing = host.change("d", &[freeze(&sleeper), read_only], "1500ms");
    assert!(changing.says("in force"), "{:?}", changing.ends());
    host.command("fsfreeze", &format!("-f {from}"));
    assert_eq!(sleeper.state(), 'T');
    until("the process runs", || sleeper.state() == 'S');
    until("one can write", || host.mountinfo(&beside).contains(" rw,"));
    assert_eq!(state_of(changing.pid()), 'D', "it waits for the disk");
    host.command("fsfreeze", &format!("-u {from}"));
    let (_, text) = changing.ends();
    until("the marker is gone", || {
        let journals = journal::directory(&host.state());
        host.run(move || !journals.join("cellwall_d_0_1.begun").exists())
    });
    let closed = host.succeeds(
        "grep",
        &format!("-q \"closed\" {}/journal/d.journal", to.display()),
    );
    assert!(closed, "{text}");
    host.revert_clean();
}
