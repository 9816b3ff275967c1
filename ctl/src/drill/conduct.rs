//! The course of one drill; whatever happens after fire, every agent is told to revert.

use std::time::Duration;

use probes::Prober;
use scenarios::history::{
    AgentEvent, Alarm, Block, HISTORY_FORMAT, Header, Interrupted, Ledger, Phase, Record, Residue,
};
use scenarios::verdict::{self, Verdict, Watch, windows};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::agents::Agent;
use crate::drill::hands::{Armed, ENDED, Firing, Orders};
use crate::drill::prepare::{BLOCK_MS, Prepared, millis};
use crate::drill::report::Narrator;
use crate::drill::scene::{Happening, Scene, Signals};
use crate::failure::Failure;
use crate::recorder::Recorder;

/// The first block only warms connections up.
const WARM_UP_BLOCKS: u64 = 1;
/// Fire is sent this long before T: more than the 200 ms that agents are promised.
const FIRE_LEAD: Duration = Duration::from_millis(400);
/// After an abort the target gets this long to come back before orders are read back.
const ABORTED_WATCH: Duration = Duration::from_secs(20);
/// A block is closed at most this long after its end.
const CLOSING: Duration = Duration::from_secs(5);
/// Reading acknowledged writes back takes no longer than this.
const READ_BACK: Duration = Duration::from_secs(30);

/// Agents end by their own clocks; this close to the deadline that is no surprise.
const EARLY: Duration = Duration::from_secs(1);

/// How the time between fire and the deadline ended.
enum Held {
    ToTheEnd,
    Alarmed,
    Interrupted,
}

/// One drill under way.
pub struct Conduct {
    prepared: Prepared,
    scene: Scene,
    narrator: Narrator,
    watch: Option<Watch>,
    events: mpsc::Sender<AgentEvent>,
    fire: Option<Instant>,
}

impl Conduct {
    /// Starts the probes and the history. Nothing of the fleet is altered.
    pub fn begin(
        prepared: Prepared,
        drill: &str,
        skew_ms: u64,
        mut recorder: Recorder,
        signals: Signals,
    ) -> Result<Self, Failure> {
        recorder.record(Record::Header(Box::new(Header {
            format: HISTORY_FORMAT,
            drill: drill.to_string(),
            cellwall: env!("CARGO_PKG_VERSION").to_string(),
            started: humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
            plan: prepared.plan.clone(),
            streams: prepared.streams.clone(),
            judgement: prepared.judgement(skew_ms),
        })))?;
        let origin = Instant::now();
        let (out, seconds) = mpsc::channel(1024);
        let (events, agents) = mpsc::channel(1024);
        let prober = Prober::start(prepared.fleet(), &prepared.streams, drill, origin, out)?;
        let scene = Scene::new(origin, recorder, prober, seconds, agents, signals);
        let narrator = Narrator::new(&prepared.streams);
        Ok(Self {
            prepared,
            scene,
            narrator,
            watch: None,
            events,
            fire: None,
        })
    }

    /// Runs the drill to its verdict.
    pub async fn run(
        mut self,
        agents: Vec<Agent>,
        orders: Orders,
    ) -> Result<(Verdict, Scene), Failure> {
        if self.baseline().await? {
            self.fault(agents, orders).await?;
        }
        self.judge()
    }

    /// False if the drill was interrupted.
    async fn baseline(&mut self) -> Result<bool, Failure> {
        let begin = self.scene.instant(WARM_UP_BLOCKS * BLOCK_MS);
        self.scene.mark(Phase::Before, begin)?;
        let before = self.prepared.scenario.before;
        self.scene.story.tell(&format!(
            "probing {} streams; baseline for {}",
            self.prepared.streams.len(),
            humantime::format_duration(before)
        ));
        if self
            .prepared
            .streams
            .iter()
            .any(|stream| stream.slo_ms.is_none())
        {
            let half = self.scene.boundary(begin + before / 2, BLOCK_MS);
            if !self.wait(half).await? {
                return Ok(false);
            }
            let from_ms = self.scene.ms(begin);
            self.scene.prober.set_thresholds(from_ms);
            self.scene.mark(Phase::Thresholds, half)?;
        }
        self.wait(begin + before).await
    }

