//! Stored journals of every version still take back what they say, on a real kernel.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use scenarios::change::{
    CgroupLimit, Change, FileAct, FileChange, FilesystemAct, FilesystemChange, HelperChange,
    HelperWork, Instead, Limit, ProcessAct, ProcessChange, Processes,
};
use serde_json::Value;

use crate::support::*;

const V1: &str = include_str!("../../src/journal/golden-v1.journal");
pub const V2: &str = include_str!("../../src/journal/golden-v2.journal");
/// Written by a drill with every mechanism in all its ways, before undos said in which namespace they were
/// captured and how a folder is found that was moved.
const MECHANISMS: &str = include_str!("../../src/journal/golden-v2-mechanisms.journal");
/// The same, before inodes said when they were made.
const PLACES: &str = include_str!("../../src/journal/golden-v2-places.journal");
/// Written by one of now.
const BIRTHS: &str = include_str!("../../src/journal/golden-v2-births.journal");

/// The same journal, had it been written in this boot: what a kernel held before a reboot is gone.
pub fn of_this_boot(golden: &str) -> String {
    let boot = agent::boottime::boot_id().unwrap();
    edited(golden, |json| {
        json.replace("\"boot_id\":\"boot\"", &format!("\"boot_id\":\"{boot}\""))
    })
}

/// A journal with other lines, which are linked again.
fn edited(journal: &str, edit: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    let mut before = ("00000000".to_owned(), "00000000".to_owned()); // checksum: golden's, ours
    for line in journal.lines() {
        let mut parts = line.splitn(3, ' ').skip(1);
        let (golden_crc, json) = (parts.next().unwrap(), parts.next().unwrap());
        let link = |crc: &str| format!("\"prev\":\"{crc}\"");
        let json = edit(json).replace(&link(&before.0), &link(&before.1));
        let crc = format!("{:08x}", crc32fast::hash(json.as_bytes()));
        text.push_str(&format!("{} {crc} {json}\n", json.len()));
        before = (golden_crc.to_owned(), crc);
    }
    text
}

/// A line of a journal as agents wrote it before they said when an inode was made.
fn without_births(json: &str) -> String {
    without(json, &|name, _| name != "born")
}

/// The same before they said where things are.
fn without_places(json: &str) -> String {
    without(json, &|name, value| match name {
        // The namespace of a route is its cookie, a number.
        "namespace" | "parent_id" => !value.is_object(),
        "handle" => value.get("bytes").is_none(),
        "top" => false,
        _ => true,
    })
}

