//! What people type wrong: exit 64, a precise word, and nothing altered.

use proof::drill::{assert_says, cli};

#[test]
fn wrong_command_lines_are_usage_errors() {
    assert_says(&cli(&["run"]), 64, &["SCENARIO"]);
    assert_says(&cli(&["explode"]), 64, &["explode"]);
    assert_says(
        &cli(&["run", "black-hole-cloud", "--rate", "50"]),
        64,
        &["50/s"],
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
fn library_and_schema_speak_json() {
    assert_says(&cli(&["library"]), 0, &["black-hole-cloud\n"]);
    let output = cli(&["library", "black-hole-cloud"]);
    assert_says(&output, 0, &["kind: Scenario", "net.blackhole"]);
    let schema = cli(&["schema"]);
    let value: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert!(value.is_object());
}
