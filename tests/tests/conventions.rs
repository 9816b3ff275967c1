//! The invariants of ARCHITECTURE.md, checked on the source itself.

use std::path::{Path, PathBuf};

/// What stands right below this is test code; written so that it does not find itself.
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

/// The module that a line declares, and whether its text follows there (`mod x {`, not `mod x;`).
fn module(line: &str) -> Option<(&str, bool)> {
    let (_, rest) = line.trim_start().split_once("mod ")?;
    let inline = rest.trim_end().ends_with('{');
    let name = rest.trim_end_matches([' ', '{', ';']);
    (!name.contains(' ')).then_some((name, inline))
}

/// The numbered lines of a source file outside its inline test modules, and the names of the test
/// modules that stand in files of their own.
fn without_tests(text: &str) -> (Vec<(usize, &str)>, Vec<&str>) {
    let (mut code, mut elsewhere) = (Vec::new(), Vec::new());
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.trim() != TESTS_BEGIN {
            code.push((number + 1, line));
            continue;
        }
        while lines.next_if(|(_, line)| line.starts_with("#[")).is_some() {}
        match lines.peek().and_then(|(_, line)| module(line)) {
            // rustfmt puts the brace that ends a module of a file at the start of its line.
            Some((_, true)) => {
                lines.by_ref().find(|(_, line)| *line == "}");
            }
            Some((name, false)) => elsewhere.push(name),
            None => {}
        }
    }
    (code, elsewhere)
}

/// Where `mod name;` of the file `parent` is: a file or a folder beginning with this path.
fn place_of(parent: &Path, name: &str) -> PathBuf {
    let stem = parent.file_stem().unwrap_or_default();
    let folder = parent.parent().expect("a folder");
    if ["lib", "main", "mod"].iter().any(|root| stem == *root) {
        folder.join(name)
    } else {
        folder.join(stem).join(name)
    }
}

