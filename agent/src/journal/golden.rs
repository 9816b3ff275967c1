//! Journals of every version of the format, as files: they must be read for ever.

use super::record::Link;
use super::*;
use crate::boottime::Boottime;
use crate::changes::{Management, Undo, firewall};
use crate::kernel::namespaces::NamespaceId;
use crate::kernel::nft::{Family, Table};
use crate::pods::PodId;

const V1: &[u8] = include_bytes!("golden-v1.journal");
const V2: &[u8] = include_bytes!("golden-v2.journal");
const V2_CLOSED: &[u8] = include_bytes!("golden-v2-closed.journal");
/// Written by a real drill with every mechanism; `agent/tests/root/golden.rs` makes and reverts one like it.
const V2_MECHANISMS: &[u8] = include_bytes!("golden-v2-mechanisms.journal");
/// The same, later: with the namespaces in which undos were captured, and how a moved folder is found.
const V2_PLACES: &[u8] = include_bytes!("golden-v2-places.journal");
/// Later still: with the times at which inodes were made.
const V2_BIRTHS: &[u8] = include_bytes!("golden-v2-births.journal");

/// One undo of every mechanism, with every field that it can have. A new mechanism goes to the end,
/// into a golden file of its own: those that are there stay as they were written.
fn undos() -> Vec<(&'static str, Undo)> {
    let table = |family| Table {
        family,
        name: "cellwall_d_0_0".into(),
    };
    let firewall = |inside| {
        Undo::Firewall(firewall::Undo {
            tables: vec![table(Family::Inet), table(Family::Netdev)],
            devices: vec!["eth0".into()],
            management: Management {
                operator: vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
                port: 7443,
            },
            inside,
            lasting: Default::default(),
        })
    };
    let pod = PodId {
        pod: "default/shop".into(),
        namespace: NamespaceId {
            device: 4,
            inode: 4_026_531_840,
        },
    };
    vec![
        ("firewall", firewall(Vec::new())),
        ("firewall", firewall(vec![pod])),
    ]
}

/// A life with every kind of record but Closed, behind which nothing may come.
fn records() -> (Vec<Record>, Vec<Record>) {
    let armed = Record::Armed(Armed {
        format: 2,
        drill: "d".into(),
        conductor: "conductor".into(),
        plan_sha256: "00".into(),
        boot_id: "boot".into(),
        expires: Boottime(7),
    });
    let intents = (0..).zip(undos()).map(|(index, (change, undo))| {
        Record::Intent(Intent {
            step: 0,
            index,
            change: change.into(),
            undo,
        })
    });
    let opening = std::iter::once(armed).chain(intents).collect();
    let fired = Record::Fired {
        at: Boottime(5),
        deadline: Boottime(9),
    };
    let failed = Record::UndoFailed {
        index: 0,
        why: "w".into(),
    };
    let later = vec![
        fired,
        Record::Applied { index: 0 },
        Record::NotApplied { index: 1 },
        failed,
        Record::Undone { index: 0 },
    ];
    (opening, later)
}

fn closed() -> Record {
    Record::Closed {
        cause: "deadline".into(),
        residue: vec!["r".into()],
    }
}

/// For a new version of the format: `CELLWALL_WRITE_GOLDEN=1 cargo test -p cellwall-agent --lib golden`.
#[test]
fn what_this_version_writes_reads_as_its_golden_does() {
    let (opening, later) = records();
    let mut link = Link::default();
    let mut open = link.encode(&opening);
    for record in &later {
        open.extend(link.encode(std::slice::from_ref(record)));
    }
    let mut whole = open.clone();
    whole.extend(link.encode(&[closed()]));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/journal");
    for (name, golden, written) in [
        ("golden-v2.journal", V2, open),
        ("golden-v2-closed.journal", V2_CLOSED, whole),
    ] {
        if std::env::var_os("CELLWALL_WRITE_GOLDEN").is_some() {
            std::fs::write(folder.join(name), &written).unwrap();
        }
        // Lines hold the time of writing, so their lengths and checksums differ.
        let read = |bytes| {
            let contents = Contents::parse(bytes);
            Contents {
                sound_length: 0,
                link: Link::default(),
                closing: contents.closing.map(|(cause, _)| (cause, Boottime(0))),
                ..contents
            }
        };
        assert_eq!(read(&written), read(golden), "{name}");
    }
}

