//! What can be read of a journal, whatever has become of it since it was written.
//!
//! Every intact line counts towards what is owed. What takes something off that list, or says that
//! nothing is owed, counts only where it was written: directly behind the line that it names.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use super::record::{Armed, FORMAT, Intent, Link, Read, Record, Told, is_torn};
use crate::boottime::Boottime;

/// What can be read.
const FORMATS: RangeInclusive<u32> = 1..=FORMAT;

/// All that can be read of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub armed: Option<Armed>,
    /// In the order in which they were written; undo goes the other way.
    pub intents: Vec<Intent>,
    /// Changes that were refused without having altered anything.
    pub not_applied: BTreeSet<u32>,
    /// Changes that were put in force.
    pub applied: BTreeSet<u32>,
    /// Changes whose undo has succeeded.
    pub undone: BTreeSet<u32>,
    pub deadline: Option<Boottime>,
    pub closed: bool,
    /// Why it was closed, and when.
    pub closing: Option<(String, Boottime)>,
    /// What was written is not all there, or something else is: something may be missing.
    pub corrupt: bool,
    /// The last line was cut short: a crash during a write, of which no permit came.
    pub torn: bool,
    /// More lines of the last write should follow.
    pub(super) awaits_more: bool,
    /// Bytes up to the end of the last whole line.
    pub sound_length: u64,
    pub(super) told: Told,
    /// Where the next line goes.
    pub(super) link: Link,
}

impl Contents {
    pub fn parse(bytes: &[u8]) -> Self {
        let mut contents = Self::default();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            match Read::decode(&rest[..end]) {
                Some(line) => contents.take(line),
                None => contents.corrupt = true,
            }
            rest = &rest[end + 1..];
        }
        contents.sound_length = (bytes.len() - rest.len()) as u64;
        if !rest.is_empty() {
            contents.torn = is_torn(rest);
            contents.corrupt |= !contents.torn;
        }
        contents.corrupt |= contents
            .armed
            .as_ref()
            .is_some_and(|armed| !FORMATS.contains(&armed.format));
        // A journal gets its name when the write that arms it is whole and on disk: whatever of that is
        // missing under this name, and be it all, was lost later.
        contents.corrupt |= contents.armed.is_none() || contents.awaits_more;
        contents
    }

    /// Of a file, which must be named after the drill that armed it; one that is held by its descriptor alone
    /// has no name.
    pub fn of(path: &Path, bytes: &[u8]) -> Self {
        let mut contents = Self::parse(bytes);
        if path.starts_with("/proc/self/fd") {
            return contents;
        }
        let name = path.file_stem().unwrap_or_default();
        let armed = contents.armed.as_ref();
        contents.corrupt |= armed.is_some_and(|armed| *armed.drill != *name);
        contents
    }

    /// Everything was undone and seen to be; else whoever finds it abandoned must undo what is owed.
    pub fn is_settled(&self) -> bool {
        self.closed && !self.corrupt
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

    fn take(&mut self, line: Read) {
        let first = self.link == Link::default();
        let fits = line.fits(self.link).unwrap_or_else(|| match &line.record {
            Record::Armed(armed) => armed.format == 1,
            _ => self.armed.as_ref().is_some_and(|armed| armed.format == 1),
        });
        // Nothing follows what closes a journal, and nothing but the first line arms.
        let in_place = fits && !self.closed && first == matches!(line.record, Record::Armed(_));
        // Whoever undoes a journal that lacks undos goes on writing behind the gap.
        let gap = self.awaits_more && !matches!(line.record, Record::Intent(_));
        self.corrupt |= !in_place || gap;
        self.closed = false;
        self.closing = None;
        self.link = line.next(self.link);
        self.awaits_more = line.more > 0;
        let said = line.record.undo_told();
        self.told.extend(said.filter(|_| in_place));
        match line.record {
            Record::Armed(armed) => drop(self.armed.get_or_insert(armed)),
            Record::Intent(intent) => self.intents.push(intent),
            // The earlier one: whoever waits for it waits too little rather than too long.
            Record::Fired { deadline, .. } => {
                self.deadline = Some(self.deadline.map_or(deadline, |known| known.min(deadline)));
            }
            Record::UndoFailed { .. } => {}
            _ if !in_place => {}
            Record::Applied { index } => drop(self.applied.insert(index)),
            Record::NotApplied { index } => drop(self.not_applied.insert(index)),
            Record::Undone { index } => drop(self.undone.insert(index)),
            Record::Closed { cause, .. } => {
                self.closed = true;
                self.closing = Some((cause, line.boottime));
            }
        }
    }
}
