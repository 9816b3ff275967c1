//! Undisturbed runs: how many system calls there are, and whether the fault alters what it should.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::wait::WaitStatus;

use super::{Meeting, Play, failure};
use crate::choose::Counts;
use crate::inside::Answer;
use crate::inventory::{Inventory, Section};
use crate::scene;
use crate::trace::{self, Ended, Met, Tracee};

/// Long enough for a few inventories.
const LOOK: Duration = Duration::from_millis(1500);

impl Play {
    /// Counts, after having seen that the agent takes this scene and that its fault bites. Residue
    /// of an undisturbed run is a meeting without a call.
    pub fn count(&mut self) -> Result<Answer, String> {
        let met = self.bites()?;
        if !met.residue.is_empty() {
            return Ok(Answer::Met(met));
        }
        let mut meeting = Meeting::default();
        let counts = self.count_all(&mut meeting)?;
        Ok(match meeting.residue.is_empty() {
            true => Answer::Counted(counts),
            false => Answer::Met(meeting),
        })
    }

    /// Looks while the fault is in force.
    fn bites(&mut self) -> Result<Meeting, String> {
        let mut meeting = Meeting::default();
        self.ended = Ended::default();
        let command = std::process::Command::new(&self.programs.agent);
        let mut command = self.change(command, LOOK);
        let child = command.stdin(Stdio::null()).spawn();
        let agent = trace::pid(child.map_err(|cause| format!("the agent: {cause}"))?.id());
        let begun = Instant::now();
        let mut missing: BTreeSet<Section> = scene::bites(&self.scene).iter().copied().collect();
        while begun.elapsed() < LOOK * 3 && self.ended.of(agent).is_none() {
            if !missing.is_empty() && self.programs.has_said("firing") {
                for (section, _) in self.before.differences(&Inventory::take(&self.world)?) {
                    missing.remove(&section);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
            self.ended.reap();
        }
        self.until_alone(&mut meeting);
        match self.ended.of(agent) {
            Some(WaitStatus::Exited(_, code)) if code != 0 && code != crate::agent::RESIDUE => {
                let said = self.programs.said().join("\n");
                return Err(format!("the agent refuses this scene ({code}):\n{said}"));
            }
            Some(status) => meeting.residue.extend(failure("the agent", status)),
            None => meeting.residue.push("the agent did not end".to_owned()),
        }
        self.compare(&mut meeting)?;
        if meeting.residue.is_empty() && !missing.is_empty() {
            return Err(format!(
                "the fault does not bite: {missing:?} did not differ"
            ));
        }
        Ok(meeting)
    }

    fn count_all(&mut self, meeting: &mut Meeting) -> Result<Counts, String> {
        let mut agent = self.traced(false)?;
        let (mut armed, mut in_force) = (0, 0);
        let (names, journals) = (&self.names, &self.journals);
        let met = agent.run(None, &mut self.ended, &mut |call, number| {
            if !matches!(names.of(number).as_str(), "fsync" | "fdatasync") {
                return;
            }
            if armed == 0 && !journals.intents().is_empty() {
                armed = call;
            }
            if in_force == 0 && journals.applied() {
                in_force = call;
            }
        })?;
        let calls: Vec<String> = agent
            .calls
            .iter()
            .map(|call| self.names.of(*call))
            .collect();
        if let Met::Ended(status) = met {
            meeting.residue.extend(failure("the agent", status));
        }
        self.until_alone(meeting);
        self.compare(meeting)?;
        let (guardian, take_over) = match meeting.residue.is_empty() {
            true => (
                self.count_guardian(meeting)?,
                self.count_take_over(in_force, meeting)?,
            ),
            false => (0, 0),
        };
        Ok(Counts {
            agent: calls,
            armed: armed.max(1),
            in_force: in_force.max(1),
            guardian,
            take_over,
        })
    }

    fn count_guardian(&mut self, meeting: &mut Meeting) -> Result<u32, String> {
        let guardian = self.traced(true)?.leave_for_child(&mut self.ended)?;
        let mut guardian = guardian.ok_or("the agent started no guardian")?;
        if let Met::Ended(status) = guardian.run(None, &mut self.ended, &mut |_, _| {})? {
            meeting.residue.extend(failure("the guardian", status));
        }
        self.until_alone(meeting);
        self.compare(meeting)?;
        Ok(u32::try_from(guardian.calls.len()).unwrap_or(u32::MAX))
    }

    fn count_take_over(&mut self, in_force: u32, meeting: &mut Meeting) -> Result<u32, String> {
        let mut agent = self.traced(false)?;
        let stop = Some((in_force.max(1), crate::point::When::After));
        agent.run(stop, &mut self.ended, &mut |_, _| {})?;
        let guardian = self.guardian().ok_or("there is no guardian in mid-drill")?;
        let taken = Tracee::seize(guardian, &mut self.ended)?;
        agent.kill(&mut self.ended)?;
        let mut guardian = taken.ok_or("the guardian ended by itself")?;
        if let Met::Ended(status) = guardian.run(None, &mut self.ended, &mut |_, _| {})? {
            meeting.residue.extend(failure("the guardian", status));
        }
        self.until_alone(meeting);
        self.compare(meeting)?;
        Ok(u32::try_from(guardian.calls.len()).unwrap_or(u32::MAX))
    }
}
