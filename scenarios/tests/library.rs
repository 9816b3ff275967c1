//! Every built-in scenario reads, plans, and agrees with the committed JSON Schema.

use std::fs;
use std::path::Path;

use scenarios::planner::build;
use scenarios::{library, read_fleet, read_scenario, schema::schema};
use serde_json::Value;

const FLEET: &str = include_str!("fleet.yaml");

#[test]
fn every_library_file_is_embedded_reads_and_plans() {
    let fleet = read_fleet(FLEET, "fleet.yaml").expect("good fleet");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("library/drills");
    let mut files: Vec<String> = fs::read_dir(folder)
        .expect("drills")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    files.sort();
    let mut embedded: Vec<String> = library::names()
        .map(|name| format!("{name}.yaml"))
        .collect();
    embedded.sort();
    assert_eq!(files, embedded, "every file is one line in library.rs");
    for name in library::names() {
        let text = library::get(name).expect("embedded");
        let scenario = read_scenario(text, name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(scenario.name, name);
        assert_eq!(
            text.lines().next(),
            Some("# yaml-language-server: $schema=../schema.json")
        );
        build(&fleet, &scenario).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// `CELLWALL_UPDATE=1 cargo test -p scenarios` writes the file anew.
#[test]
fn the_committed_schema_is_the_generated_one() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("library/schema.json");
    let generated = format!(
        "{}\n",
        serde_json::to_string_pretty(&schema()).expect("JSON")
    );
    if std::env::var_os("CELLWALL_UPDATE").is_some() {
        fs::write(&file, &generated).expect("schema.json");
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == generated,
        "library/schema.json is old: run with CELLWALL_UPDATE=1"
    );
}

/// Follows references; finds the definition of a field.
fn field<'a>(root: &'a Value, mut schema: &'a Value, path: &[&str]) -> &'a Value {
    for name in path {
        schema = &resolve(root, schema)["properties"][name];
        assert!(!schema.is_null(), "no `{name}` in the schema");
    }
    resolve(root, schema)
}

fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    loop {
        let inner = schema
            .get("$ref")
            .or_else(|| schema.pointer("/anyOf/0/$ref"));
        let Some(name) = inner.and_then(Value::as_str) else {
            return schema;
        };
        schema = root
            .pointer(name.trim_start_matches('#'))
            .expect("a definition");
    }
}

#[test]
fn what_the_schema_requires_the_reader_requires() {
    let root = schema();
    let scenario = &root["allOf"][1]["then"];
    let step = &field(&root, scenario, &["spec", "method"])["items"];
    let required = &resolve(&root, step)["required"];
    assert_eq!(required, &serde_json::json!(["duration", "fault"]));
    let good = library::get("black-hole-cloud").expect("embedded");
    for (word, without) in [
        ("duration", good.replacen("duration: 60s, ", "", 1)),
        (
            "fault",
            good.replacen(
                ", fault: { net.blackhole: { peers: everyone, direction: both } }",
                "",
                1,
            ),
        ),
    ] {
        let error = read_scenario(&without, "s").expect_err("a required field is missing");
        assert!(
            error.message.contains(&format!("has no `{word}`")),
            "{error}"
        );
    }
    let side = resolve(&root, field(&root, step, &["on"]));
    for word in side["enum"].as_array().expect("closed list") {
        let word = word.as_str().expect("word");
        let text = good.replacen("on: others", &format!("on: {word}"), 1);
        read_scenario(&text, "s").unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_schema_knows_every_fault() {
    let text = schema().to_string();
    for name in scenarios::faults::Fault::NAMES {
        assert!(text.contains(&format!("\"{name}\"")), "{name}");
    }
}
