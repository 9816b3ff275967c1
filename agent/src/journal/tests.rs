//! The journal against torn tails, flipped bytes and forged permits.

use super::*;
use crate::boottime::Boottime;
use crate::changes::{Management, Undo, firewall};
use crate::kernel::nft::{Family, Table};

fn armed(drill: &str) -> Armed {
    Armed {
        format: FORMAT,
        drill: drill.into(),
        conductor: "conductor".into(),
        plan_sha256: "00".into(),
        boot_id: "boot".into(),
        expires: Boottime(7),
    }
}

fn intent(index: u32) -> Intent {
    let name = format!("cellwall_d_0_{index}");
    let undo = Undo::Firewall(firewall::Undo {
        tables: vec![Table {
            family: Family::Inet,
            name,
        }],
        devices: vec!["eth0".into()],
        inside: Vec::new(),
        lasting: Default::default(),
        management: Management {
            operator: vec!["10.0.0.1".parse().unwrap()],
            port: 7443,
        },
    });
    Intent {
        step: 0,
        index,
        change: "firewall".into(),
        undo,
    }
}

const CLOSED: fn() -> Record = || Record::Closed {
    cause: "revert".into(),
    residue: Vec::new(),
};

/// A closed journal of two changes, and where it lies.
fn written() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of(directory.path(), "d");
    let (mut journal, _permit) =
        Journal::create(directory.path(), armed("d"), &[intent(0), intent(1)]).unwrap();
    journal
        .append(&Record::Fired {
            at: Boottime(5),
            deadline: Boottime(9),
        })
        .unwrap();
    journal.append(&CLOSED()).unwrap();
    (directory, path)
}

#[test]
fn what_is_written_is_read_back() {
    let (_directory, path) = written();
    let contents = read(&path).unwrap();
    assert_eq!(contents.armed, Some(armed("d")));
    assert_eq!(contents.intents, [intent(0), intent(1)]);
    assert_eq!(contents.over_by(), Some(Boottime(9)));
    assert!(contents.closed && !contents.corrupt && !contents.torn);
}

#[test]
fn the_intents_are_on_disk_before_there_is_a_permit() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _permit) = Journal::create(directory.path(), armed("d"), &[intent(0)]).unwrap();
    // Seen by another reader, while the writer still has it open.
    let contents = read(&path_of(directory.path(), "d")).unwrap();
    assert_eq!(contents.intents.len(), 1);
    assert_eq!(
        contents.over_by(),
        Some(Boottime(7)),
        "not fired: when the arm expires"
    );
    drop(journal);
}

#[test]
fn no_permit_comes_of_a_directory_that_cannot_be_written() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Journal::create(file.path(), armed("d"), &[]).err().unwrap();
    assert!(error.to_string().contains("nothing was altered"), "{error}");
}

#[test]
fn every_cut_of_the_file_loses_only_the_line_it_falls_into() {
    let (_directory, path) = written();
    let whole = std::fs::read(&path).unwrap();
    let ends: Vec<usize> = (0..whole.len())
        .filter(|n| whole[*n] == b'\n')
        .map(|n| n + 1)
        .collect();
    assert_eq!(ends.len(), 5);
    for length in 0..whole.len() {
        let contents = Contents::parse(&whole[..length]);
        let lines = ends.iter().filter(|end| **end <= length).count();
        // Three lines arm, and they are whole before the file has its name: what is missing of them was
        // lost later. Behind them a torn tail is no corruption.
        assert_eq!(contents.corrupt, lines < 3, "{length}");
        assert_eq!(
            contents.torn,
            length > 0 && !ends.contains(&length),
            "{length}"
        );
        assert_eq!(contents.armed.is_some(), lines >= 1, "{length}");
        assert_eq!(
            contents.intents.len(),
            lines.saturating_sub(1).min(2),
            "{length}"
        );
        assert!(!contents.closed, "{length}");
        assert!(!contents.is_settled(), "{length}");
    }
    assert!(Contents::parse(&whole).is_settled());
}

