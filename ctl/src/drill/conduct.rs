//! The course of one drill: baseline, fault, recovery, verdict.

mod fault;
mod recovery;

use std::time::Duration;

use probes::{Load, Prober};
use scenarios::history::{AgentEvent, HISTORY_FORMAT, Header, Phase, Record};
use scenarios::verdict::{self, Verdict, Watch};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::agents::Agent;
use crate::drill::hands::{LeaseKeeper, Orders};
use crate::drill::prepare::{BLOCK_MS, Prepared, millis};
use crate::drill::report::Narrator;
use crate::drill::scene::{Happening, Scene, Signals};
use crate::drill::vantages::{MORE_BASELINE_BLOCKS, Seconds, Vantages};
use crate::failure::Failure;
use crate::recorder::Recorder;

/// The first block only warms connections up.
const WARM_UP_BLOCKS: u64 = 1;

/// One drill under way.
pub struct Conduct {
    prepared: Prepared,
    scene: Scene,
    narrator: Narrator,
    watch: Option<Watch>,
    /// Runs from the baseline until writes are read back.
    load: Option<Load>,
    events: mpsc::Sender<AgentEvent>,
    fire: Option<Instant>,
    drill: String,
    /// Keeps listening to the agents until the drill is judged.
    listening: Option<LeaseKeeper>,
}

impl Conduct {
    /// Starts the probes and the history. Nothing of the fleet is altered.
    pub fn begin(
        prepared: Prepared,
        drill: &str,
        agents: &[Agent],
        vantages: Vantages,
        mut recorder: Recorder,
        signals: Signals,
    ) -> Result<Self, Failure> {
        recorder.record(Record::Header(Box::new(Header {
            format: HISTORY_FORMAT,
            drill: drill.to_string(),
            cellwall: env!("CARGO_PKG_VERSION").to_string(),
            started: humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
            fleet: prepared.place.text.clone(),
            agents: agents
                .iter()
                .map(|a| (a.name(), a.status.version.clone()))
                .collect(),
            plan: prepared.plan.clone(),
            streams: prepared.streams.clone(),
            vantages: vantages.described().to_vec(),
            judgement: prepared.judgement(worst_skew_ms(agents)),
        })))?;
        let origin = Instant::now();
        let (out, seconds) = mpsc::channel(1024);
        let (events, agents) = mpsc::channel(1024);
        let prober = Prober::start(prepared.fleet(), &prepared.streams, drill, origin, out)?;
        let (out, loaded) = mpsc::channel(1024);
        let claim = prepared.effects.load.as_ref();
        let load = claim
            .map(|claim| Load::start(prepared.fleet(), claim, drill, origin, &out))
            .transpose()?;
        drop(out); // Else a drill without load would wait for its seconds.
        let seconds = Seconds::new(seconds, vantages.begin(origin));
        let scene = Scene::new(origin, recorder, prober, (seconds, loaded), agents, signals);
        let narrator = Narrator::new(&prepared.streams);
        Ok(Self {
            prepared,
            scene,
            narrator,
            watch: None,
            load,
            events,
            fire: None,
            drill: drill.to_string(),
            listening: None,
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
        let mut before = self.prepared.scenario.before;
        if !self.scene.seconds.vantages().is_empty() {
            before += Duration::from_millis(MORE_BASELINE_BLOCKS * BLOCK_MS);
        }
        self.scene.story.tell(&format!(
            "probing {} streams; baseline for {}",
            self.prepared.streams.len(),
            humantime::format_duration(before)
        ));
        if self
            .prepared
            .streams
            .iter()
            .any(scenarios::history::Stream::needs_thresholds)
        {
            let half = self.scene.boundary(begin + before / 2, BLOCK_MS);
            if !self.wait(half).await? {
                return Ok(false);
            }
            let from_ms = self.scene.ms(begin);
            self.scene.prober.set_thresholds(from_ms);
            self.scene.seconds.vantages().set_thresholds(from_ms);
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
                Happening::VantageLost(words) => self.scene.story.tell(&words),
            }
        }
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
fn worst_skew_ms(agents: &[Agent]) -> u64 {
    agents
        .iter()
        .map(|agent| millis(agent.skew()) + 1)
        .max()
        .unwrap_or(0)
}
