//! The records of a journal and their lines. A stored format: readers of every version must stay.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::boottime::{Boottime, wall_ms};
use crate::changes::Undo;

/// Version of the records; stands in the first one. 2: NotApplied, and more kinds of undo.
pub const FORMAT: u32 = 2;
/// What can be read.
const FORMATS: RangeInclusive<u32> = 1..=FORMAT;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    Armed(Armed),
    Intent(Intent),
    /// The change with this number is in force.
    Applied {
        index: u32,
    },
    /// It was refused and altered nothing: its undo is not owed, and must not be made.
    NotApplied {
        index: u32,
    },
    /// The drill will act; everything must be over at `deadline`.
    Fired {
        at: Boottime,
        deadline: Boottime,
    },
    Undone {
        index: u32,
    },
    UndoFailed {
        index: u32,
        why: String,
    },
    /// Nothing more is owed; `residue` is what the scan found.
    Closed {
        cause: String,
        residue: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    pub format: u32,
    pub drill: String,
    pub conductor: String,
    pub plan_sha256: String,
    pub boot_id: String,
    /// If it never fires, everything must be over then.
    pub expires: Boottime,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub step: u32,
    /// Number of the change on this node, over all steps.
    pub index: u32,
    /// Kind of change.
    pub change: String,
    pub undo: Undo,
}

/// What stands on a line: the record and when it was written.
#[derive(Serialize, Deserialize)]
struct Line {
    boottime: Boottime,
    wall_ms: u64,
    record: Record,
}

/// One line with its length and checksum.
pub fn encode(record: &Record) -> Vec<u8> {
    let line = Line {
        boottime: Boottime::now(),
        wall_ms: wall_ms(),
        record: record.clone(),
    };
    // Serialising these types cannot fail: no maps with odd keys, no foreign Serialize.
    let json = serde_json::to_string(&line).unwrap_or_default();
    format!(
        "{} {:08x} {json}\n",
        json.len(),
        crc32fast::hash(json.as_bytes())
    )
    .into_bytes()
}

fn decode(line: &[u8]) -> Option<Record> {
    let line = std::str::from_utf8(line).ok()?;
    let (length, rest) = line.split_once(' ')?;
    let (crc, json) = rest.split_once(' ')?;
    if length.parse() != Ok(json.len())
        || u32::from_str_radix(crc, 16) != Ok(crc32fast::hash(json.as_bytes()))
    {
        return None;
    }
    Some(serde_json::from_str::<Line>(json).ok()?.record)
}

/// All that can be read of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub armed: Option<Armed>,
    /// In the order in which they were written; undo goes the other way.
    pub intents: Vec<Intent>,
    /// Changes that were refused without having altered anything.
    pub not_applied: BTreeSet<u32>,
    /// Changes whose undo has succeeded.
    pub undone: BTreeSet<u32>,
    pub deadline: Option<Boottime>,
    pub closed: bool,
    /// A whole line was not what was written: something may be missing.
    pub corrupt: bool,
    /// The last line was cut short: a crash during a write, of which no permit came.
    pub torn: bool,
    /// Bytes up to the end of the last whole line.
    pub sound_length: u64,
}

impl Contents {
    pub fn parse(bytes: &[u8]) -> Self {
        let mut contents = Self::default();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            match decode(&rest[..end]) {
                Some(record) => contents.take(record),
                None => contents.corrupt = true,
            }
            rest = &rest[end + 1..];
        }
        contents.torn = !rest.is_empty();
        contents.sound_length = (bytes.len() - rest.len()) as u64;
        contents.corrupt |= contents
            .armed
            .as_ref()
            .is_some_and(|armed| !FORMATS.contains(&armed.format));
        // The first record says what all others mean; it is missing only if nothing was permitted.
        contents.corrupt |= contents.armed.is_none() && contents.sound_length > 0;
        contents
    }

    /// Whether undoing this change is still owed.
    pub fn owes(&self, intent: &Intent) -> bool {
        let undone = self.undone.contains(&intent.index) && !intent.undo.may_repeat();
        !undone && !self.not_applied.contains(&intent.index)
    }

    /// When everything of this drill must be over, fired or not.
    pub fn over_by(&self) -> Option<Boottime> {
        self.deadline
            .or(self.armed.as_ref().map(|armed| armed.expires))
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Armed(armed) => self.armed = Some(armed),
            Record::Intent(intent) => self.intents.push(intent),
            Record::Fired { deadline, .. } => self.deadline = Some(deadline),
            Record::Closed { .. } => self.closed = true,
            Record::NotApplied { index } => drop(self.not_applied.insert(index)),
            Record::Undone { index } => drop(self.undone.insert(index)),
            Record::Applied { .. } | Record::UndoFailed { .. } => {}
        }
    }
}
