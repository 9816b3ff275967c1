//! The records of a journal and their lines. A stored format (docs/journal.md): every version stays
//! readable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::boottime::{Boottime, wall_ms};
use crate::changes::Undo;

/// Version of the records; stands in the first one. 2: lines are linked; NotApplied; more kinds of
/// undo.
pub const FORMAT: u32 = 2;

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
    /// Nothing more is owed; `residue` is what the scan found. Nothing follows it.
    Closed {
        cause: String,
        residue: Vec<String>,
    },
}

/// What was told last of each change's undo: why it failed; none: it has succeeded.
pub type Told = BTreeMap<u32, Option<String>>;

impl Record {
    /// If it tells what became of an undo.
    pub fn undo_told(&self) -> Option<(u32, Option<String>)> {
        match self {
            Self::Undone { index } => Some((*index, None)),
            Self::UndoFailed { index, why } => Some((*index, Some(why.clone()))),
            _ => None,
        }
    }
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

/// Where the next line goes: what it must say of the line before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Number of the line, from 0.
    seq: u64,
    /// Checksum of the line before it; 0 for the first.
    prev: u32,
}

/// What stands on a line: the record, when it was written, and what binds it to its place. Lines of
/// format 1 have no `seq` and no `prev`.
#[derive(Serialize, Deserialize)]
struct Line<R> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// Eight hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prev: Option<String>,
    /// How many lines of the same write come behind it.
    #[serde(default, skip_serializing_if = "is_zero")]
    more: u32,
    boottime: Boottime,
    wall_ms: u64,
    record: R,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants a reference
fn is_zero(more: &u32) -> bool {
    *more == 0
}

impl Link {
    /// The lines of one write, in the order of the records.
    pub fn encode(&mut self, records: &[Record]) -> Vec<u8> {
        let mut lines = Vec::new();
        for (number, record) in (1..).zip(records) {
            let line = Line {
                seq: Some(self.seq),
                prev: Some(digits(self.prev)),
                more: u32::try_from(records.len() - number).unwrap_or(u32::MAX),
                boottime: Boottime::now(),
                wall_ms: wall_ms(),
                record,
            };
            // Serialising these types cannot fail: no maps with odd keys, no foreign Serialize.
            let json = serde_json::to_string(&line).unwrap_or_default();
            let crc = crc32fast::hash(json.as_bytes());
            lines.extend_from_slice(format!("{} {} {json}\n", json.len(), digits(crc)).as_bytes());
            *self = self.behind(crc);
        }
        lines
    }

    fn behind(self, crc: u32) -> Self {
        Self {
            seq: self.seq.wrapping_add(1),
            prev: crc,
        }
    }
}

fn digits(crc: u32) -> String {
    format!("{crc:08x}")
}

/// An intact line, as it was read.
pub(super) struct Read {
    pub record: Record,
    pub boottime: Boottime,
    pub more: u32,
    seq: Option<u64>,
    prev: Option<String>,
    crc: u32,
}

impl Read {
    /// None: something else stands there than what was written.
    pub fn decode(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let (length, rest) = line.split_once(' ')?;
        let (crc, json) = rest.split_once(' ')?;
        let computed = crc32fast::hash(json.as_bytes());
        // Compared as text: `+7` or `0A` are numbers too, and were never written.
        if length != json.len().to_string() || crc != digits(computed) {
            return None;
        }
        let line: Line<Record> = serde_json::from_str(json).ok()?;
        Some(Self {
            record: line.record,
            boottime: line.boottime,
            more: line.more,
            seq: line.seq,
            prev: line.prev,
            crc: computed,
        })
    }

    /// Whether it says that it belongs at `link`; none: it does not say where it belongs (format 1).
    pub fn fits(&self, link: Link) -> Option<bool> {
        match (self.seq, &self.prev) {
            (None, None) => None,
            (seq, prev) => Some(seq == Some(link.seq) && *prev == Some(digits(link.prev))),
        }
    }

    /// What the line behind this one must say.
    pub fn next(&self, link: Link) -> Link {
        let seq = self.seq.unwrap_or(link.seq);
        Link { seq, ..link }.behind(self.crc)
    }
}

/// Whether a last line without its end is one that a crash cut short: the beginning of a line, or
/// zeros where a file system had made room for it.
pub(super) fn is_torn(tail: &[u8]) -> bool {
    tail.iter().all(|byte| *byte == 0) || begins_a_line(tail)
}

fn begins_a_line(tail: &[u8]) -> bool {
    let mut parts = tail.splitn(3, |byte| *byte == b' ');
    let length = parts.next().unwrap_or_default();
    let Some(crc) = parts.next() else {
        return !length.is_empty() && length.len() < 10 && length.iter().all(u8::is_ascii_digit);
    };
    let hexadecimal = crc.iter().all(u8::is_ascii_hexdigit) && crc.len() <= 8;
    let length = std::str::from_utf8(length).ok().map(str::parse::<usize>);
    let Some(Ok(length)) = length else {
        return false;
    };
    match parts.next() {
        None => hexadecimal,
        // A whole line whose end is not a line end was not cut short.
        Some(json) => hexadecimal && crc.len() == 8 && json.len() <= length,
    }
}