    /// Lets time pass until `due`; false if interrupted.
    async fn wait(&mut self, due: Instant) -> Result<bool, Failure> {
        loop {
            match self.scene.next(due).await? {
                Happening::Due => return Ok(true),
                Happening::Interrupt(why) => {
                    self.scene.story.tell(&format!("{why}: ending the drill"));
                    return Ok(false);
                }
                Happening::Second(blocks) => self.narrator.second(self.scene.story, &blocks),
                Happening::Agent(event) => self.narrator.agent(self.scene.story, &event),
            }
        }
    }

    /// Arm, fire, hold, revert, recover. Reverts on every way out.
    async fn fault(&mut self, agents: Vec<Agent>, orders: Orders) -> Result<(), Failure> {
        let count = agents.len();
        let began = Instant::now();
        let origin = self.scene.story.origin;
        let armed = match Armed::arm(agents, orders, &self.events, origin).await {
            Ok(armed) => armed,
            Err(refusal) => {
                let why = refusal.why.join("; ");
                let residue = refusal.revert().await;
                return self.refused(&format!("not armed: {why}"), residue);
            }
        };
        let took = began.elapsed().as_millis();
        self.scene.story.tell(&format!(
            "armed {count} agents in {took} ms: every undo is on disk, nothing is in force"
        ));
        if let Err(why) = self.gate() {
            let residue = armed.revert().await;
            return self.refused(&why, residue);
        }
        let at = self.scene.boundary(Instant::now() + FIRE_LEAD, BLOCK_MS);
        let firing = match armed.fire(at).await {
            Ok(firing) => firing,
            Err(refusal) => {
                let why = refusal.why.join("; ");
                let residue = refusal.revert().await;
                return self.refused(&format!("not fired: {why}"), residue);
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
    fn refused(&mut self, why: &str, residue: Vec<Residue>) -> Result<(), Failure> {
        self.scene.story.tell(&format!("refused: {why}"));
        self.interrupted(why.to_string())?;
        self.keep_residue(residue)
    }

    /// From fire to the deadline, or to the first reason to stop.
    async fn hold(&mut self, at: Instant) -> Result<Held, Failure> {
        self.scene.mark(Phase::Fire, at)?;
        self.fire = Some(at);
        if !self.wait(at).await? {
            return Ok(Held::Interrupted);
        }
        let deadline = at + Duration::from_millis(self.prepared.plan.ends_ms());
        self.scene.story.tell(&format!(
            "FIRE {}: {} for {}",
            self.prepared.plan.target.cells.join(", "),
            self.prepared
                .plan
                .steps
                .first()
                .map_or("", |step| step.title.as_str()),
            humantime::format_duration(deadline - at)
        ));
        loop {
            match self.scene.next(deadline).await? {
                Happening::Due => return Ok(Held::ToTheEnd),
                Happening::Interrupt(why) => {
                    self.scene.story.tell(&format!("{why}: reverting first"));
                    return Ok(Held::Interrupted);
                }
                Happening::Agent(event) => {
                    self.narrator.agent(self.scene.story, &event);
                    let early = Instant::now() + EARLY < deadline;
                    if early && ENDED.contains(&event.state.as_str()) {
                        self.cut_short(&event)?;
                        return Ok(Held::Interrupted);
                    }
                }
                Happening::Second(blocks) => {
                    if self.second(&blocks)? {
                        return Ok(Held::Alarmed);
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

    /// Reverts before anything else, even if the history could not be written.
    async fn end_fault(
        &mut self,
        firing: Firing,
        held: Result<Held, Failure>,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let residue = firing.revert().await;
        let held = held?;
        let left = residue
            .iter()
            .filter(|r| !r.verified || !r.left.is_empty())
            .count();
        self.scene.story.tell(&format!(
            "reverted {} agents in {} ms; residue on {left}",
            residue.len(),
            began.elapsed().as_millis()
        ));
        self.keep_residue(residue)?;
        let reverted = Instant::now();
        self.scene.mark(Phase::Reverted, reverted)?;
        match held {
            Held::ToTheEnd => self.recovery(self.prepared.scenario.after).await?,
            Held::Alarmed => self.aborted_recovery(reverted).await?,
            Held::Interrupted => return Ok(()),
        }
        self.read_back().await
    }

    fn keep_residue(&mut self, residue: Vec<Residue>) -> Result<(), Failure> {
        residue
            .into_iter()
            .try_for_each(|residue| self.scene.record(Record::Residue(residue)))
    }

    /// Waits for the target to settle, then watches everyone for `after`.
    async fn recovery(&mut self, after: Duration) -> Result<(), Failure> {
        let deadline = verdict::settle_deadline_ms(self.scene.records());
        let deadline = deadline.map_or_else(Instant::now, |ms| self.scene.instant(ms));
        let settled = self.settle(deadline + CLOSING).await?;
        let Some(settled_ms) = settled else {
            return Ok(());
        };
        let end = self.scene.instant(settled_ms) + after;
        let end = self.scene.boundary(end, BLOCK_MS);
        self.scene.story.tell(&format!(
            "settled; watching for another {} s",
            end.saturating_duration_since(Instant::now()).as_secs()
        ));
        self.scene.mark(Phase::End, end)?;
        self.watch_until(end).await
    }

    /// After an alarm the verdict is known; only the data still needs the target back.
    async fn aborted_recovery(&mut self, reverted: Instant) -> Result<(), Failure> {
        self.settle(reverted + ABORTED_WATCH).await.map(|_| ())
    }

    /// When the target settled, in ms since the drill began; none if interrupted or not in time.
    async fn settle(&mut self, patience: Instant) -> Result<Option<u64>, Failure> {
        loop {
            if let Some(at_ms) = verdict::target_settled(self.scene.records()) {
                return Ok(Some(at_ms));
            }
            match self.scene.next(patience).await? {
                Happening::Due => {
                    self.scene.story.tell("the target did not settle in time");
                    let now = self.scene.boundary(Instant::now(), BLOCK_MS);
                    self.scene.mark(Phase::End, now)?;
                    return Ok(None);
                }
                Happening::Interrupt(why) => {
                    self.scene
                        .story
                        .tell(&format!("{why}: the fault is reverted; no verdict"));
                    return Ok(None);
                }
                Happening::Second(blocks) => self.narrator.second(self.scene.story, &blocks),
                Happening::Agent(event) => self.narrator.agent(self.scene.story, &event),
            }
        }
    }

    /// Until the last block before `end` is closed and recorded.
    async fn watch_until(&mut self, end: Instant) -> Result<(), Failure> {
        let end_ms = self.scene.ms(end);
        let patience = end + CLOSING;
        loop {
            match self.scene.next(patience).await? {
                Happening::Due | Happening::Interrupt(_) => return Ok(()),
                Happening::Agent(event) => self.narrator.agent(self.scene.story, &event),
                Happening::Second(blocks) => {
                    self.narrator.second(self.scene.story, &blocks);
                    if blocks
                        .iter()
                        .any(|block| block.start_ms + BLOCK_MS >= end_ms)
                    {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Every acknowledged write is asked for again.
    async fn read_back(&mut self) -> Result<(), Failure> {
        self.scene.prober.stop().await;
        let writes: Vec<_> = self.scene.prober.acknowledged();
        let ledgers: Vec<Ledger> =
            Prober::read_back(self.prepared.fleet(), &writes, READ_BACK).await;
        for ledger in ledgers {
            self.scene.story.tell(&format!(
                "{}: {} acknowledged writes read back: lost {}, duplicated {}, unread {}",
                ledger.cell, ledger.acknowledged, ledger.lost, ledger.duplicated, ledger.unread
            ));
            self.scene.record(Record::Ledger(ledger))?;
        }
        Ok(())
    }

    fn judge(mut self) -> Result<(Verdict, Scene), Failure> {
        let verdict = verdict::judge(self.scene.records());
        self.scene
            .record(Record::Verdict(Box::new(verdict.clone())))?;
        self.scene.recorder().sync()?;
        Ok((verdict, self.scene))
    }
}

/// The worst clock skew bound of all agents, in ms, rounded up.
pub fn worst_skew_ms(agents: &[Agent]) -> u64 {
    agents
        .iter()
        .map(|agent| millis(agent.skew()) + 1)
        .max()
        .unwrap_or(0)
}