#[test]
fn every_changed_byte_is_noticed_and_the_rest_is_still_read() {
    let (_directory, path) = written();
    let whole = std::fs::read(&path).unwrap();
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for (at, bit) in (0..whole.len()).flat_map(|at| [(at, 1), (at, 0x20)]) {
        let mut broken = whole.clone();
        broken[at] ^= bit;
        let contents = Contents::parse(&broken);
        assert!(contents.corrupt, "byte {at}");
        assert!(!contents.is_settled(), "byte {at}");
        // A lost line end takes two lines with it.
        let lost = if whole[at] == b'\n' { 2 } else { 1 };
        let expected = if at < second { 2 } else { 2 - lost };
        let expected = if at + 1 == second { 1 } else { expected };
        assert!(contents.intents.len() >= expected, "byte {at}");
    }
}

#[test]
fn a_torn_tail_is_cut_off_so_that_what_follows_can_be_read() {
    let (_directory, path) = written();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let (mut journal, contents, _permit) = Journal::reopen(&path, Duration::ZERO).unwrap();
    assert!(contents.torn && !contents.closed);
    // Nothing is written before there is something to write: undoing comes first.
    assert_eq!(std::fs::read(&path).unwrap(), whole[..whole.len() - 9]);
    journal.append(&CLOSED()).unwrap();
    let contents = read(&path).unwrap();
    assert!(contents.closed && !contents.corrupt && !contents.torn);
}

#[test]
fn a_file_that_is_no_journal_is_not_cut() {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of(directory.path(), "x");
    std::fs::write(&path, "2026").unwrap(); // looks like the beginning of a line
    let (journal, contents, _permit) = Journal::reopen(&path, Duration::ZERO).unwrap();
    assert!(contents.corrupt && contents.torn && journal.is_corrupt());
    drop(journal);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "2026");
}

#[test]
fn a_drill_id_is_used_once() {
    let (directory, _path) = written();
    let error = Journal::create(directory.path(), armed("d"), &[])
        .err()
        .unwrap();
    assert!(matches!(error, Error::Used(_)), "{error}");
}

#[test]
fn a_locked_journal_is_not_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of(directory.path(), "d");
    let (journal, _permit) = Journal::create(directory.path(), armed("d"), &[]).unwrap();
    let error = Journal::reopen(&path, Duration::from_millis(50))
        .err()
        .unwrap();
    assert!(matches!(error, Error::Locked(_)), "{error}");
    drop(journal);
    Journal::reopen(&path, Duration::ZERO).unwrap();
}

#[test]
fn another_format_is_not_taken_for_ours() {
    let other = Armed {
        format: FORMAT + 1,
        ..armed("d")
    };
    let contents = Contents::parse(&Link::default().encode(&[Record::Armed(other)]));
    assert!(contents.corrupt);
}