fn without(json: &str, keep: &dyn Fn(&str, &Value) -> bool) -> String {
    fn strip(value: &mut Value, keep: &dyn Fn(&str, &Value) -> bool) {
        match value {
            Value::Object(members) => {
                members.retain(|name, value| keep(name, value));
                members.values_mut().for_each(|value| strip(value, keep));
            }
            Value::Array(values) => values.iter_mut().for_each(|value| strip(value, keep)),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(json).unwrap();
    strip(&mut value, keep);
    value.to_string()
}

fn revert_all(site: &Site, state: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellwall-agent"));
    command.args(["revert", "--all", "--state-dir"]).arg(state);
    site.node.run(move || command.output().unwrap())
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn every_version_still_takes_back_what_it_says() {
    let site = Site::new();
    for (version, golden) in [("1", V1), ("2", V2)] {
        let state = tempfile::tempdir().unwrap();
        let journals = agent::journal::directory(state.path());
        std::fs::create_dir(&journals).unwrap();
        let path = agent::journal::path_of(&journals, "d");
        std::fs::write(&path, of_this_boot(golden)).unwrap();
        site.node.command("nft", "add table inet cellwall_d_0_0");
        site.node.command("nft", "add table inet others");
        let output = revert_all(&site, state.path());
        assert!(output.status.success(), "version {version}: {output:?}");
        assert_eq!(site.node.our_tables(), 0, "version {version}");
        assert!(site.node.command("nft", "list tables").contains("others"));
        let contents = agent::journal::read(&path).unwrap();
        assert!(contents.closed && !contents.corrupt, "version {version}");
    }
}

/// Every mechanism in each way in which its undo looks different; one file system for each way to alter one.
fn every_mechanism(
    host: &Host,
    [limited, frozen, killed]: [&Group; 3],
    sleepers: &[Sleeper; 4],
) -> Vec<Change> {
    let folder = host.tmpfs("files", "size=4m");
    let file = |name: &str, act: FileAct| {
        let path = folder.join(name);
        host.write(&path, "a text of some length\n");
        let path = path.display().to_string();
        Change::File(FileChange { path, act })
    };
    let disk = |name: &str, act| {
        let path = host.ext4(name).display().to_string();
        Change::Filesystem(FilesystemChange { path, act })
    };
    let process = |processes, act| Change::Process(ProcessChange { processes, act });
    let pid = |number: usize| Processes::Pids(vec![sleepers[number].pid()]);
    frozen.put(sleepers[2].pid());
    killed.put(sleepers[3].pid());
    let killed = Processes::Cgroup(killed.path());
    host.ip("route add 10.20.0.0/24 via 10.1.0.2");
    host.ip("route add 10.21.0.0/24 via 10.1.0.2");
    vec![
        make::firewall(&["10.20.0.0/24", "fd20::/64"]),
        make::route("10.20.0.0/24", None),
        make::route("10.21.0.0/24", Some(Instead::Blackhole)),
        make::slow("up0"),
        make::slow_towards("up1", &["10.20.0.0/24", "fd20::/64"]),
        process(pid(0), ProcessAct::Freeze),
        process(pid(1), ProcessAct::Kill),
        process(Processes::Cgroup(frozen.path()), ProcessAct::Freeze),
        process(killed, ProcessAct::Kill),
        Change::Cgroup(CgroupLimit {
            path: limited.path(),
            limit: Limit::Cpu { millis: 200 },
        }),
        Change::Helper(HelperChange {
            work: HelperWork::BurnCpu { threads: 1 },
        }),
        file(
            "replaced",
            FileAct::Replace {
                content: "x".into(),
            },
        ),
        file("moved", FileAct::MoveAway),
        file("chmodded", FileAct::Chmod { mode: 0 }),
        file("cut", FileAct::Truncate { bytes: 3 }),
        disk("frozen", FilesystemAct::Freeze),
        disk("readonly", FilesystemAct::ReadOnly),
        disk(
            "full",
            FilesystemAct::Fill {
                leave_bytes: 64 << 10,
            },
        ),
    ]
}

/// The names of all members and the types of their values; numbers and texts themselves may differ.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect(),
        Value::Array(values) => values.first().map(shape).into_iter().collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        other => other.clone(),
    }
}

/// The intents of a journal: the kind of change, and its undo.
fn intents(journal: &str) -> Vec<(String, Value)> {
    let intent = |line: &str| {
        let line: Value = serde_json::from_str(line.splitn(3, ' ').nth(2).unwrap()).unwrap();
        let intent = line["record"].get("intent")?.clone();
        Some((
            intent["change"].as_str()?.to_owned(),
            intent["undo"].clone(),
        ))
    };
    journal.lines().filter_map(intent).collect()
}

/// For a new version of the format: CELLWALL_WRITE_GOLDEN=1. What is there stays as it was written.
#[test]
#[ignore = "needs root: namespaces, control groups, disks"]
fn what_every_mechanism_journals_is_as_in_its_golden_and_reverts_needs_v1() {
    let host = Host::with_ways();
    let (group, frozen) = (Group::new("cpu").unwrap(), Group::new("freezer").unwrap());
    let (killed, sleepers) = (group.below(), [(); 4].map(|()| Sleeper::new()));
    let changes = every_mechanism(&host, [&group, &frozen, &killed], &sleepers);
    let before = (
        host.routes(),
        host.qdiscs(),
        host.inventory(&host.path("files")),
    );
    let mut changing = host.change("d", &changes, "60s");
    assert!(changing.says("in force"), "{:?}", changing.ends());
    let journal = host.state().join("journal/d.journal");
    until("all are in force", || {
        let text = std::fs::read_to_string(&journal).unwrap();
        text.matches("\"applied\"").count() == changes.len()
    });
    let written = std::fs::read_to_string(&journal).unwrap();
    if std::env::var_os("CELLWALL_WRITE_GOLDEN").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/journal");
        std::fs::write(folder.join("golden-v2-births.journal"), &written).unwrap();
        return;
    }
    let (golden, now) = (intents(BIRTHS), intents(&written));
    let kinds: BTreeSet<&str> = golden.iter().map(|(kind, _)| kind.as_str()).collect();
    let known: BTreeSet<&str> = Change::KINDS.iter().copied().chain(["canary"]).collect();
    assert_eq!(
        kinds, known,
        "a new mechanism comes with a new golden journal"
    );
    let shapes = |intents: &[(String, Value)]| -> Vec<(String, Value)> {
        let each = intents
            .iter()
            .map(|(kind, undo)| (kind.clone(), shape(undo)));
        each.collect()
    };
    assert_eq!(shapes(&now), shapes(&golden));
    // What has the older golden's shape is undone by another process from the journal alone.
    changing.crash_with_guardian();
    let older = edited(&written, without_births);
    assert_eq!(shapes(&intents(&older)), shapes(&intents(PLACES)));
    let older = edited(&older, without_places);
    assert_eq!(shapes(&intents(&older)), shapes(&intents(MECHANISMS)));
    std::fs::write(&journal, older).unwrap();
    host.revert_clean();
    let after = (
        host.routes(),
        host.qdiscs(),
        host.inventory(&host.path("files")),
    );
    assert_eq!(before, after);
    assert_eq!((sleepers[0].state(), sleepers[2].state()), ('S', 'S'));
    assert_eq!(group.read("cpu.cfs_quota_us"), "-1");
}