#[test]
fn a_journal_of_format_1_still_reads() {
    let contents = Contents::parse(V1);
    assert!(!contents.corrupt && !contents.torn && !contents.closed);
    let intents: Vec<u32> = contents.intents.iter().map(|intent| intent.index).collect();
    assert_eq!(intents, [0]);
    let undo = firewall::Undo {
        tables: vec![Table {
            family: Family::Inet,
            name: "cellwall_d_0_0".into(),
        }],
        devices: vec!["eth0".into()],
        management: Management {
            operator: vec!["10.0.0.1".parse().unwrap()],
            port: 7443,
        },
        inside: Vec::new(),
        lasting: Default::default(),
    };
    assert_eq!(contents.intents[0].undo, Undo::Firewall(undo));
    assert_eq!(contents.over_by(), Some(Boottime(9)));
    assert!(!contents.is_settled());
}

#[test]
fn a_journal_of_format_1_is_closed_by_this_version() {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of(directory.path(), "d");
    std::fs::write(&path, V1).unwrap();
    let (mut journal, contents, _permit) = Journal::reopen(&path, Duration::ZERO).unwrap();
    assert!(!contents.corrupt && !journal.is_corrupt());
    journal.append(&Record::Undone { index: 0 }).unwrap();
    journal.append(&closed()).unwrap();
    assert!(read(&path).unwrap().is_settled());
}

#[test]
fn a_journal_of_format_2_still_reads() {
    let contents = Contents::parse(V2);
    assert!(!contents.corrupt && !contents.torn && !contents.closed);
    let read: Vec<Undo> = contents.intents.iter().map(|i| i.undo.clone()).collect();
    let written: Vec<Undo> = undos().into_iter().map(|(_, undo)| undo).collect();
    assert_eq!(read, written);
    assert_eq!(contents.not_applied, [1].into());
    assert_eq!(contents.undone, [0].into());
    assert_eq!(contents.over_by(), Some(Boottime(9)));
    let contents = Contents::parse(V2_CLOSED);
    assert!(contents.is_settled());
    assert_eq!(contents.closing.unwrap().0, "deadline");
}

/// Nothing of any undo is lost or read as something else: written again, each is the same text.
#[test]
fn the_undos_of_every_mechanism_of_format_2_still_read() {
    for golden in [V2_MECHANISMS, V2_PLACES, V2_BIRTHS] {
        let contents = Contents::parse(golden);
        assert!(!contents.corrupt && !contents.torn && !contents.closed);
        let text = std::str::from_utf8(golden).unwrap();
        assert!(contents.intents.len() > 18, "{}", contents.intents.len());
        for intent in &contents.intents {
            let written = serde_json::to_string(intent).unwrap();
            assert!(text.contains(&written), "{written}");
            assert!(contents.owes(intent));
        }
    }
}

/// Every kind of record is in the golden file: one that is added must come with a new one.
#[test]
fn the_golden_journal_holds_every_kind_of_record() {
    let text = std::str::from_utf8(V2_CLOSED).unwrap();
    let (mut all, later) = records();
    all.extend(later);
    all.push(closed());
    for record in all {
        let kind = match record {
            Record::Armed(_) => "armed",
            Record::Intent(_) => "intent",
            Record::Applied { .. } => "applied",
            Record::NotApplied { .. } => "not_applied",
            Record::Fired { .. } => "fired",
            Record::Undone { .. } => "undone",
            Record::UndoFailed { .. } => "undo_failed",
            Record::Closed { .. } => "closed",
        };
        assert!(
            text.contains(&format!("\"record\":{{\"{kind}\":")),
            "{kind}"
        );
    }
}
