//! One drill after the other in a world: undisturbed, or killed at a point; then the comparison.

mod count;
mod journal;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::agent::{self, Programs};
use crate::calls::Names;
use crate::inside::Meeting;
use crate::inventory::{self, Inventory, Process, Section};
use crate::point::{Cleaner, Point};
use crate::scene;
use crate::trace::{self, Ended, Met, Tracee};
use crate::world::World;
use journal::Journals;

/// For a guardian that tries again and again, or an agent that goes on to its deadline.
const QUIET_PATIENCE: Duration = Duration::from_secs(20);
/// The drill's, as short as the agent's timers can still tell apart.
const DURATION: Duration = Duration::from_millis(60);

/// How often a point is tried at which the guardian ends the agent.
const ATTEMPTS: usize = 3;

/// How a guardian's journal calls an agent that it has killed itself.
const HUNG: &str = "guardian: the agent hung";

pub struct Play {
    world: World,
    scene: String,
    programs: Programs,
    names: Names,
    before: Inventory,
    journals: Journals,
    ended: Ended,
    changes: PathBuf,
}

impl Play {
    /// Takes the inventory that everything is compared with.
    pub fn begin(scene: &str, world: World, agent: &Path) -> Result<Self, String> {
        let changes = world.place.desk().join("changes.json");
        let text = serde_json::to_string_pretty(&scene::changes(scene, &world)?);
        let text = text.map_err(|cause| cause.to_string())?;
        std::fs::write(&changes, text).map_err(|cause| cause.to_string())?;
        let programs = Programs::new(agent, &world.place)?;
        Ok(Self {
            before: Inventory::at_rest(|| Inventory::take(&world))?,
            journals: Journals::of(&world.place.state()),
            scene: scene.to_owned(),
            programs,
            names: Names::read()?,
            world,
            ended: Ended::default(),
            changes,
        })
    }

    fn change(&self, mut command: Command, duration: Duration) -> Command {
        let operator = scene::operator();
        self.programs
            .change(&mut command, &self.changes, duration, operator);
        command
    }

    fn traced(&mut self, children: bool) -> Result<Tracee, String> {
        self.ended = Ended::default(); // pids come again
        let command = Tracee::command(&self.programs.agent);
        Tracee::start(&mut self.change(command, DURATION), children)
    }

    /// Plays the drill, kills at the point, lets the cleaner work, and compares. Traced on a busy machine an
    /// agent may be so late that its guardian takes it for hung and ends it before the point: it is tried
    /// again then, for whoever hangs each time does so by itself.
    pub fn meet(&mut self, point: &Point) -> Result<Meeting, String> {
        for _ in 0..ATTEMPTS {
            let (meeting, hung) = self.meet_once(point)?;
            if !(hung && meeting.residue.is_empty()) {
                return Ok(meeting);
            }
        }
        let mut meeting = Meeting::default();
        let words = format!("its guardian ended it as hung, {ATTEMPTS} times of {ATTEMPTS}");
        meeting.residue.push(words);
        Ok(meeting)
    }

    /// And whether its guardian has ended the agent before the point.
    fn meet_once(&mut self, point: &Point) -> Result<(Meeting, bool), String> {
        let mut meeting = Meeting::default();
        match point.cleaner {
            Cleaner::Guardian | Cleaner::Restart | Cleaner::Revert => {
                self.kill_agent(point, &mut meeting)?;
            }
            Cleaner::Agent => self.kill_guardian(point, &mut meeting)?,
        }
        self.until_alone(&mut meeting);
        match point.cleaner {
            Cleaner::Restart => self.clean(&mut meeting, agent::restart),
            Cleaner::Revert => self.clean(&mut meeting, agent::revert),
            _ => {}
        }
        self.until_alone(&mut meeting);
        let hung = self.ended_as_hung(&meeting);
        self.compare(&mut meeting)?;
        Ok((meeting, hung))
    }

    fn clean(&self, meeting: &mut Meeting, cleaner: fn(&Programs) -> Result<(), String>) {
        meeting.residue.extend(cleaner(&self.programs).err());
    }

    fn kill_agent(&mut self, point: &Point, meeting: &mut Meeting) -> Result<(), String> {
        let mut agent = self.traced(false)?;
        let stop = Some((point.call, point.when));
        let met = agent.run(stop, &mut self.ended, &mut |_, _| {})?;
        if let Met::Ended(status) = met {
            if !self.ended_as_hung(meeting) {
                meeting.residue.extend(failure("the agent", status));
            }
            return Ok(());
        }
        meeting.call = agent.calls.last().map(|call| self.names.of(*call));
        self.undo_is_on_disk(meeting)?;
        let guardian = self.guardian();
        match (point.cleaner, point.take_over, guardian) {
            (Cleaner::Guardian, _, _) | (_, _, None) => agent.kill(&mut self.ended),
            (_, None, Some(guardian)) => {
                // First the guardian, which does nothing as long as the agent lives: nobody moves
                // between the two.
                self.kill_first(guardian)?;
                agent.kill(&mut self.ended)
            }
            (_, Some(call), Some(guardian)) => {
                let taken = Tracee::seize(guardian, &mut self.ended)?;
                agent.kill(&mut self.ended)?;
                let Some(mut guardian) = taken else {
                    meeting.call = None;
                    return Ok(());
                };
                let stop = Some((call, point.when));
                match guardian.run(stop, &mut self.ended, &mut |_, _| {})? {
                    Met::Call => guardian.kill(&mut self.ended),
                    Met::Ended(_) => {
                        // The agent alone was killed, which is another point.
                        meeting.call = None;
                        Ok(())
                    }
                }
            }
        }
    }

