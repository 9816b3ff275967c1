//! One crash point: who is killed at which system call, and who then has to clean up.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// At a system call's entry, when it has not been made, or at its exit, when its answer is not known
/// to the process yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum When {
    Before,
    After,
}

/// Who cleans up, which also says who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Cleaner {
    /// The agent is killed; its guardian is left alone with it.
    Guardian,
    /// Agent and guardian are killed; `cellwall-agent run` starts and is ended when it serves.
    Restart,
    /// Agent and guardian are killed; `cellwall-agent revert --all` runs.
    Revert,
    /// The guardian is killed; the agent ends its drill by itself.
    Agent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    pub scene: String,
    /// Of the one that is killed first, counted from 1 over all its threads since its exec.
    pub call: u32,
    pub when: When,
    pub cleaner: Cleaner,
    /// Restart and revert only: the guardian is not killed together with the agent, but at this call
    /// of its take-over, counted from 1.
    pub take_over: Option<u32>,
}

/// The rows of the report: who is killed and who cleans up, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    pub cleaner: Cleaner,
    pub take_over: bool,
}

impl Way {
    /// All of a scene on one node, with their share of a sample in elevenths.
    pub const ALL: [(Way, usize); 6] = [
        (Way::of(Cleaner::Guardian, false), 3),
        (Way::of(Cleaner::Restart, false), 2),
        (Way::of(Cleaner::Revert, false), 2),
        (Way::of(Cleaner::Agent, false), 2),
        (Way::of(Cleaner::Restart, true), 1),
        (Way::of(Cleaner::Revert, true), 1),
    ];

    pub const fn of(cleaner: Cleaner, take_over: bool) -> Self {
        Self { cleaner, take_over }
    }

    pub fn point(self, scene: &str, call: u32, when: When, take_over: Option<u32>) -> Point {
        Point {
            scene: scene.to_owned(),
            call,
            when,
            cleaner: self.cleaner,
            take_over,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.cleaner, self.take_over) {
            (Cleaner::Guardian, _) => "agent killed, guardian cleans",
            (Cleaner::Restart, false) => "both killed, restart cleans",
            (Cleaner::Revert, false) => "both killed, revert --all cleans",
            (Cleaner::Agent, _) => "guardian killed, agent ends",
            (Cleaner::Restart, true) => "guardian killed at take-over, restart cleans",
            (Cleaner::Revert, true) => "guardian killed at take-over, revert --all cleans",
        })
    }
}

impl Point {
    pub fn way(&self) -> Way {
        Way::of(self.cleaner, self.take_over.is_some())
    }
}

fn word(value: impl ValueEnum) -> String {
    let possible = value.to_possible_value();
    possible.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The arguments that repeat it.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (when, cleaner) = (word(self.when), word(self.cleaner));
        write!(f, "--scene {} --call {}", self.scene, self.call)?;
        write!(f, " --when {when} --cleaner {cleaner}")?;
        match self.take_over {
            Some(call) => write!(f, " --take-over {call}"),
            None => Ok(()),
        }
    }
}
