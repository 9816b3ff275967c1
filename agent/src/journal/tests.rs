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
        assert!(
            !contents.corrupt,
            "a torn tail is not corruption ({length})"
        );
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
    }
}

#[test]
fn every_changed_byte_is_noticed_and_the_rest_is_still_read() {
    let (_directory, path) = written();
    let whole = std::fs::read(&path).unwrap();
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for at in 0..whole.len() - 1 {
        let mut broken = whole.clone();
        broken[at] ^= 1;
        let contents = Contents::parse(&broken);
        assert!(contents.corrupt, "byte {at}");
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
    journal.append(&CLOSED()).unwrap();
    let contents = read(&path).unwrap();
    assert!(contents.closed && !contents.corrupt && !contents.torn);
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
    let contents = Contents::parse(&record::encode(&Record::Armed(other)));
    assert!(contents.corrupt);
}

/// The stored format: this file was written by version 1 and must be readable for ever.
#[test]
fn a_journal_of_version_1_still_reads() {
    let golden = include_bytes!("golden-v1.journal");
    let contents = Contents::parse(golden);
    assert!(!contents.corrupt && !contents.torn && !contents.closed);
    assert_eq!(contents.intents, [intent(0)]);
    assert_eq!(contents.over_by(), Some(Boottime(9)));
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
        KEPT + 2,
        "the kept ones, the newest and the open one: {left:?}"
    );
    assert!(path_of(directory.path(), "open").exists());
}
