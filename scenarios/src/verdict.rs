//! The verdict: one pure function of the recorded history; no evidence is never a pass.

mod agents;
mod bet;
mod consistency;
mod control;
mod coverage;
mod derive;
mod doubt;
mod durability;
mod entrypoint;
mod evidence;
mod findings;
mod first_half;
mod frame;
mod gate;
mod harm;
mod integrity;
pub mod interval;
mod judge;
mod jury;
mod load;
pub mod matrix;
mod others;
mod ours;
mod planes;
pub mod power;
mod quantiles;
mod replay;
mod roll;
mod spread;
mod symptom;
mod target;
mod users;
pub mod vantages;
mod watch;
pub mod windows;
mod witness;

#[cfg(test)]
mod agents_tests;
#[cfg(test)]
mod basis_tests;
#[cfg(test)]
mod claims_tests;
#[cfg(test)]
mod consistency_tests;
#[cfg(test)]
pub(crate) mod drill;
#[cfg(test)]
mod effects_tests;
#[cfg(test)]
mod first_half_tests;
#[cfg(test)]
mod integrity_tests;
#[cfg(test)]
mod judge_tests;
#[cfg(test)]
mod jury_tests;
#[cfg(test)]
mod monte_carlo;
#[cfg(test)]
mod mutation_tests;
#[cfg(test)]
mod ours_tests;
#[cfg(test)]
mod planes_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod users_tests;
#[cfg(test)]
mod vantages_tests;
#[cfg(test)]
mod watch_tests;
#[cfg(test)]
mod witness_tests;

pub use judge::judge;
pub use quantiles::Quantile;
pub use target::{SETTLE_BLOCKS, settle_deadline_ms, settled, target_settled};
pub use watch::{NotReady, Watch};

use serde::{Deserialize, Serialize};

use crate::effects::ClientKind;
use crate::fleet::Plane;
use crate::history::Role;

/// How a drill ended, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Something of ours is left, or cannot be shown to be gone.
    Residue,
    /// A cell that must not notice did, or acknowledged data is lost.
    Fail,
    /// Ended before its time by the operator, or never fired.
    Aborted,
    /// No proof either way.
    Inconclusive,
    /// The target was not proved degraded.
    Ineffective,
    Pass,
}

impl Outcome {
    /// The process exit code (architecture.md, "Exit codes").
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Pass => 0,
            Outcome::Fail => 1,
            Outcome::Inconclusive | Outcome::Ineffective => 2,
            Outcome::Aborted => 3,
            Outcome::Residue => 4,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub outcome: Outcome,
    /// Why, in plain words, most important first; never empty.
    pub reasons: Vec<String>,
    pub rows: Vec<Row>,
    /// What each cell showed on each plane, for people who want one look.
    #[serde(default)]
    pub planes: Vec<CellPlane>,
    /// What the users of each entrypoint met; reported, never part of the outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserReport>,
    /// Whether a cell that its rows call isolated may be called so: the drill was whole, its prober sound and
    /// its target fell. Another cell's fall takes nothing from that; whatever else is wrong with the drill does.
    #[serde(default)]
    pub proves_isolation: bool,
}

/// What the users of one entrypoint met while the fault lasted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserReport {
    pub entrypoint: String,
    pub rows: Vec<UserRow>,
    /// The shares that DNS gave and the worst case, in plain words.
    pub words: Vec<String>,
}

/// One kind of client in one part of the fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserRow {
    pub window: UserWindow,
    /// Absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientKind>,
    pub seconds: f64,
    pub requests: u64,
    pub bad: u64,
    /// `bad / requests`, and its limits at alpha (two-sided, Clopper and Pearson).
    pub rate: f64,
    pub low: f64,
    pub high: f64,
}

/// The parts of a fault, by what DNS said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserWindow {
    /// DNS still answers with the target.
    Before,
    /// It has stopped, and what it answered may still be kept (TTL).
    During,
    /// No answer with the target may be kept any more.
    After,
}

impl UserWindow {
    /// As people read it.
    pub fn words(self) -> &'static str {
        match self {
            UserWindow::Before => "before DNS stopped",
            UserWindow::During => "TTL runs out",
            UserWindow::After => "after",
        }
    }
}

/// All streams of one cell on one plane; the worst of them speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellPlane {
    pub cell: String,
    pub plane: Plane,
    pub role: Role,
    /// Target: in the fault window. Others: over all windows.
    pub class: Class,
    /// Proved to be at least this where the class is degraded, effective or ineffective; else
    /// proved to be less than this. A fraction.
    pub bound: f64,
    /// Target only: recovered, not recovered or inconclusive; absent where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Class>,
}

/// One stream in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub stream: String,
    pub window: Window,
    pub class: Class,
    pub bad: u64,
    pub total: u64,
    pub base_bad: u64,
    pub base_total: u64,
    /// p50, p95 and p99 in the window and in its baseline; empty where no latency was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<Quantile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_latency: Vec<Quantile>,
    /// Difference of the bad rates, as a fraction.
    pub d: f64,
    /// Proved to be at least this: dispersion allowed for, at the level of the row's claim.
    pub l: f64,
    /// Proved to be less than this, at alpha.
    pub u: f64,
    /// Fortune of the online abort after the last block; absent where it does not bet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_value: Option<f64>,
    /// First alarm of the online abort, ms since the drill began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm_ms: Option<u64>,
    /// Vantages (or the conductor) that see a damage which most of those who look do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_seen_from: Vec<String>,
    /// What kept this row from a better class, or what to know about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// From fire to the end of the fault.
    Fault,
    /// From the end of the fault to the end of the watch (target: after settling).
    After,
}

impl Window {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Window::Fault => "in the fault window",
            Window::After => "after the fault",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Proved worse than the margin.
    Degraded,
    Inconclusive,
    /// Proved within the margin.
    Isolated,
    /// Target: proved degraded by at least the effectiveness bound.
    Effective,
    Ineffective,
    /// Target: proved back within the margin after settling.
    Recovered,
    NotRecovered,
    /// Control: the prober can be trusted.
    Sound,
    Unsound,
    /// For people only; not part of the outcome.
    Reported,
}
