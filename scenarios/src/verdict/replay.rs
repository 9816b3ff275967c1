//! The online abort again, over the recorded blocks: first alarms and final e-values.

use std::collections::BTreeMap;

use super::evidence::Evidence;
use super::watch::{NotReady, Watch};
use crate::history::{Alarm, AlarmCause, Block, Stream};

/// Alarms this close have spoken together.
const TOGETHER_BLOCKS: u64 = 2;

pub(super) struct Replay {
    watch: Watch,
    pub alarms: Vec<Alarm>,
}

impl Replay {
    pub fn run(evidence: &Evidence<'_>, fire: u64) -> Result<Replay, NotReady> {
        let mut watch = Watch::from_evidence(evidence)?;
        let mut by_start: BTreeMap<u64, Vec<&Block>> = BTreeMap::new();
        let second_ms = evidence.block_ms();
        for stream in &evidence.header.streams {
            // A longer block is known when it ends.
            let later = evidence.block_ms_of(stream) - second_ms;
            let span = fire..evidence.end().max(fire);
            for series in evidence.all_series(&stream.name) {
                for (start, block) in series.range(span.clone()) {
                    let known = start.saturating_add(later);
                    by_start.entry(known).or_default().push(block);
                }
            }
        }
        let mut alarms = Vec::new();
        for (start, blocks) in by_start {
            alarms.extend(watch.second(start, blocks));
        }
        Ok(Replay { watch, alarms })
    }

    pub fn e_value(&self, stream: &str) -> Option<f64> {
        self.watch.e_value(stream)
    }

    pub fn degraded(&self, stream: &str) -> Option<u64> {
        let mut alarms = self.alarms.iter();
        alarms
            .find(|a| a.stream == stream && a.cause == AlarmCause::Degraded)
            .map(|alarm| alarm.at_ms)
    }

    /// Every one of these streams alarmed, within a few blocks of each other: how many blocks an
    /// alarm takes depends a little on each stream's baseline and rate.
    pub fn common_cause(&self, streams: &[&Stream], block_ms: u64) -> bool {
        let times: Option<Vec<u64>> = streams
            .iter()
            .map(|stream| self.degraded(&stream.name))
            .collect();
        let Some(times) = times.filter(|times| times.len() > 1) else {
            return false;
        };
        let (first, last) = times.iter().fold((u64::MAX, 0), |(first, last), at| {
            (first.min(*at), last.max(*at))
        });
        last - first <= TOGETHER_BLOCKS.saturating_mul(block_ms)
    }
}
