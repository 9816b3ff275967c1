//! One cloud after the other is the target: who falls with whom, also after an interruption.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proof::cellwall;
use proof::drill::{library, read_records};
use proof::lab::Lab;
use proof::traffic::until;
use scenarios::history::{Phase, Record};

fn matrix(lab: &Lab, folder: &Path) -> Command {
    let scenario = folder.join("dark.yaml");
    let text = library("black-hole-cloud").replace("isolatedWithin: 2%", "isolatedWithin: 5%");
    std::fs::write(&scenario, text).expect("a scenario file");
    let mut command = cellwall();
    command
        .arg("matrix")
        .arg(scenario)
        .args(["--lab", &lab.name]);
    command.args(["--window", "7s", "--rate", "50/s"]);
    command.arg("--directory").arg(folder.join("drills"));
    command.arg("--svg").arg(folder.join("matrix.svg"));
    command.arg("--json").arg(folder.join("matrix.json"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn fired(history: &Path) -> bool {
    let fire = |record: &Record| matches!(record, Record::Phase(mark) if mark.phase == Phase::Fire);
    read_records(history).iter().any(fire)
}

/// `(target, cell)` -> the finding on the data plane, by its kind.
fn finding(report: &serde_json::Value, target: &str, cell: &str) -> String {
    let lines = report["matrix"]["lines"].as_array().expect("lines");
    let line = lines
        .iter()
        .find(|line| line["target"] == target)
        .expect("the target");
    let entries = line["entries"].as_array().expect("entries");
    let entry = entries
        .iter()
        .find(|entry| entry["cell"] == cell && entry["plane"] == "data");
    match &entry.expect("the cell")["finding"] {
        serde_json::Value::String(kind) => kind.clone(),
        finding => finding
            .as_object()
            .expect("a finding")
            .keys()
            .next()
            .cloned()
            .expect("its kind"),
    }
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_shared_config_shows_in_its_row_alone_and_an_interruption_costs_one_drill() {
    // The others ask the first cell, gd-aliyun, for their prices.
    let lab = Lab::up("matrix", &["shared-config"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let drills = folder.path().join("drills");

    let mut first = matrix(&lab, folder.path()).spawn().expect("cellwall runs");
    let second = drills.join("black-hole-cloud--aws.jsonl");
    until("the second drill fires", Duration::from_secs(120), || {
        fired(&second)
    });
    let pid = Pid::from_raw(i32::try_from(first.id()).expect("a pid fits"));
    kill(pid, Signal::SIGINT).expect("it is there");
    let status = first.wait().expect("it ends");
    assert_eq!(
        status.code(),
        Some(1),
        "one cell fell already, which outranks the rest"
    );
    let report = std::fs::read(folder.path().join("matrix.json")).expect("a result");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(finding(&report, "aliyun", "gd-tencent"), "degraded");
    assert_eq!(finding(&report, "tencent", "gd-aws"), "unknown");

    let again = matrix(&lab, folder.path()).output().expect("cellwall runs");
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert_eq!(again.status.code(), Some(1), "{text}");
    assert!(text.contains("on aliyun was run already"), "{text}");
    assert!(!text.contains("on aws was run already"), "{text}");
    assert!(
        drills
            .join("black-hole-cloud--aws.unfinished-1.jsonl")
            .exists()
    );
    let report = std::fs::read(folder.path().join("matrix.json")).expect("a result");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    for (target, cell, kind) in [
        ("aliyun", "gd-aliyun", "target"),
        ("aliyun", "gd-aws", "degraded"),
        ("aliyun", "gd-tencent", "degraded"),
        ("aws", "gd-aws", "target"),
        ("aws", "gd-aliyun", "isolated"),
        ("aws", "gd-tencent", "isolated"),
        ("tencent", "gd-tencent", "target"),
        ("tencent", "gd-aliyun", "isolated"),
        ("tencent", "gd-aws", "isolated"),
    ] {
        assert_eq!(
            finding(&report, target, cell),
            kind,
            "{target} {cell}\n{text}"
        );
    }
    let drawn = std::fs::read_to_string(folder.path().join("matrix.svg")).expect("a picture");
    assert_eq!(
        drawn.matches("DEGRADED").count(),
        drawn.matches("#f0a099").count() * 2
    );
}
