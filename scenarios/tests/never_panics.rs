//! Whatever the bytes are, reading and planning end with a value or an error, never a panic.

use proptest::prelude::*;
use scenarios::fleet::Fleet;
use scenarios::fleet::Plane;
use scenarios::history::{Role, Stream};
use scenarios::planner::{build, effects};
use scenarios::scenario::Scenario;
use scenarios::verdict::windows::{Asked, check};
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

/// A plan and what the drill is held to, or an error that can be printed.
fn plan(fleet: &Fleet, scenario: &Scenario) {
    let planned = build(fleet, scenario).and_then(|plan| effects(fleet, scenario, &plan));
    drop(planned.map_err(|error| error.to_string()));
}

/// Reads it as everything, plans what can be planned, and prints every error.
fn exercise(bytes: &[u8]) {
    let good = read_fleet(FLEET, "fleet.yaml").expect("good fleet");
    let drill = library::get("black-hole-cloud").expect("in the library");
    let drill = read_scenario(drill, "drill.yaml").expect("good drill");
    match read_fleet_bytes(bytes, "f") {
        Ok(fleet) => plan(&fleet, &drill),
        Err(error) => assert!(error.to_string().ends_with("nothing was altered")),
    }
    match read_scenario_bytes(bytes, "s") {
        Ok(scenario) => plan(&good, &scenario),
        Err(error) => assert!(error.to_string().ends_with("nothing was altered")),
    }
}

/// Any number, but often one of a size that a person might write.
fn number() -> impl Strategy<Value = f64> {
    let size = (-320.0f64..320.0).prop_map(|exponent| 10f64.powf(exponent));
    let usual = (-3.0f64..3.5).prop_map(|exponent| 10f64.powf(exponent));
    prop_oneof![prop::num::f64::ANY, size, usual]
}

/// A share such as a margin: often between 0 and 1.
fn fraction() -> impl Strategy<Value = f64> {
    prop_oneof![number(), 0.001f64..0.2]
}

fn milliseconds() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0u64..600_000]
}

prop_compose! {
    fn asked()(
        (alpha, margin, p, episode_s) in (fraction(), fraction(), fraction(), number()),
        (before_ms, fault_ms, after_ms) in (milliseconds(), milliseconds(), milliseconds()),
        (block_ms, propagation_s) in (milliseconds(), any::<u64>()),
    ) -> Asked {
        Asked { alpha, margin, p, before_ms, fault_ms, after_ms, block_ms, propagation_s, episode_s }
    }
}

fn stream(rate: f64, slo_ms: Option<u64>) -> Stream {
    Stream {
        name: "gd-aws/checkout".to_owned(),
        role: Role::Other,
        plane: Plane::Data,
        cell: Some("gd-aws".to_owned()),
        probe: "checkout".to_owned(),
        rate,
        slo_ms,
        timeout_ms: 1000,
        basis: Default::default(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_rates_and_windows(rates in prop::collection::vec(number(), 0..3), asked in asked()) {
        let slo = |index: usize| index.is_multiple_of(2).then_some(500);
        let streams: Vec<Stream> = rates
            .iter()
            .enumerate()
            .map(|(index, rate)| stream(*rate, slo(index)))
            .collect();
        if let Err(refused) = check(&streams, &asked) {
            prop_assert!(refused.to_string().contains("gd-aws/checkout"));
        }
    }
}

/// `plan --rate 1e-300/s` once did: the probes needed saturate the count of seconds.
#[test]
fn a_rate_near_zero() {
    let usual = Asked {
        alpha: 0.01,
        margin: 0.02,
        p: 0.005,
        before_ms: 60_000,
        fault_ms: 60_000,
        after_ms: 60_000,
        block_ms: 1000,
        propagation_s: 0,
        episode_s: 0.0,
    };
    for rate in [1e-300, f64::MIN_POSITIVE, 5e-324, 1e-6] {
        let refused = check(&[stream(rate, Some(500))], &usual).unwrap_err();
        assert_eq!(refused.needed_s, None, "{rate}");
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
