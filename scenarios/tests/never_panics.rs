//! Whatever the bytes are, reading and planning end with a value or an error, never a panic.

use proptest::prelude::*;
use scenarios::planner::build;
use scenarios::{library, read_fleet, read_fleet_bytes, read_scenario, read_scenario_bytes};

const FLEET: &str = include_str!("fleet.yaml");

/// Words that mean something to YAML or to us, to be thrown at a good file.
const WORDS: &[&str] = &[
    "",
    "\t",
    "\n",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "!!binary ",
    "|",
    ">",
    "---\n",
    "...",
    "\u{feff}",
    "\0",
    "'",
    "\"",
    "#",
    "%",
    "0x7f",
    "-1",
    "1e999",
    ".inf",
    "~",
    "null",
    "<<: ",
    "../x",
    "::",
    "0.0.0.0/0",
    "::/0",
    "127.0.0.1",
    "999999999999999999999s",
    "0%",
    "{cell}",
    "gd-aliyun",
    "aliyun",
    "target",
    "everyone",
    "\u{1F600}",
    "\r",
];

/// Replaces a piece of a text, at character boundaries, by a word.
fn mutate(text: &str, at: usize, length: usize, word: &str) -> String {
    let boundaries: Vec<usize> = text.char_indices().map(|(index, _)| index).collect();
    let from = boundaries[at % boundaries.len()];
    let to = boundaries
        .get((at % boundaries.len()) + length)
        .copied()
        .unwrap_or(text.len());
    format!("{}{word}{}", &text[..from], &text[to..])
}

/// Reads it as everything, plans what can be planned, and prints every error.
fn exercise(bytes: &[u8]) {
    let good = read_fleet(FLEET, "fleet.yaml").expect("good fleet");
    let drill = library::get("black-hole-cloud").expect("in the library");
    let drill = read_scenario(drill, "drill.yaml").expect("good drill");
    match read_fleet_bytes(bytes, "f") {
        Ok(fleet) => drop(build(&fleet, &drill).map_err(|error| error.to_string())),
        Err(error) => assert!(error.to_string().ends_with("nothing was altered")),
    }
    match read_scenario_bytes(bytes, "s") {
        Ok(scenario) => drop(build(&good, &scenario).map_err(|error| error.to_string())),
        Err(error) => assert!(error.to_string().ends_with("nothing was altered")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        exercise(text.as_bytes());
    }

    #[test]
    fn mutated_fleet(edits in prop::collection::vec((any::<usize>(), 0usize..12, 0..WORDS.len()), 1..4)) {
        let mut text = FLEET.to_owned();
        for (at, length, word) in edits {
            text = mutate(&text, at, length, WORDS[word]);
        }
        exercise(text.as_bytes());
    }

    #[test]
    fn mutated_scenario(edits in prop::collection::vec((any::<usize>(), 0usize..12, 0..WORDS.len()), 1..4)) {
        let mut text = library::get("black-hole-cloud").expect("in the library").to_owned();
        for (at, length, word) in edits {
            text = mutate(&text, at, length, WORDS[word]);
        }
        exercise(text.as_bytes());
    }
}
