//! The steps of a drill, each at its time: put in force, and ended.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Firing, SPIN, Stage, Work};
use crate::boottime::{Boottime, spin_until};
use crate::changes::{self, Hands, Undo};
use crate::journal::{Journal, Record};
use crate::revert;

/// A step that is this late (the agent was stopped) would act alone: the drill ends instead.
const LATE: Duration = Duration::from_millis(500);

impl Firing {
    /// Ends what is due. An answer ends the drill.
    pub(super) fn end_steps(&mut self, hands: &mut Hands) -> Option<String> {
        let now = Boottime::now();
        let at = self.at;
        let held = &mut self.held;
        let over = |work: &&mut Work| work.stage == Stage::InForce && now >= at.plus(work.ends);
        let (mut undone, mut failed) = (Vec::new(), None);
        // Newest first, as at the end of the drill.
        let ended: Vec<&mut Work> = held.work.iter_mut().rev().filter(over).collect();
        let undos: Vec<&Undo> = ended.iter().map(|work| &work.undo).collect();
        held.gaps
            .extend(undos.iter().flat_map(|undo| undo.lapsed()));
        let answers = revert::walk(&undos, hands, &held.permit);
        for (work, answer) in ended.into_iter().zip(answers) {
            match answer {
                Ok(drifted) => held.drifted.extend(drifted),
                Err(error) => {
                    failed.get_or_insert(format!("a step could not be ended: {error}"));
                    continue;
                }
            }
            held.gaps.extend(work.undo.gaps());
            work.stage = Stage::Over;
            if !work.undo.may_repeat() {
                held.over.insert(work.index);
            }
            undone.push(work.index);
        }
        for index in &undone {
            if let Err(error) = held.journal.append(&Record::Undone { index: *index }) {
                return Some(format!("the journal failed: {error}"));
            }
        }
        let over = held.work.iter().filter(|work| undone.contains(&work.index));
        over.for_each(|work| work.undo.tidy(hands));
        failed
    }

    /// Puts in force what is due.
    pub(super) fn start_steps(&mut self, hands: &mut Hands) -> Result<(), String> {
        let at = self.at;
        let held = &mut self.held;
        let lease = held.lease;
        let mut applied = Vec::new();
        let soon = Boottime::now().plus(SPIN);
        let due = |work: &&mut Work| work.stage == Stage::Waiting && soon >= at.plus(work.starts);
        for work in held.work.iter_mut().filter(due) {
            let starts = at.plus(work.starts);
            spin_until(starts);
            let late = Boottime::now().since(starts);
            if late > LATE {
                return Err(format!(
                    "late: a step would have begun {} ms late",
                    late.as_millis()
                ));
            }
            let gate = lease.gate(at.plus(work.ends).left());
            let tried = changes::apply(&work.change, &work.undo, hands, gate, &held.permit);
            if let Err(error) = tried {
                if matches!(error, changes::Error::NotApplied { .. }) {
                    not_applied(work, &mut held.over, &mut held.journal)?;
                }
                return Err(format!("a step could not be put in force: {error}"));
            }
            work.stage = Stage::InForce;
            tracing::info!(drill = %held.drill, change = work.index, late_us =
                Boottime::now().since(starts).as_micros() as u64, "in force");
            applied.push(work.index);
        }
        // Only now, so that a sync does not hold up a change of the same instant.
        for index in applied {
            held.journal_too_late(index);
            let record = Record::Applied { index };
            held.journal
                .append(&record)
                .map_err(|error| format!("the journal failed: {error}"))?;
        }
        Ok(())
    }
}

/// A change that was refused without having altered anything is not undone: what stands there is not
/// ours.
fn not_applied(
    work: &mut Work,
    over: &mut BTreeSet<u32>,
    journal: &mut Journal,
) -> Result<(), String> {
    let index = work.index;
    work.stage = Stage::Over;
    over.insert(index);
    journal
        .append(&Record::NotApplied { index })
        .map_err(|error| format!("the journal failed: {error}"))
}
