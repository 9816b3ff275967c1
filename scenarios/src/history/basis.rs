//! What the blocks of a stream count, beside probes: real requests, readings of a gauge, slow answers.

use serde::{Deserialize, Serialize};

use super::{Judgement, Stream};

/// How one stream differs from a stream of probes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    #[serde(default)]
    pub counts: Counts,
    /// Length of its blocks, a whole multiple of the judgement's; absent: the judgement's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_ms: Option<u64>,
    /// Its own margin, as a fraction; absent: the judgement's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Of probes: how many requests of its cell one of them makes, on average; absent: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<f64>,
}

/// What is good or bad in a block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// Probes that were sent.
    #[default]
    Probes,
    /// Real requests, from two counters. `scheduled` and `valid` are all of the block.
    Requests,
    /// Scrapes of a gauge, in `values`: bad above the limit. Without one the limit is the 99th
    /// percentile of the first half of the baseline.
    Gauge {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<f64>,
    },
    /// The answers of another stream of probes, again: bad if slower than 1.5 times the 90th
    /// percentile of the first half of the baseline, or absent. It has no blocks of its own.
    Slow { of: String },
}

impl Basis {
    pub fn is_probes(&self) -> bool {
        *self == Basis::default()
    }
}

impl Stream {
    /// Whether the prober sends something for it.
    pub fn is_probed(&self) -> bool {
        self.basis.counts == Counts::Probes
    }

    /// The stream whose blocks it counts: another one's for slow answers, else its own.
    pub fn counted_from(&self) -> &str {
        match &self.basis.counts {
            Counts::Slow { of } => of,
            Counts::Probes | Counts::Requests | Counts::Gauge { .. } => &self.name,
        }
    }

    /// Whether its blocks count only from the `thresholds` mark on: what came before it sets a limit.
    pub fn needs_thresholds(&self) -> bool {
        match &self.basis.counts {
            Counts::Probes => self.slo_ms.is_none(),
            Counts::Requests => false,
            Counts::Gauge { limit } => limit.is_none(),
            Counts::Slow { .. } => true,
        }
    }

    /// Length of its blocks; `block_ms` is the judgement's.
    pub fn block_ms(&self, block_ms: u64) -> u64 {
        self.basis.block_ms.unwrap_or(block_ms)
    }

    pub fn margin(&self, judgement: &Judgement) -> f64 {
        self.basis.margin.unwrap_or(judgement.margin)
    }

    /// Errors of real traffic and of gauges are not taken for independent of each other, not even as
    /// the blocks spread: then the spread of the blocks limits what is proved.
    pub fn is_clumped(&self) -> bool {
        matches!(self.basis.counts, Counts::Requests | Counts::Gauge { .. })
    }
}
