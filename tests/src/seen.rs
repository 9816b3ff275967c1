//! Drills that are run again when the machine was taken away from their prober.

use std::io::Write;
use std::process::Stdio;

use scenarios::verdict::Outcome;

use crate::drill::{Drill, Size, library, start_text};
use crate::lab::Lab;

/// How often a drill is run until its prober was there throughout.
const ATTEMPTS: u32 = 3;

/// Runs a drill of the library to its end; the last of its attempts is the answer.
pub fn run(lab: &Lab, scenario: &str, size: &Size) -> Drill {
    run_text(lab, library(scenario), size)
}

/// The same for a drill of a text.
pub fn run_text(lab: &Lab, text: &str, size: &Size) -> Drill {
    attempts(|| start_text(lab, text, size, Stdio::piped()).finish())
}

/// Runs a drill until its prober was there throughout; the last of its attempts is the answer.
///
/// A virtual machine of two processors is at times not there for a second. The drill says so, and
/// is INCONCLUSIVE, as it must be; it is no answer to what a test asks.
pub fn attempts<T: AsRef<Drill>>(mut drill: impl FnMut() -> T) -> T {
    let mut ended = drill();
    for attempt in 1..ATTEMPTS {
        let Some(why) = blind(ended.as_ref()) else {
            break;
        };
        // Not by eprintln, which a test that passes keeps for itself.
        let _ = writeln!(std::io::stderr(), "attempt {attempt} told nothing: {why}");
        ended = drill();
    }
    ended
}

/// Why the drill says that nothing can be said, if the reason is its own prober.
pub fn blind(drill: &Drill) -> Option<&str> {
    if drill.verdict.outcome != Outcome::Inconclusive {
        return None;
    }
    let reasons = drill.verdict.reasons.iter();
    reasons
        .map(String::as_str)
        .find(|reason| reason.starts_with("the prober cannot be trusted"))
}
