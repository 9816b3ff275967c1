//! Sums of one stream over one span of time.

use super::super::interval::Sample;

/// What one stream showed in one span.
#[derive(Clone, Debug, Default)]
pub(in crate::verdict) struct Tally {
    pub bad: u64,
    pub valid: u64,
    pub scheduled: u64,
    /// (bad, valid) of every block.
    pub pairs: Vec<(u32, u32)>,
    /// Blocks that should be there and are not.
    pub missing: u64,
    /// Blocks of the span, there or not.
    pub expected: u64,
    pub blind: u64,
    /// Start of the first block with at least half of its probes bad.
    pub episode_ms: Option<u64>,
}

impl Tally {
    pub fn sample(&self) -> Sample {
        Sample::new(self.bad, self.valid)
    }

    /// Blocks in which anything was counted.
    pub fn read(&self) -> u64 {
        self.pairs.iter().filter(|(_, valid)| *valid > 0).count() as u64
    }
}
