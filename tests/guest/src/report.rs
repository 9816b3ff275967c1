//! What is proved, and what the guest tells its host about it: lines of JSON on the second serial port.

use std::fs::File;
use std::io::Write;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// The machine is reset in the middle of drills, boots, and takes back what was on its disk
    PowerCut,
    /// Delay, jitter, loss, duplicates, corruption, reordering and rate, measured
    Netem,
    /// Limits of cgroup v2, and its freezer
    Cgroups,
    /// The guardian of an agent that runs out of memory or stands still
    Guardian,
    /// The wall clock jumps an hour forth and back
    Clock,
}

impl Case {
    pub const ALL: &[Self] = &[
        Self::PowerCut,
        Self::Netem,
        Self::Cgroups,
        Self::Guardian,
        Self::Clock,
    ];

    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Holds {
        what: String,
        holds: bool,
        seen: String,
    },
    /// The host is asked to reset the machine after so many milliseconds of its own.
    Reset { after_ms: u64 },
    /// The case could not be played to its end.
    Broke { why: String },
    /// The case is played.
    Over {},
}

/// Where the guest writes them.
pub struct Report {
    port: File,
}

impl Report {
    pub fn to(port: File) -> Self {
        Self { port }
    }

    /// A statement, whether it holds, and what was seen.
    pub fn holds(&mut self, what: &str, holds: bool, seen: impl Into<String>) {
        self.say(&Line::Holds {
            what: what.to_owned(),
            holds,
            seen: seen.into(),
        });
    }

    /// Nobody is there to hear that it could not be told: the host misses the last line.
    pub fn say(&mut self, line: &Line) {
        let text = serde_json::to_string(line).unwrap_or_default();
        let _ = writeln!(self.port, "{text}");
        // Else the machine may be off before the port has sent it.
        let _ = rustix::termios::tcdrain(&self.port);
    }
}
