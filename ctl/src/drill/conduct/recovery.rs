//! After revert: the target settles, everyone is watched, acknowledged writes are read back.

use std::time::Duration;

use probes::{Prober, WritePhases};
use scenarios::history::{Block, Ledger, Phase, Record};
use scenarios::verdict;
use tokio::time::Instant;

use super::Conduct;
use crate::drill::prepare::BLOCK_MS;
use crate::drill::scene::Happening;
use crate::failure::Failure;

/// After an abort the target gets this long to come back before orders are read back.
const ABORTED_WATCH: Duration = Duration::from_secs(20);
/// A block is closed, and has been waited for at the vantages, at most this long after its end.
const CLOSING: Duration = Duration::from_secs(6);
/// Reading acknowledged writes back takes no longer than this for each prober.
const READ_BACK: Duration = Duration::from_secs(30);
/// A vantage ends as long after the conductor's own prober as its probes last, and this.
const ENDING: Duration = Duration::from_secs(3);

/// How the wait for the target ended.
enum Settled {
    /// In ms since the drill began.
    At(u64),
    NotInTime,
    Interrupted,
}

impl Conduct {
    /// Waits for the target to settle, then watches everyone for `after`; false if interrupted.
    pub(super) async fn recovery(&mut self, after: Duration) -> Result<bool, Failure> {
        let deadline = verdict::settle_deadline_ms(self.scene.records());
        let deadline = deadline.map_or_else(Instant::now, |ms| self.scene.instant(ms));
        let settled_ms = match self.settle(deadline + CLOSING).await? {
            Settled::At(ms) => ms,
            Settled::NotInTime => return self.end_now().await,
            Settled::Interrupted => return Ok(false),
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
    pub(super) async fn aborted_recovery(&mut self, reverted: Instant) -> Result<bool, Failure> {
        match self.settle(reverted + ABORTED_WATCH).await? {
            Settled::At(_) | Settled::NotInTime => self.end_now().await,
            Settled::Interrupted => Ok(false),
        }
    }

    /// Marks the end, and waits until everything before it is recorded: else the verdict misses blocks.
    async fn end_now(&mut self) -> Result<bool, Failure> {
        let end = self.scene.boundary(Instant::now(), BLOCK_MS);
        self.scene.mark(Phase::End, end)?;
        self.watch_until(end).await
    }

    async fn settle(&mut self, patience: Instant) -> Result<Settled, Failure> {
        loop {
            if let Some(at_ms) = verdict::target_settled(self.scene.records()) {
                return Ok(Settled::At(at_ms));
            }
            match self.scene.next(patience).await? {
                Happening::Due => {
                    self.scene.story.tell("the target did not settle in time");
                    return Ok(Settled::NotInTime);
                }
                Happening::Interrupt(why) => {
                    self.tell_interrupt(&why);
                    return Ok(Settled::Interrupted);
                }
                Happening::Second(blocks) => self.narrator.second(self.scene.story, &blocks),
                Happening::Agent(event) => self.narrator.agent(self.scene.story, &event),
                Happening::VantageLost(words) => self.scene.story.tell(&words),
            }
        }
    }

    /// Until the last block before `end` is closed and recorded; false if interrupted.
    async fn watch_until(&mut self, end: Instant) -> Result<bool, Failure> {
        let end_ms = self.scene.ms(end);
        let patience = end + CLOSING;
        loop {
            match self.scene.next(patience).await? {
                Happening::Due => return Ok(true),
                Happening::Interrupt(why) => {
                    self.tell_interrupt(&why);
                    return Ok(false);
                }
                Happening::Agent(event) => self.narrator.agent(self.scene.story, &event),
                Happening::VantageLost(words) => self.scene.story.tell(&words),
                Happening::Second(blocks) => {
                    self.narrator.second(self.scene.story, &blocks);
                    let last = |block: &Block| block.start_ms + BLOCK_MS >= end_ms;
                    if blocks.iter().any(last) {
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn tell_interrupt(&self, why: &str) {
        let line = format!("{why}: the fault is reverted already; ending the watch");
        self.scene.story.tell(&line);
    }

    /// When the writes' phases began, by the marks in the history.
    fn phases(&self) -> WritePhases {
        let marks = self
            .scene
            .records()
            .iter()
            .filter_map(|record| match record {
                Record::Phase(mark) => Some(mark),
                _ => None,
            });
        let mut phases = WritePhases::default();
        for mark in marks {
            match mark.phase {
                Phase::Fire => phases.fire_ms = Some(mark.at_ms),
                Phase::Reverted => phases.reverted_ms = Some(mark.at_ms),
                Phase::Before | Phase::Thresholds | Phase::End => {}
            }
        }
        phases
    }

    /// Every acknowledged write is asked for again.
    pub(super) async fn read_back(&mut self) -> Result<(), Failure> {
        if let Some(load) = self.load.take() {
            load.stop();
        }
        let probers = 1 + self.scene.seconds.vantages().names.len();
        self.scene.seconds.vantages().end();
        self.scene.prober.stop().await;
        let longest = self.prepared.streams.iter().map(|stream| stream.timeout_ms);
        let ending = Duration::from_millis(longest.max().unwrap_or(0)) + ENDING;
        self.scene.seconds.end_vantages(ending).await;
        let mut writes: Vec<_> = self.scene.prober.acknowledged();
        writes.extend(self.scene.seconds.vantage_writes(self.prepared.fleet()));
        let within = READ_BACK * u32::try_from(probers).unwrap_or(u32::MAX);
        let ledgers: Vec<Ledger> =
            Prober::read_back(self.prepared.fleet(), &writes, self.phases(), within).await;
        for ledger in ledgers {
            self.scene.story.tell(&format!(
                "{}: {} acknowledged writes read back: lost {}, duplicated {}, resurrected {}, \
                 stale {}, unread {}",
                ledger.cell,
                ledger.acknowledged,
                ledger.lost,
                ledger.duplicated,
                ledger.resurrected,
                ledger.stale,
                ledger.unread
            ));
            self.scene.record(Record::Ledger(ledger))?;
        }
        Ok(())
    }
}