    fn ended_as_hung(&self, meeting: &Meeting) -> bool {
        meeting.call.is_none() && self.journals.tell(HUNG)
    }

    /// The agent stands still while its guardian dies.
    fn kill_first(&self, guardian: Pid) -> Result<(), String> {
        let killed = nix::sys::signal::kill(guardian, nix::sys::signal::Signal::SIGKILL);
        killed.map_err(|cause| format!("kill the guardian: {cause}"))?;
        let begun = Instant::now();
        while trace::alive(guardian) {
            if begun.elapsed() > QUIET_PATIENCE {
                return Err("the guardian does not die".to_owned());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    fn kill_guardian(&mut self, point: &Point, meeting: &mut Meeting) -> Result<(), String> {
        let agent = self.traced(true)?;
        let leader = agent.leader;
        let Some(mut guardian) = agent.leave_for_child(&mut self.ended)? else {
            return Err("the agent started no guardian".to_owned());
        };
        let stop = Some((point.call, point.when));
        match guardian.run(stop, &mut self.ended, &mut |_, _| {})? {
            Met::Call => {
                meeting.call = guardian.calls.last().map(|call| self.names.of(*call));
                guardian.kill(&mut self.ended)?;
            }
            Met::Ended(status) => meeting.residue.extend(failure("the guardian", status)),
        }
        self.until_alone(meeting);
        // It may refuse to begin without a guardian, but must not leave anything.
        let status = self.ended.of(leader);
        if let Some(WaitStatus::Exited(_, agent::RESIDUE)) = status {
            meeting
                .residue
                .push("the agent says that something is left".to_owned());
        }
        Ok(())
    }

    fn guardian(&self) -> Option<Pid> {
        let alive = |process: &Process| process.is_guardian() && process.state != 'Z';
        let found = inventory::processes().into_iter().find(alive)?;
        Some(Pid::from_raw(found.pid))
    }

    /// Whatever is altered while the agent stands still must have its undo in the journal.
    fn undo_is_on_disk(&self, meeting: &mut Meeting) -> Result<(), String> {
        let kinds = self.journals.intents();
        // The agent and its guardian are there; that is no change of theirs.
        let victim = |line: &str| {
            let pid = line.split(' ').next().and_then(|word| word.parse().ok());
            pid.is_some_and(|pid| self.world.victims.all.contains(&pid))
        };
        let mut now = Inventory::during(&self.world)?;
        now.keep(Section::Processes, victim);
        // Where a living guardian is at home is protection, and no change of the fault's.
        now.keep(Section::Groups, |line| !line.contains("/guardian"));
        for (section, difference) in self.before.differences(&now) {
            let Some(altered_by) = section.altered_by() else {
                continue;
            };
            if !altered_by
                .iter()
                .any(|kind| kinds.iter().any(|known| known == kind))
            {
                meeting.residue.push(format!(
                    "{section:?} differs and no undo of it is in the journal:\n{difference}"
                ));
            }
        }
        Ok(())
    }

    /// Waits until nobody is left but the victims; who stays is residue, and is ended.
    fn until_alone(&mut self, meeting: &mut Meeting) {
        let begun = Instant::now();
        loop {
            self.ended.reap();
            let left = self.others();
            if left.is_empty() {
                return;
            }
            if begun.elapsed() > QUIET_PATIENCE {
                for process in left {
                    let words = process.command.join(" ");
                    let Process {
                        pid, name, state, ..
                    } = process;
                    let told = format!("still there: {pid} {name} ({state}) {words}");
                    meeting.residue.push(told);
                    let _ = trace::end(Pid::from_raw(pid), &mut self.ended);
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn others(&self) -> Vec<Process> {
        let victim = |process: &Process| {
            let pid = u32::try_from(process.pid).unwrap_or(0);
            self.world.victims.all.contains(&pid)
        };
        let mut all = inventory::processes();
        all.retain(|process| !victim(process));
        all
    }

    fn compare(&mut self, meeting: &mut Meeting) -> Result<(), String> {
        let now = Inventory::take(&self.world)?;
        for (section, difference) in self.before.differences(&now) {
            meeting.residue.push(format!("{section:?}:\n{difference}"));
        }
        meeting.residue.extend(self.journals.open());
        if meeting.residue.is_empty() {
            self.journals.forget();
        } else {
            meeting.said = self.journals.told();
            meeting.said.extend(self.programs.said());
        }
        Ok(())
    }
}

/// A run that nobody disturbed must end well.
fn failure(who: &str, status: WaitStatus) -> Option<String> {
    match status {
        WaitStatus::Exited(_, 0) => None,
        WaitStatus::Exited(_, agent::RESIDUE) => Some(format!("{who} says that something is left")),
        other => Some(format!("{who} was not disturbed and ended with {other:?}")),
    }
}
