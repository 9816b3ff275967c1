//! A scenario as the rest of cellwall sees it, after its YAML was read and checked.

use std::time::Duration;

use crate::effects::{DataLimits, HarmBudget, LoadSource, SymptomClaim};

/// What to break, for how long, and what must then be true.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub name: String,
    pub title: String,
    pub target: TargetSelector,
    /// How many cells the target may be; agents hold their own limit beside it. Default 1.
    pub budget_cells: usize,
    pub allow: Vec<Consent>,
    pub before: Duration,
    pub after: Duration,
    /// Without a renewal for this long the fault ends; none: not before its deadline. Default 5 s.
    pub lease: Option<Duration>,
    pub method: Vec<MethodStep>,
    /// What survivors are to carry meanwhile; absent: their capacity stays untested.
    pub load: Option<LoadWish>,
    /// What users may pay at most; absent: no limit.
    pub harm: Option<HarmBudget>,
    pub hypothesis: Hypothesis,
    /// Where in its file everything stands, for errors; empty for a scenario made by code.
    pub places: crate::places::Places,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetSelector {
    Cloud(String),
    Cells(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Steps `on: others` may cut the other cells from the target.
    Others,
    /// Changes without an undo, such as a killed process.
    Irreversible,
    /// `lease: none`: the fault goes on to its deadline when the conductor is gone or cut off.
    NoLease,
    /// `management: cut`: the fault may cut the conductor off from the agents.
    CutManagement,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MethodStep {
    pub at: Duration,
    pub duration: Duration,
    pub side: Side,
    pub fault: crate::faults::Fault,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Target,
    Others,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Probes (by name) that must be proved degraded in the target.
    pub degraded: Vec<String>,
    /// By at least this fraction.
    pub by_at_least: f64,
    /// Every other stream must stay within this margin (fraction).
    pub isolated_within: f64,
    /// Outages of this length must not slip between windows; absent: not asked.
    pub episode: Option<Duration>,
    /// The longest way by which damage could spread (DNS TTL, health checks); absent: none known.
    pub propagation: Option<Duration>,
    pub recovery_within: Duration,
    /// How many acknowledged writes of the target may be wrong; absent: not judged.
    pub data: Option<DataLimits>,
    /// How the target must fail; absent: as the faults' own default says, if they have one.
    pub symptom: Option<SymptomClaim>,
}

/// The load that a scenario wants, before it is known whom it falls on.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadWish {
    /// A probe that reads, or a traffic.
    pub by: LoadSource,
    /// Requests per second that one cell has at its busiest.
    pub peak: f64,
    /// The target's share of the region's users; absent: as the fleet's entrypoints say.
    pub share: Option<f64>,
}
