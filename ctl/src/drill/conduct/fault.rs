//! From arm to revert: whatever happens after fire, every agent is told to revert.

use std::time::Duration;

use scenarios::history::{AgentEvent, Alarm, Block, Interrupted, Phase, Record, SoFar};
use scenarios::verdict::{Watch, windows};
use tokio::time::Instant;

use super::Conduct;
use crate::agents::Agent;
use crate::drill::hands::{
    Answer, Armed, ENDED, Firing, Orders, Patience, Reverted, residues, unclean,
};
use crate::drill::prepare::BLOCK_MS;
use crate::drill::scene::Happening;
use crate::failure::Failure;
use crate::output;

/// Fire is sent this long before T: more than the 200 ms that agents are promised.
const FIRE_LEAD: Duration = Duration::from_millis(400);
/// Agents end by their own clocks; this close to the deadline that is no surprise.
const EARLY: Duration = Duration::from_secs(1);

/// How the time between fire and the deadline ended.
enum Held {
    ToTheEnd,
    Alarmed,
    Interrupted,
}

impl Conduct {
    /// Arm, fire, hold, revert, recover. Reverts on every way out.
    pub(super) async fn fault(
        &mut self,
        agents: Vec<Agent>,
        orders: Orders,
    ) -> Result<(), Failure> {
        let count = agents.len();
        let began = Instant::now();
        let pulse = self.scene.pulse.clone();
        let armed = match Armed::arm(agents, orders, &self.events, &pulse).await {
            Ok(armed) => armed,
            Err(refusal) => {
                let why = refusal.why.join("; ");
                let answers = refusal.revert().await;
                return self.refused(&format!("not armed: {why}"), answers);
            }
        };
        let took = began.elapsed().as_millis();
        self.scene.story.tell(&format!(
            "armed {count} agents in {took} ms: every undo is on disk, nothing is in force"
        ));
        if let Err(why) = self.gate() {
            let answers = armed.revert().await;
            return self.refused(&why, answers);
        }
        let grid_ms = self.prepared.fire_grid_ms();
        let at = self.scene.boundary(Instant::now() + FIRE_LEAD, grid_ms);
        // Streams of longer blocks must not have one that is half before the fault and half in it.
        if grid_ms > BLOCK_MS && !self.wait(at - FIRE_LEAD).await? {
            let answers = armed.revert().await;
            return self.keep_answers(answers);
        }
        let firing = match armed.fire(at).await {
            Ok(firing) => firing,
            Err(refusal) => {
                let why = refusal.why.join("; ");
                let answers = refusal.revert().await;
                return self.refused(&format!("not fired: {why}"), answers);
            }
        };
        let held = self.hold(at).await;
        self.end_fault(firing, held).await
    }

