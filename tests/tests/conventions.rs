//! The invariants of ARCHITECTURE.md, checked on the source itself.

use std::path::{Path, PathBuf};

/// What stands below this is test code; written so that it does not find itself.
const TESTS_BEGIN: &str = concat!("#[cfg", "(test)]");
/// A file may be this long, and no longer.
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace")
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} holds no source");
    found
}

/// Every line of code (not comment, not test module) that holds one of `words`.
fn offences(folder: &str, words: &[&str], spared: &[&str]) -> Vec<String> {
    let mut offences = Vec::new();
    for (path, text) in sources(folder) {
        let name = path.display().to_string();
        if spared.iter().any(|spared| name.contains(spared)) {
            continue;
        }
        let code = text.split(TESTS_BEGIN).next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let bare = line.trim_start();
            if bare.starts_with("//") {
                continue;
            }
            if words.iter().any(|word| line.contains(word)) {
                offences.push(format!("{name}:{}: {bare}", number + 1));
            }
        }
    }
    offences
}

fn assert_none(what: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{what}:\n{}", offences.join("\n"));
}

#[test]
fn the_language_does_no_io() {
    let words = [
        "std::fs",
        "std::process",
        "std::env",
        "TcpStream",
        "UdpSocket",
        "tokio",
        "nix::",
        "Instant::now",
        "SystemTime",
        "println!",
        "std::thread",
    ];
    assert_none(
        "scenarios does I/O",
        &offences("scenarios/src", &words, &[]),
    );
}

#[test]
fn the_agent_knows_no_fault() {
    let names: Vec<&str> = scenarios::faults::Fault::NAMES.to_vec();
    assert!(!names.is_empty());
    let mut words = names.clone();
    let last: Vec<&str> = names
        .iter()
        .filter_map(|name| name.rsplit('.').next())
        .collect();
    words.extend(last);
    words.push("scenarios::faults");
    assert_none("agent names a fault", &offences("agent/src", &words, &[]));
}

#[test]
fn ctl_never_touches_a_kernel() {
    let words = ["netlink", "setns", "unshare", "nft", "CLONE_NEW"];
    assert_none("ctl touches a kernel", &offences("ctl/src", &words, &[]));
    let manifest = std::fs::read_to_string(root().join("ctl/Cargo.toml")).expect("a manifest");
    assert!(!manifest.contains("netlink"), "ctl links netlink");
}

#[test]
fn only_the_kernel_module_alters_the_machine() {
    let words = ["unsafe ", "libc::", "NETLINK", "AF_NETLINK"];
    assert_none(
        "agent outside kernel/",
        &offences("agent/src", &words, &["/kernel"]),
    );
    for folder in [
        "scenarios/src",
        "probes/src",
        "wire/src",
        "ctl/src",
        "tests/src",
        "lab/shop/src",
    ] {
        assert_none(
            "unsafe",
            &offences(folder, &["unsafe {", "unsafe fn", "allow(unsafe"], &[]),
        );
    }
}

#[test]
fn every_fault_has_its_file_scenario_and_test() {
    for name in scenarios::faults::Fault::NAMES {
        let file = name.replace(['.', '-'], "_");
        for path in [
            format!("scenarios/src/faults/{file}.rs"),
            format!("tests/tests/faults/{file}.rs"),
        ] {
            assert!(root().join(&path).is_file(), "{name}: {path} is missing");
        }
        let used = scenarios::library::names()
            .filter_map(scenarios::library::get)
            .any(|text| text.contains(&format!("{name}:")));
        assert!(used, "{name}: no scenario of the library uses it");
    }
}

#[test]
fn every_file_opens_with_a_sentence_and_stays_short() {
    let folders = [
        "scenarios/src",
        "probes/src",
        "wire/src",
        "agent/src",
        "ctl/src",
        "lab/src",
        "lab/shop/src",
        "tests",
    ];
    for (path, text) in folders.iter().flat_map(|folder| sources(folder)) {
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("//! "),
            "{}: no opening sentence",
            path.display()
        );
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines", path.display());
    }
}

#[test]
fn no_folder_is_a_drawer() {
    for folder in ["core", "common", "utils"] {
        assert!(
            !root().join(folder).exists(),
            "{folder} says nothing about what is in it"
        );
    }
}

/// The guards above must be able to fail.
#[test]
fn an_offence_is_found() {
    let found = offences("tests/tests", &["fn an_offence_is_found"], &[]);
    assert!(
        found.iter().any(|line| line.contains("conventions.rs")),
        "{found:?}"
    );
}
