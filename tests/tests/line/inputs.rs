//! What people type wrong: exit 64, a precise word, and nothing altered.

use proof::drill::{assert_says, cli};
use proof::lab::Lab;

#[test]
fn wrong_command_lines_are_usage_errors() {
    assert_says(&cli(&["run"]), 64, &["SCENARIO"]);
    assert_says(&cli(&["explode"]), 64, &["explode"]);
    assert_says(
        &cli(&["run", "black-hole-cloud", "--rate", "50"]),
        64,
        &["is not a rate"],
    );
    assert_says(
        &cli(&["run", "black-hole-cloud", "--window", "20"]),
        64,
        &["--window"],
    );
    assert_says(&cli(&["--help"]), 0, &["Exit codes"]);
}

#[test]
fn unknown_scenarios_name_the_known_ones() {
    let output = cli(&["plan", "black-hole-clout", "--fleet", "fleet.yaml"]);
    assert_says(
        &output,
        64,
        &[
            "black-hole-clout",
            "black-hole-cloud",
            "nothing was altered",
        ],
    );
    assert_says(&cli(&["plan", "../x.yaml"]), 64, &["../x.yaml"]);
}

#[test]
fn a_bad_fleet_file_is_named_with_line_and_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("fleet.yaml");
    std::fs::write(
        &file,
        "apiVersion: cellwall.dev/v1\nkind: Fleet\nmetadata: { nam: x }\n",
    )
    .expect("a file");
    let fleet = file.display().to_string();
    let output = cli(&["plan", "black-hole-cloud", "--fleet", &fleet]);
    assert_says(
        &output,
        64,
        &["fleet.yaml:3:", "nam", "nothing was altered"],
    );
}

#[test]
fn a_history_that_is_none_is_named_with_line_and_column() {
    assert_says(&cli(&["verdict", "nowhere.jsonl"]), 64, &["nowhere.jsonl"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("h.jsonl");
    let history = file.display().to_string();
    for (text, words) in [
        ("", "holds no record"),
        ("kind: Fleet\n", "h.jsonl:1:1: not a history"),
        (
            "{\"header\":{\"format\":7}}\n",
            "format 7, this cellwall reads 1",
        ),
    ] {
        std::fs::write(&file, text).expect("a file");
        assert_says(&cli(&["verdict", &history]), 64, &[words]);
    }
}

#[test]
fn library_and_schema_speak_json() {
    assert_says(&cli(&["library"]), 0, &["black-hole-cloud\n"]);
    let output = cli(&["library", "black-hole-cloud"]);
    assert_says(&output, 0, &["kind: Scenario", "net.blackhole"]);
    let names = cli(&["library", "--json", "-"]);
    let names: Vec<String> = serde_json::from_slice(&names.stdout).expect("only JSON on stdout");
    assert!(names.contains(&"black-hole-cloud".to_string()), "{names:?}");
    let schema = cli(&["schema"]);
    let value: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert!(value.is_object());
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_fleet_that_is_not_a_lab_is_not_touched_without_a_word() {
    let lab = Lab::up("consent", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy.yaml");
    let own = lab.status.fleet_file.parent().expect("the lab's folder");
    std::fs::copy(&lab.status.fleet_file, &copy).expect("a copy of the fleet file");
    let mut copy_tls = std::process::Command::new("cp");
    copy_tls.arg("-r").arg(own.join("tls")).arg(folder.path());
    assert!(copy_tls.status().expect("cp runs").success());
    let fleet = copy.display().to_string();
    let asked = cli(&["run", "black-hole-cloud", "--fleet", &fleet]);
    assert_says(
        &asked,
        3,
        &["not a lab", "--yes", "nothing was altered", "gd-aliyun"],
    );
    // With --yes it goes on, and then it cannot reach the agents: they are inside the lab only.
    let yes = cli(&["run", "black-hole-cloud", "--fleet", &fleet, "--yes"]);
    assert_says(
        &yes,
        3,
        &["18 of 18 agents do not answer", "nothing was altered"],
    );
    // A fleet file here and a lab that is up: one must be named.
    std::fs::rename(&copy, folder.path().join("fleet.yaml")).expect("renamed");
    let here = proof::cellwall()
        .args(["plan", "black-hole-cloud"])
        .current_dir(folder.path())
        .output()
        .expect("cellwall runs");
    assert_says(&here, 64, &["consent", "--fleet FILE or --lab NAME"]);
}
