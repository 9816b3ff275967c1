//! What happens during a drill, in the order in which it happens: probes, agents, signals, time.
//!
//! Everything that passes through here is in the history before anyone acts on it.

use std::time::Duration;

use probes::{Clocks, Prober};
use scenarios::effects::LoadSecond;
use scenarios::history::{AgentEvent, Block, Interrupted, Phase, PhaseMark, Record};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::drill::prepare::millis;
use crate::drill::pulse::Pulse;
use crate::drill::vantages::{Merged, Seconds};
use crate::failure::Failure;
use crate::output::Story;
use crate::recorder::Recorder;

/// The next thing that happened.
pub enum Happening {
    /// All blocks of one second, complete; those of vantages say so.
    Second(Vec<Block>),
    /// An agent changed its state.
    Agent(AgentEvent),
    /// Which vantage, and why; the blocks that it does not bring say the same in the history.
    VantageLost(String),
    /// Someone wants the drill to end, or this machine can prove nothing any more.
    Interrupt(String),
    /// The asked-for time has come.
    Due,
}

pub struct Scene {
    pub story: Story,
    pub prober: Prober,
    pub pulse: Pulse,
    pub seconds: Seconds,
    recorder: Recorder,
    clocks: Clocks,
    load: mpsc::Receiver<LoadSecond>,
    agents: mpsc::Receiver<AgentEvent>,
    signals: Signals,
}

impl Scene {
    pub fn new(
        origin: Instant,
        recorder: Recorder,
        prober: Prober,
        (seconds, load): (Seconds, mpsc::Receiver<LoadSecond>),
        agents: mpsc::Receiver<AgentEvent>,
        signals: Signals,
    ) -> Self {
        Self {
            story: Story { origin },
            prober,
            pulse: Pulse::new(origin),
            clocks: Clocks::since(origin),
            seconds,
            recorder,
            load,
            agents,
            signals,
        }
    }

    /// Waits for the next thing, at most until `due`; what is already there comes first.
    pub async fn next(&mut self, due: Instant) -> Result<Happening, Failure> {
        self.pulse.beat();
        loop {
            if let Some(happening) = self.look(due).await? {
                return Ok(happening);
            }
        }
    }

    /// `None`: something was recorded that nobody acts on.
    async fn look(&mut self, due: Instant) -> Result<Option<Happening>, Failure> {
        tokio::select! {
            biased;
            why = self.signals.next() => {
                let at_ms = self.elapsed_ms();
                let why_recorded = why.clone();
                self.record(Record::Interrupted(Interrupted { at_ms, why: why_recorded }))?;
                Ok(Some(Happening::Interrupt(why)))
            }
            step = self.clocks.next() => {
                let why = step.to_string();
                self.record(Record::Clock(step))?;
                Ok(Some(Happening::Interrupt(why)))
            }
            Some(event) = self.agents.recv() => {
                self.record(Record::Agent(event.clone()))?;
                Ok(Some(Happening::Agent(event)))
            }
            Some(merged) = self.seconds.next() => Ok(Some(self.take(merged)?)),
            Some(second) = self.load.recv() => {
                self.record(Record::Load(second))?;
                Ok(None)
            }
            () = sleep_until(due) => Ok(Some(Happening::Due)),
        }
    }

    fn take(&mut self, merged: Merged) -> Result<Happening, Failure> {
        let second = match merged {
            Merged::Second(second) => second,
            Merged::Lost(vantage, why) => {
                let words = format!("vantage {vantage} is lost: {why}");
                return Ok(Happening::VantageLost(words));
            }
        };
        for block in &second.blocks {
            self.record(Record::Block(block.clone()))?;
        }
        for late in second.late {
            self.record(Record::Late(late))?;
        }
        for volume in second.volumes {
            self.record(Record::Volume(volume))?;
        }
        for sample in second.samples {
            self.record(Record::Sample(sample))?;
        }
        Ok(Happening::Second(second.blocks))
    }

    /// Someone wants what is going on to end; nothing else is looked at.
    pub async fn asked_to_end(&mut self) -> String {
        self.signals.next().await
    }

    pub fn record(&mut self, record: Record) -> Result<(), Failure> {
        self.recorder.record(record)
    }

    pub fn mark(&mut self, phase: Phase, at: Instant) -> Result<(), Failure> {
        let at_ms = self.ms(at);
        self.record(Record::Phase(PhaseMark { phase, at_ms }))
    }

    pub fn records(&self) -> &[Record] {
        self.recorder.records()
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// `instant` in ms since the drill began.
    pub fn ms(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.story.origin);
        millis(since)
    }

    pub fn elapsed_ms(&self) -> u64 {
        self.ms(Instant::now())
    }

    /// The instant at `ms` since the drill began.
    pub fn instant(&self, ms: u64) -> Instant {
        self.story.origin + Duration::from_millis(ms)
    }

    /// The first block boundary at or after `instant`.
    pub fn boundary(&self, instant: Instant, block_ms: u64) -> Instant {
        self.instant(
            self.ms(instant + Duration::from_micros(999))
                .div_ceil(block_ms)
                * block_ms,
        )
    }
}

/// The ways in which people and supervisors ask a process to end.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on none of them ends the process by itself.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub async fn next(&mut self) -> String {
        let name = tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        };
        name.to_string()
    }
}