/// The lines of a closed journal, each with its end.
fn lines() -> Vec<Vec<u8>> {
    let (_directory, path) = written();
    let whole = std::fs::read(path).unwrap();
    whole
        .split_inclusive(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

#[test]
fn a_whole_line_that_is_lost_twice_or_elsewhere_is_noticed() {
    let lines = lines();
    let last = lines.len() - 1;
    for at in 0..=last {
        let mut lost = lines.clone();
        lost.remove(at);
        let contents = Contents::parse(&lost.concat());
        // Its last line lost is what a crash leaves; then it is open.
        assert_eq!(contents.corrupt, at != last, "line {at}");
        assert!(!contents.is_settled(), "line {at}");
        for behind in at..=last {
            let mut twice = lines.clone();
            twice.insert(behind + 1, lines[at].clone());
            let contents = Contents::parse(&twice.concat());
            assert!(contents.corrupt, "line {at} again behind {behind}");
            assert!(!contents.is_settled());
        }
        for other in at + 1..=last {
            let mut swapped = lines.clone();
            swapped.swap(at, other);
            let contents = Contents::parse(&swapped.concat());
            assert!(contents.corrupt, "{at} and {other} swapped");
            assert_eq!(contents.intents.len(), 2, "and nothing of it is lost");
        }
    }
}

#[test]
fn another_drills_journal_under_this_name_is_not_taken_for_ours() {
    let (_directory, path) = written();
    let other = path.with_file_name("e.journal");
    std::fs::copy(&path, &other).unwrap();
    assert!(read(&path).unwrap().is_settled());
    let contents = read(&other).unwrap();
    assert!(contents.corrupt && !contents.is_settled());
}

#[test]
fn what_was_closed_elsewhere_closes_nothing_here() {
    let foreign = lines().pop().unwrap();
    let mut open = lines();
    open.pop();
    open.push(Link::default().encode(&[CLOSED()])); // another journal's, which has not even this place
    let contents = Contents::parse(&open.concat());
    assert!(contents.corrupt && !contents.closed);
    open.pop();
    open.push(foreign);
    let contents = Contents::parse(&open.concat());
    assert!(
        contents.corrupt && !contents.closed,
        "another drill's, at the same place"
    );
}

#[test]
fn nothing_is_taken_off_what_is_owed_by_a_line_out_of_place() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _permit) =
        Journal::create(directory.path(), armed("d"), &[intent(0)]).unwrap();
    journal.append(&Record::Applied { index: 0 }).unwrap();
    let path = path_of(directory.path(), "d");
    let sound = std::fs::read(&path).unwrap();
    let refused = Record::NotApplied { index: 0 };
    let mut forged = sound.clone();
    forged.extend(Link::default().encode(std::slice::from_ref(&refused)));
    let contents = Contents::parse(&forged);
    assert!(contents.corrupt && contents.owes(&intent(0)));
    journal.append(&refused).unwrap();
    let contents = read(&path).unwrap();
    assert!(!contents.corrupt && !contents.owes(&intent(0)));
}

#[test]
fn a_corrupt_journal_goes_on_behind_what_is_unreadable() {
    let (_directory, path) = written();
    let mut broken = std::fs::read(&path).unwrap();
    let last = broken.len() - 1;
    broken[last] = b'x'; // its last line has no end and is longer than it says
    std::fs::write(&path, &broken).unwrap();
    let (mut journal, contents, _permit) = Journal::reopen(&path, Duration::ZERO).unwrap();
    assert!(contents.corrupt && journal.is_corrupt());
    journal.append(&Record::Undone { index: 0 }).unwrap();
    let contents = read(&path).unwrap();
    assert!(contents.corrupt && contents.undone.contains(&0));
}

#[test]
fn a_journal_that_cannot_be_written_still_gives_its_permit() {
    let (_directory, path) = written();
    // A running program's file cannot be opened for writing (ETXTBSY): as on a read-only disk.
    let program = path.with_file_name("program.journal");
    std::fs::copy("/bin/sleep", &program).unwrap();
    std::fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let mut running = std::process::Command::new(&program)
        .arg("60")
        .spawn()
        .unwrap();
    let reopened = Journal::reopen(&program, Duration::ZERO);
    running.kill().unwrap();
    running.wait().unwrap();
    let (mut journal, contents, _permit) = reopened.unwrap();
    assert!(contents.corrupt, "a program is no journal");
    assert!(journal.append(&CLOSED()).is_err());
}

#[test]
fn old_closed_journals_are_forgotten_and_open_ones_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let (_open, _permit) = Journal::create(directory.path(), armed("open"), &[]).unwrap();
    for number in 0..KEPT + 5 {
        let drill = format!("d{number}");
        let (mut journal, _permit) = Journal::create(directory.path(), armed(&drill), &[]).unwrap();
        journal.append(&CLOSED()).unwrap();
    }
    let left = all(directory.path()).unwrap();
    assert_eq!(
        left.len(),
        KEPT + 1,
        "the kept ones and the open one: {left:?}"
    );
    assert!(path_of(directory.path(), "open").exists());
}

