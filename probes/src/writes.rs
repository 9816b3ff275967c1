//! The books of acknowledged writes: which there are, and what was done to each since.

use std::collections::{BTreeMap, BTreeSet};

use scenarios::effects::WritePhase;
use scenarios::fleet::Probe;
use serde::{Deserialize, Serialize};

/// The version that an update writes; a write begins as version 1.
pub const UPDATED: u64 = 2;

/// An acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Write {
    pub cell: String,
    pub probe: String,
    pub id: String,
    /// When its last change was acknowledged, ms since the drill began.
    pub at_ms: u64,
    pub fate: Fate,
}

/// What was done to a write. What was not acknowledged may have happened or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Created,
    Updated {
        acknowledged: bool,
        /// The new version was read once.
        seen: bool,
    },
    Deleted {
        acknowledged: bool,
    },
}

impl Fate {
    /// What is known of it where the last that was done may not have been told: a write that was intact
    /// may have been deleted or updated since.
    #[must_use]
    pub fn unsure(self, probe: &Probe) -> Fate {
        let rewrites = &probe.rewrites;
        match self {
            Fate::Created if rewrites.delete.is_some() => Fate::Deleted {
                acknowledged: false,
            },
            Fate::Created if rewrites.update.is_some() => Fate::Updated {
                acknowledged: false,
                seen: false,
            },
            known => known,
        }
    }
}

/// When the phases of a drill began, ms since the drill began; absent: never.
#[derive(Clone, Copy, Debug, Default)]
pub struct WritePhases {
    pub fire_ms: Option<u64>,
    pub reverted_ms: Option<u64>,
}

impl WritePhases {
    pub(crate) fn of(&self, write: &Write) -> WritePhase {
        let since = |mark: Option<u64>| mark.is_some_and(|mark| write.at_ms >= mark);
        match (since(self.fire_ms), since(self.reverted_ms)) {
            (_, true) => WritePhase::After,
            (true, false) => WritePhase::During,
            (false, false) => WritePhase::Before,
        }
    }
}

/// A write that is being changed, and by nobody else.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    index: usize,
    pub id: String,
}

/// All writes of a drill.
#[derive(Default)]
pub(crate) struct Writes {
    all: Vec<Write>,
    /// By stream, those that nothing was done to yet.
    intact: BTreeMap<usize, Vec<usize>>,
    /// Those that nobody was told of as they are now.
    untold: BTreeSet<usize>,
}

impl Writes {
    pub fn acknowledge(&mut self, stream: usize, write: Write) {
        self.intact.entry(stream).or_default().push(self.all.len());
        self.untold.insert(self.all.len());
        self.all.push(write);
    }

    /// Takes one of a stream's untouched writes, old and new ones alike; `k` chooses. Until told
    /// otherwise its fate is `fate`.
    pub fn take(&mut self, stream: usize, k: u64, fate: Fate) -> Option<Taken> {
        let intact = self
            .intact
            .get_mut(&stream)
            .filter(|intact| !intact.is_empty())?;
        // A multiplicative hash: neighbouring numbers land far apart.
        let chosen = k.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let at = usize::try_from(chosen).unwrap_or(0) % intact.len();
        let index = intact.swap_remove(at);
        let write = self.all.get_mut(index)?;
        write.fate = fate;
        self.untold.insert(index);
        let id = write.id.clone();
        Some(Taken { index, id })
    }

    /// What became of a write that was taken; `at_ms` if that was acknowledged.
    pub fn settle(&mut self, taken: &Taken, fate: Fate, at_ms: Option<u64>) {
        if let Some(write) = self.all.get_mut(taken.index) {
            write.fate = fate;
            write.at_ms = at_ms.unwrap_or(write.at_ms);
            self.untold.insert(taken.index);
        }
    }

    /// The writes that are new, or to which something was done, since this was asked last.
    pub fn changed(&mut self) -> Vec<Write> {
        let untold = std::mem::take(&mut self.untold);
        let of = |index: usize| self.all.get(index).cloned();
        untold.into_iter().filter_map(of).collect()
    }

    pub fn all(&self) -> &[Write] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(number: u64) -> Write {
        Write {
            cell: "a".to_owned(),
            probe: "order".to_owned(),
            id: number.to_string(),
            at_ms: number,
            fate: Fate::Created,
        }
    }

    #[test]
    fn each_write_is_taken_once_and_old_ones_too() {
        let mut writes = Writes::default();
        (0..100).for_each(|number| writes.acknowledge(3, write(number)));
        assert!(
            writes.take(4, 0, Fate::Created).is_none(),
            "another stream's"
        );
        let unsure = Fate::Deleted {
            acknowledged: false,
        };
        let taken: Vec<Taken> = (0..60)
            .map(|k| writes.take(3, k * 6 + 5, unsure).unwrap())
            .collect();
        let ids: std::collections::BTreeSet<&str> = taken.iter().map(|t| t.id.as_str()).collect();
        assert_eq!(ids.len(), 60, "none twice");
        let old = taken[..30].iter().filter(|t| t.index < 50).count();
        assert!((5..=25).contains(&old), "{old} of 30 from the older half");
        writes.settle(&taken[0], Fate::Deleted { acknowledged: true }, Some(777));
        let first = &writes.all()[taken[0].index];
        assert_eq!(
            (first.at_ms, first.fate),
            (777, Fate::Deleted { acknowledged: true })
        );
        assert_eq!(writes.all()[taken[1].index].fate, unsure, "not settled");
    }

    #[test]
    fn what_was_done_to_a_write_is_told_once_and_after_every_change() {
        let mut writes = Writes::default();
        let ids = |writes: &mut Writes| -> Vec<(String, Fate)> {
            let changed = writes.changed().into_iter();
            changed.map(|write| (write.id, write.fate)).collect()
        };
        (0..3).for_each(|number| writes.acknowledge(0, write(number)));
        assert_eq!(ids(&mut writes).len(), 3);
        assert_eq!(ids(&mut writes), []);
        let deleted = |acknowledged| Fate::Deleted { acknowledged };
        let taken = writes.take(0, 1, deleted(false)).unwrap();
        let told = |acknowledged| [(taken.id.clone(), deleted(acknowledged))];
        assert_eq!(ids(&mut writes), told(false));
        writes.settle(&taken, deleted(true), Some(9));
        assert_eq!(ids(&mut writes), told(true));
    }

    #[test]
    fn a_phase_is_that_of_the_last_acknowledged_change() {
        let phases = WritePhases {
            fire_ms: Some(10),
            reverted_ms: Some(20),
        };
        let of = |at| phases.of(&write(at));
        assert_eq!(
            [of(9), of(10), of(19), of(20)],
            [
                WritePhase::Before,
                WritePhase::During,
                WritePhase::During,
                WritePhase::After
            ]
        );
        assert_eq!(WritePhases::default().of(&write(5)), WritePhase::Before);
    }
}
