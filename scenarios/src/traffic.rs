//! Real traffic and gauges of a fleet, as cellwall reads them from metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::fleet::Plane;
use crate::selector::Selector;

/// Scrapes of a gauge in one of its blocks.
pub const GAUGE_SCRAPES: u32 = 10;

/// Where the metrics of a cell are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The text exposition of one process; a URL with `{cell}`.
    Endpoint(String),
    /// A Prometheus outside every cloud and cell: `http://ADDRESS[:PORT]`, and the label that holds
    /// the name of the cell.
    Prometheus { url: String, cell_label: String },
}

/// Requests that users make anyway: two counters of every cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    pub plane: Plane,
    pub source: Source,
    pub total: Selector,
    pub bad: Selector,
    /// All requests of the cell, judged or not; absent: `total`.
    pub volume: Option<Selector>,
    pub counts: TrafficCounts,
    /// Absent: one stream for all that `total` counts.
    pub strata: Option<Strata>,
    /// Length of a block: one scrape at each end of it.
    pub every: Duration,
    pub timeout: Duration,
    /// The fewest requests per second of each stream.
    pub rate: f64,
    /// A margin of its own, as a fraction.
    pub within: Option<f64>,
    /// Least share of the volume that some stream must stand for.
    pub coverage: Option<f64>,
}

/// Whose requests the counters of a traffic count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrafficCounts {
    /// All, cellwall's own among them: as many as it can have sent are taken away where users must have sent
    /// them.
    #[default]
    All,
    /// Those of users alone, because the selectors leave out what cellwall sends.
    Users,
}

/// Requests apart by the value of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strata {
    pub label: String,
    /// Name of the stream's stratum -> value of the label.
    pub judged: BTreeMap<String, String>,
    /// Name of a probe -> value of the label for the requests that it stands for.
    pub probed: BTreeMap<String, String>,
}

/// A number that should not grow: the greatest of the chosen series.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    pub plane: Plane,
    pub source: Source,
    pub gauge: Selector,
    /// Time from scrape to scrape; ten of them are a block.
    pub every: Duration,
    pub timeout: Duration,
    /// Above this a scrape is bad; absent: the baseline sets it.
    pub limit: Option<f64>,
    /// How many more of its scrapes may be bad than before, as a fraction.
    pub within: f64,
}

impl Traffic {
    /// The strata that are judged, as (name of the stream within its cell, value of the label).
    pub fn streams(&self, name: &str) -> Vec<(String, Option<String>)> {
        match &self.strata {
            None => vec![(name.to_owned(), None)],
            Some(strata) => strata
                .judged
                .iter()
                .map(|(stratum, value)| (format!("{name}.{stratum}"), Some(value.clone())))
                .collect(),
        }
    }
}

impl Gauge {
    pub fn block(&self) -> Duration {
        self.every * GAUGE_SCRAPES
    }
}