#[test]
fn a_journal_that_was_emptied_says_that_something_is_missing() {
    let (_directory, path) = written();
    std::fs::write(&path, "").unwrap();
    let contents = read(&path).unwrap();
    assert!(contents.corrupt && !contents.is_settled());
}

#[test]
fn what_a_crash_leaves_of_the_first_write_has_no_name_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let part = directory.path().join("d.part");
    std::fs::write(&part, "12 tor").unwrap();
    assert!(all(directory.path()).unwrap().is_empty());
    let (_journal, _permit) = Journal::create(directory.path(), armed("d"), &[]).unwrap();
    assert!(!part.exists());
    let written = std::fs::File::create(&part).unwrap();
    written.lock().unwrap();
    sweep(directory.path());
    assert!(part.exists(), "somebody is writing it");
    drop(written);
    sweep(directory.path());
    assert!(!part.exists());
}

#[test]
fn no_permit_comes_of_a_directory_that_others_can_write() {
    use std::os::unix::fs::PermissionsExt;
    for (loose, mode) in [("journal", 0o777), ("journal", 0o720), ("", 0o702)] {
        let state = tempfile::tempdir().unwrap();
        let directory = super::directory(state.path());
        std::fs::create_dir(&directory).unwrap();
        let loosened = state.path().join(loose);
        std::fs::set_permissions(&loosened, PermissionsExt::from_mode(mode)).unwrap();
        let error = Journal::create(&directory, armed("d"), &[]).err().unwrap();
        assert!(matches!(error, Error::Exposed { .. }), "{error}");
        assert!(
            error.to_string().contains(&format!("{mode:04o}")),
            "{error}"
        );
        assert!(all(&directory).unwrap().is_empty());
        std::fs::set_permissions(&loosened, PermissionsExt::from_mode(0o700)).unwrap();
        Journal::create(&directory, armed("d"), &[]).unwrap();
    }
}

#[test]
fn undos_that_are_missing_are_missed_also_when_somebody_has_gone_on_behind_them() {
    let (_directory, path) = written();
    let two: Vec<u8> = lines().into_iter().take(2).flatten().collect(); // of three that arm
    std::fs::write(&path, two).unwrap();
    let (mut journal, contents, _permit) = Journal::reopen(&path, Duration::ZERO).unwrap();
    assert!(contents.corrupt);
    journal.append(&Record::Undone { index: 0 }).unwrap();
    let contents = read(&path).unwrap();
    assert!(contents.corrupt && contents.undone.contains(&0));
}

/// An undo that cannot be made is tried for as long as it takes, and a disk is finite.
#[test]
fn what_was_said_last_of_an_undo_is_not_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of(directory.path(), "d");
    let created = Journal::create(directory.path(), armed("d"), &[intent(0), intent(1)]);
    let failed = |why: &str| Record::UndoFailed {
        index: 0,
        why: why.to_owned(),
    };
    let length = |journal: &mut Journal, record: &Record| {
        let before = path.metadata().unwrap().len();
        journal.append(record).unwrap();
        path.metadata().unwrap().len() - before
    };
    let (mut journal, _permit) = created.unwrap();
    assert!(length(&mut journal, &failed("busy")) > 0);
    assert_eq!(length(&mut journal, &failed("busy")), 0);
    assert!(length(&mut journal, &Record::Undone { index: 1 }) > 0);
    drop(journal);
    let (mut journal, ..) = Journal::reopen(&path, Duration::ZERO).unwrap();
    assert_eq!(length(&mut journal, &failed("busy")), 0);
    assert_eq!(length(&mut journal, &Record::Undone { index: 1 }), 0);
    for news in [failed("full"), failed("busy"), Record::Undone { index: 0 }] {
        assert!(length(&mut journal, &news) > 0);
    }
    assert!(read(&path).unwrap().undone.contains(&0));
    assert!(!read(&path).unwrap().corrupt);
}
