//! The online abort again, over the recorded blocks: first alarms and final e-values.

use std::collections::BTreeMap;

use super::evidence::Evidence;
use super::watch::{NotReady, Watch};
use crate::history::{Alarm, AlarmCause, Block};

pub(super) struct Replay {
    watch: Watch,
    pub alarms: Vec<Alarm>,
}

impl Replay {
    pub fn run(evidence: &Evidence<'_>, fire: u64) -> Result<Replay, NotReady> {
        let mut watch = Watch::from_evidence(evidence)?;
        let mut by_start: BTreeMap<u64, Vec<&Block>> = BTreeMap::new();
        for (start, block) in evidence.all_blocks(fire..evidence.end().max(fire)) {
            by_start.entry(start).or_default().push(block);
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

    /// All streams that must not notice alarmed in the same block, and are `others` in number.
    pub fn common_cause(&self, others: usize) -> bool {
        let times: Vec<u64> = self
            .alarms
            .iter()
            .filter(|a| a.cause == AlarmCause::Degraded)
            .map(|a| a.at_ms)
            .collect();
        others > 1 && times.len() == others && times.windows(2).all(|t| t[0] == t[1])
    }
}