    /// The baseline gate of verdict.md 4, and the planner again with the rate that was measured.
    fn gate(&mut self) -> Result<(), String> {
        let unwell = |why: String| format!("the baseline does not allow a drill: {why}");
        Watch::new(self.scene.records()).map_err(|why| unwell(why.to_string()))?;
        match windows::check_again(self.scene.records(), &self.prepared.asked()) {
            Some(Err(short)) => Err(unwell(short.to_string())),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Ends a drill before anything was in force.
    fn refused(&mut self, why: &str, answers: Vec<Answer>) -> Result<(), Failure> {
        self.scene.story.tell(&format!("refused: {why}"));
        self.interrupted(why.to_string())?;
        self.keep_answers(answers)
    }

    /// From fire to the deadline, or to the first reason to stop.
    async fn hold(&mut self, at: Instant) -> Result<Held, Failure> {
        self.scene.mark(Phase::Fire, at)?;
        self.fire = Some(at);
        let deadline = at + Duration::from_millis(self.prepared.plan.ends_ms());
        if let Some(load) = &self.load {
            load.surge(at, deadline);
        }
        if let Some(held) = self.hold_until(at, deadline).await? {
            return Ok(held);
        }
        self.tell_fire(deadline - at);
        let held = self.hold_until(deadline, deadline).await?;
        Ok(held.unwrap_or(Held::ToTheEnd))
    }

    fn tell_fire(&self, length: Duration) {
        let plan = &self.prepared.plan;
        self.scene.story.tell(&format!(
            "FIRE {}: {} for {}",
            plan.target.cells.join(", "),
            plan.steps.first().map_or("", |step| step.title.as_str()),
            humantime::format_duration(length)
        ));
    }

    /// None if nothing ended the fault until `due`. Agents hold it from their answer to fire on, so
    /// the time before T counts as well.
    async fn hold_until(
        &mut self,
        due: Instant,
        deadline: Instant,
    ) -> Result<Option<Held>, Failure> {
        loop {
            match self.scene.next(due).await? {
                Happening::Due => return Ok(None),
                Happening::Interrupt(why) => {
                    self.scene.story.tell(&format!("{why}: reverting first"));
                    return Ok(Some(Held::Interrupted));
                }
                Happening::Agent(event) => {
                    self.narrator.agent(self.scene.story, &event);
                    let early = Instant::now() + EARLY < deadline;
                    if early && ENDED.contains(&event.state.as_str()) {
                        self.cut_short(&event)?;
                        return Ok(Some(Held::Interrupted));
                    }
                }
                Happening::VantageLost(words) => self.scene.story.tell(&words),
                Happening::Second(blocks) => {
                    if self.second(&blocks)? {
                        return Ok(Some(Held::Alarmed));
                    }
                }
            }
        }
    }

    /// An agent ended its part before the deadline: what follows would prove nothing.
    fn cut_short(&mut self, event: &AgentEvent) -> Result<(), Failure> {
        let why = format!(
            "{}/{} ended its part of the fault early ({}: {})",
            event.cell, event.node, event.state, event.detail
        );
        self.scene
            .story
            .tell(&format!("{why}; reverting everywhere"));
        self.interrupted(why)
    }

    fn interrupted(&mut self, why: String) -> Result<(), Failure> {
        let at_ms = self.scene.elapsed_ms();
        self.scene
            .record(Record::Interrupted(Interrupted { at_ms, why }))
    }

    /// Feeds the online abort; true if it spoke.
    fn second(&mut self, blocks: &[Block]) -> Result<bool, Failure> {
        self.narrator.second(self.scene.story, blocks);
        let fire_ms = self.fire.map(|fire| self.scene.ms(fire));
        let (Some(fire_ms), Some(first)) = (fire_ms, blocks.first()) else {
            return Ok(false);
        };
        if first.start_ms < fire_ms {
            return Ok(false);
        }
        if self.watch.is_none() {
            match Watch::new(self.scene.records()) {
                Ok(watch) => self.watch = Some(watch),
                Err(why) => {
                    let why = format!("the fault cannot be watched: {why}");
                    self.scene.story.tell(&why);
                    self.interrupted(why)?;
                    return Ok(true);
                }
            }
        }
        let alarms: Vec<Alarm> = match &mut self.watch {
            Some(watch) => watch.second(first.start_ms, blocks),
            None => Vec::new(),
        };
        self.record_so_far(first.start_ms + BLOCK_MS)?;
        for alarm in &alarms {
            self.scene.story.tell(&format!(
                "ALARM {}: {:?} {:.1} s after fire; ending the fault",
                alarm.stream,
                alarm.cause,
                (alarm.at_ms.saturating_sub(fire_ms)) as f64 / 1000.0
            ));
            self.scene.record(Record::Alarm(alarm.clone()))?;
        }
        Ok(!alarms.is_empty())
    }

    fn record_so_far(&mut self, at_ms: u64) -> Result<(), Failure> {
        let Some(watch) = &self.watch else {
            return Ok(());
        };
        let streams = self.prepared.streams.iter();
        let e_values = streams
            .filter_map(|stream| Some((stream.name.clone(), watch.e_value(&stream.name)?)))
            .collect();
        self.scene.record(Record::SoFar(SoFar { at_ms, e_values }))
    }

    /// Reverts before anything else, even if the history could not be written. Residue is told
    /// before any other failure.
    async fn end_fault(
        &mut self,
        firing: Firing,
        held: Result<Held, Failure>,
    ) -> Result<(), Failure> {
        if let Some(load) = &self.load {
            load.calm();
        }
        let began = Instant::now();
        let Reverted { answers, listening } = self.revert(firing).await;
        self.listening = Some(listening);
        let left = unclean(&residues(&answers));
        self.scene.story.tell(&format!(
            "reverted {} agents in {} ms; residue on {}",
            answers.len(),
            began.elapsed().as_millis(),
            left.len()
        ));
        let after = self.after_revert(answers, held).await;
        match after {
            Err(failure) if !left.is_empty() => {
                output::complain(&failure.to_string());
                Err(Failure::NotReverted {
                    drill: self.drill.clone(),
                    list: left.join("\n"),
                })
            }
            after => after,
        }
    }

    /// Without a lease, agents that cannot be reached go on to their deadline; so long they are asked,
    /// unless nobody wants to wait for them.
    async fn revert(&mut self, firing: Firing) -> Reverted {
        let lease = self.prepared.plan.lease_ms;
        let patience = match (self.fire, lease) {
            (Some(at), None) => {
                Patience::behind(at + Duration::from_millis(self.prepared.plan.ends_ms()))
            }
            _ => Patience::default(),
        };
        let mut reverting = std::pin::pin!(firing.revert(&patience));
        loop {
            tokio::select! {
                reverted = &mut reverting => return reverted,
                why = self.scene.asked_to_end() => {
                    self.scene.story.tell(&format!("{why}: not waiting for those that do not answer"));
                    patience.end();
                }
            }
        }
    }

    async fn after_revert(
        &mut self,
        answers: Vec<Answer>,
        held: Result<Held, Failure>,
    ) -> Result<(), Failure> {
        let held = held?;
        self.keep_answers(answers)?;
        let reverted = Instant::now();
        self.scene.mark(Phase::Reverted, reverted)?;
        let watched = match held {
            Held::ToTheEnd => self.recovery(self.prepared.scenario.after).await?,
            Held::Alarmed => self.aborted_recovery(reverted).await?,
            Held::Interrupted => false,
        };
        if watched {
            self.read_back().await
        } else {
            Ok(())
        }
    }

    /// When each agent's fault ended, by its own clock, and what it left.
    fn keep_answers(&mut self, answers: Vec<Answer>) -> Result<(), Failure> {
        for Answer { residue, ended } in answers {
            if let Some((cause, at)) = ended {
                let event = AgentEvent {
                    at_ms: self.scene.elapsed_ms(),
                    since_ms: Some(self.scene.ms(at)),
                    cell: residue.cell.clone(),
                    node: residue.node.clone(),
                    state: "reverted".to_string(),
                    detail: cause,
                    gaps: Vec::new(),
                };
                self.scene.record(Record::Agent(event))?;
            }
            self.scene.record(Record::Residue(residue))?;
        }
        Ok(())
    }
}
