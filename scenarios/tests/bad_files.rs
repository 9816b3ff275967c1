//! Every file in `tests/bad` is refused, with exactly the text of its snapshot.
//!
//! The name says what is done with it: `fleet-*` and `scenario-*` are read, `plan-*` is a good
//! scenario that must not become a plan of `tests/fleet.yaml`.

use std::fs;
use std::path::Path;

use scenarios::planner::{build, effects};
use scenarios::{read_fleet, read_fleet_bytes, read_scenario_bytes};

fn refusal(name: &str, bytes: &[u8]) -> Option<String> {
    if name.starts_with("fleet-") {
        return read_fleet_bytes(bytes, name)
            .err()
            .map(|error| error.to_string());
    }
    if name.starts_with("scenario-") {
        return read_scenario_bytes(bytes, name)
            .err()
            .map(|error| error.to_string());
    }
    assert!(
        name.starts_with("plan-"),
        "{name}: fleet-, scenario- or plan-?"
    );
    let fleet = read_fleet(include_str!("fleet.yaml"), "fleet.yaml").expect("good fleet");
    let scenario = read_scenario_bytes(bytes, name).expect("good on its own");
    let plan = build(&fleet, &scenario);
    let planned = plan.and_then(|plan| effects(&fleet, &scenario, &plan));
    let error = planned.err()?;
    Some(format!("{error}\nexit code {}", error.exit_code()))
}

#[test]
fn every_bad_file_is_refused_with_the_right_words() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("tests/bad")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    assert!(names.len() >= 20, "only {} bad files", names.len());
    for name in names {
        let bytes = fs::read(folder.join(&name)).expect("bad file");
        let text = refusal(&name, &bytes).unwrap_or_else(|| panic!("{name} was accepted"));
        insta::assert_snapshot!(name.as_str(), text);
    }
}

#[test]
fn ten_megabytes_are_refused_before_they_are_parsed() {
    let comment = "# never parsed\n".repeat(700_000);
    let error = read_scenario_bytes(comment.as_bytes(), "scenario.yaml").unwrap_err();
    insta::assert_snapshot!("ten-megabytes", error.to_string());
}