/// Every line of code (not comment, not test module) that holds one of `words`.
fn offences(folder: &str, words: &[&str], spared: &[&str]) -> Vec<String> {
    let mut offences = Vec::new();
    let sources = sources(folder);
    let tests: Vec<PathBuf> = sources
        .iter()
        .flat_map(|(path, text)| {
            let (_, elsewhere) = without_tests(text);
            elsewhere.into_iter().map(|name| place_of(path, name))
        })
        .collect();
    for (path, text) in &sources {
        let bare = path.with_extension("");
        if tests.iter().any(|test| bare.starts_with(test)) {
            continue;
        }
        let name = path.display().to_string();
        if spared.iter().any(|spared| name.contains(spared)) {
            continue;
        }
        for (number, line) in without_tests(text).0 {
            let bare = line.trim_start();
            if bare.starts_with("//") {
                continue;
            }
            if words.iter().any(|word| line.contains(word)) {
                offences.push(format!("{name}:{number}: {bare}"));
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
        // Its threads only compute.
        &offences("scenarios/src", &words, &["cores.rs"]),
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
        "tests/crash/src",
        "tests/flaws/src",
        "lab/shop/src",
        "vantage/src",
    ] {
        assert_none(
            "unsafe",
            &offences(folder, &["unsafe {", "unsafe fn", "allow(unsafe"], &[]),
        );
    }
}

/// A jump of the wall clock must decide nothing: it is written for people, and never read.
#[test]
fn the_agent_decides_by_no_wall_clock() {
    let words = ["SystemTime", "UNIX_EPOCH", "Realtime", "REALTIME"];
    assert_none(
        "agent asks the wall clock",
        &offences("agent/src", &words, &["/boottime.rs"]),
    );
    let spared = ["/boottime.rs", "/journal/record.rs"];
    assert_none(
        "agent uses wall time",
        &offences("agent/src", &["wall_ms"], &spared),
    );
    assert_eq!(
        offences("agent/src/journal", &["wall_ms"], &[]).len(),
        3,
        "its import, its field, and the one line that writes it"
    );
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
fn every_kind_of_probe_has_its_files_cases_and_section() {
    let page = std::fs::read_to_string(root().join("docs/probes.md")).expect("a page");
    assert!(!scenarios::asks::Ask::KINDS.is_empty());
    for kind in scenarios::asks::Ask::KINDS {
        // Of a cluster there is one for a whole test binary.
        let cases = match *kind {
            "kubernetes" => "probes/tests/kubernetes.rs".to_owned(),
            kind => format!("probes/tests/kinds/{kind}.rs"),
        };
        let question = format!("scenarios/src/asks/{kind}.rs");
        let asker = format!("probes/src/askers/{kind}.rs");
        for path in [question, asker, cases] {
            assert!(root().join(&path).is_file(), "{kind}: {path} is missing");
        }
        let heading = format!("\n## {kind}\n");
        assert!(
            page.contains(&heading),
            "docs/probes.md says nothing of {kind}"
        );
    }
}

#[test]
fn every_flaw_has_its_file_page_and_row() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let registered = read("lab/src/flaw.rs");
    let flaws: Vec<(&str, &str)> = registered
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => "))
        .map(|(name, module)| (name, module.trim_end_matches(',')))
        .collect();
    assert!(flaws.len() > 12, "{flaws:?}");
    let files = sources("lab/src/flaw");
    // The one file beside the flaws' own is the wiring.
    assert_eq!(files.len(), flaws.len() + 1, "files that are no flaw");
    let (pages, rows) = (read("docs/flaws.md"), read("tests/flaws/src/table.rs"));
    for (name, module) in flaws {
        assert_eq!(module, name.replace('-', "_"), "{name}");
        let file = root().join(format!("lab/src/flaw/{module}.rs"));
        assert!(file.is_file(), "{name}: {} is missing", file.display());
        let page = format!("\n## {name}\n");
        assert!(pages.contains(&page), "{name}: no section of docs/flaws.md");
        let row = format!("\"{name}\",");
        assert!(rows.contains(&row), "{name}: no row of the bench");
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
        "vantage/src",
        "tests",
        "scenarios/tests",
        "probes/tests",
        "agent/tests",
        "agent/benches",
        "lab/tests",
        "lab/shop/tests",
        "ctl/tests",
        "wire/tests",
    ];
    // Not every crate has tests of its own; where there is a folder, it is held to the rule.
    let there = folders.iter().filter(|folder| {
        let tests = folder.ends_with("/tests");
        !tests || root().join(folder).is_dir()
    });
    let mut offences = Vec::new();
    for (path, text) in there.flat_map(|folder| sources(folder)) {
        let first = text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") {
            offences.push(format!("{}: no opening sentence", path.display()));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            offences.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert_none("how files look", &offences);
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

/// An early `mod x;` of tests hides nothing below it; test modules are spared wherever they are.
#[test]
fn only_tests_are_spared() {
    let marker = TESTS_BEGIN;
    let text = format!(
        "{marker}\nmod far;\nfn early() {{}}\n{marker}\n#[allow(x)]\nmod near {{\n    fn spared() \
         {{\n    }}\n}}\n{marker}\nfn helper() {{}}\nfn late() {{}}\n"
    );
    let (code, elsewhere) = without_tests(&text);
    let kept: Vec<&str> = code.iter().map(|(_, line)| *line).collect();
    assert_eq!(elsewhere, ["far"]);
    assert_eq!(
        kept,
        [
            "mod far;",
            "fn early() {}",
            "fn helper() {}",
            "fn late() {}"
        ]
    );
    assert_eq!(code[1].0, 3, "lines keep their numbers");

    let planner = offences("scenarios/src", &["pub fn build("], &[]);
    assert_eq!(planner.len(), 1, "below an early marker: {planner:?}");
    let within = offences(
        "scenarios/src",
        &["pub fn spoilt(", "fn power_vectors("],
        &[],
    );
    assert!(within.is_empty(), "test modules: {within:?}");
}
