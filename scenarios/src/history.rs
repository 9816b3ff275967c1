//! The history of a drill: append-only JSON lines, all that the verdict is made from.
//!
//! Times named `_ms` are milliseconds since the drill began, on ctl's monotonic clock, unless a
//! field says otherwise. Records are externally tagged, one object a line. `docs/history.md` says it
//! all for people who make or read histories of their own.

mod basis;
mod lines;

use std::collections::{BTreeMap, BTreeSet};

pub use basis::{Basis, Counts};
pub(crate) use lines::foreign_format;
pub use lines::{History, ReadError, read};
use serde::{Deserialize, Serialize};

use crate::effects::{Effects, LoadSecond, UsersSeen, WriteCounts, WritePhase};
use crate::fleet::Plane;
use crate::plan::Plan;

/// Version of the shapes in this file, written into every new history.
pub const HISTORY_FORMAT: u32 = 3;
/// Every version that is read; a history of another one is refused. Older ones lack members and records that
/// came later, and each of these says what its absence means.
pub const READABLE_FORMATS: [u32; 3] = [1, 2, HISTORY_FORMAT];
/// Where an answer of DNS points to if to no cell.
pub const FOREIGN: &str = "other";

/// One line of `history.jsonl`. The first is always `Header`, the last of a finished drill `Verdict`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    Header(Box<Header>),
    Phase(PhaseMark),
    Block(Block),
    Late(LateEnds),
    Volume(Volume),
    Sample(BadSample),
    Agent(AgentEvent),
    SoFar(SoFar),
    Alarm(Alarm),
    Clock(ClockStep),
    Load(LoadSecond),
    Ledger(Ledger),
    Residue(Residue),
    Interrupted(Interrupted),
    Verdict(Box<crate::verdict::Verdict>),
    /// The reader's own remark, never written: the last line is cut off, so a record is not known.
    #[serde(skip)]
    Torn,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    pub drill: String,
    pub cellwall: String,
    /// Wall clock at 0 ms, RFC 3339.
    pub started: String,
    /// The fleet file as it was read; `--rate` shows in the streams.
    #[serde(default)]
    pub fleet: String,
    /// The agents' versions, by `CELL/NODE`.
    #[serde(default)]
    pub agents: BTreeMap<String, String>,
    pub plan: Plan,
    pub streams: Vec<Stream>,
    /// Who looks beside the conductor; none in a target cell, for the fault itself cuts it off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vantages: Vec<Vantage>,
    pub judgement: Judgement,
}

/// A prober on a node of the fleet, which asks some of the streams as the conductor does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vantage {
    /// `CELL/NODE`.
    pub name: String,
    /// The cell in which it stands.
    pub cell: String,
    /// Its clock is known to this: half the shortest of eight round trips.
    pub skew_us: u64,
    /// Names of the streams that it asks, its own controls among them.
    pub streams: Vec<String>,
}

/// The parameters of the verdict (`verdict.md` sections 3 and 4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Error bound of the run, for instance 0.01.
    pub alpha: f64,
    /// Margin for everything that must not notice, as a fraction.
    pub margin: f64,
    /// The target must be degraded by at least this fraction.
    pub effective_min: f64,
    /// Probes that must be degraded in the target.
    pub degraded: Vec<String>,
    /// Block length; every block covers `[k * block_ms, (k + 1) * block_ms)`.
    pub block_ms: u64,
    /// Planned blocks from fire to the end of the recovery watch (T of section 3).
    pub planned_blocks: u32,
    /// Dropped at both edges of the target's fault window: ack + slo + clock skew bound.
    pub guard_ms: u64,
    pub recovery_within_ms: u64,
    /// Planned length of the watch after recovery.
    pub after_ms: u64,
    /// Acknowledged writes that may be lost; absent: not judged.
    pub lost_max: Option<u64>,
    /// Least share of each cell's real requests that streams must see, by name of the traffic.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub coverage: BTreeMap<String, f64>,
    /// Traffics whose counters leave out what cellwall sends itself; before format 3 nobody asked.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub users_only: BTreeSet<String>,
    /// What else is judged: data, symptom, capacity, harm.
    #[serde(default, skip_serializing_if = "Effects::is_empty")]
    pub effects: Effects,
}

/// One judged sequence of good and bad: cell x probe, or an entrypoint, or a control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// Unique: `CELL/PROBE`, `ENTRYPOINT/dns`, `ENTRYPOINT@CELL`, `control/NAME`.
    pub name: String,
    pub role: Role,
    pub plane: Plane,
    /// Absent for DNS answering and controls.
    pub cell: Option<String>,
    /// Name of the probe or entrypoint.
    pub probe: String,
    /// Expected probes per second (an entrypoint's rate times the cell's share).
    pub rate: f64,
    /// The declared limit; absent: set from the first half of the baseline (see `Phase`).
    pub slo_ms: Option<u64>,
    pub timeout_ms: u64,
    /// What its blocks count, how long they are, its own margin; absent: probes, as the judgement says.
    #[serde(default, skip_serializing_if = "Basis::is_probes")]
    pub basis: Basis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// In a target cell: must be degraded (if named by the hypothesis) and must recover.
    Target,
    /// Must not notice: other cells, and DNS answering.
    Other,
    /// Judges the prober itself.
    Control,
}

/// The turning points of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseMark {
    pub phase: Phase,
    pub at_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The baseline begins; on a block boundary.
    Before,
    /// From here blocks count, in streams without a declared slo (second half of the baseline).
    Thresholds,
    /// The instant T at which agents were told to act; on a block boundary.
    Fire,
    /// The last agent has confirmed that nothing of the fault is in force.
    Reverted,
    /// The recovery watch is over; no block starts at or after this.
    End,
}

/// One block of one stream. `valid + invalid == scheduled`; `bad <= valid`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    pub stream: String,
    /// Who looked; absent: the conductor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vantage: Option<String>,
    pub start_ms: u64,
    /// Probes whose intended time lies in this block.
    pub scheduled: u32,
    /// Of these, sent in time (the prober's own lag within its limit).
    pub valid: u32,
    /// Failed, timed out or slower than the threshold.
    pub bad: u32,
    pub timeouts: u32,
    /// Of the timeouts, those that were still under way when the block was closed: `LateEnds` tell how they ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub under_way: u32,
    /// Connection refused or reset.
    pub resets: u32,
    /// Wrong status, wrong body, other errors.
    pub errors: u32,
    /// Of the errors, those with a status of 500 to 599.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub server_errors: u32,
    /// Answered, but slower than the threshold.
    pub slow: u32,
    /// Latency from the intended time, as (microseconds, count), ascending; timeouts left out.
    pub latency_us: Vec<(u64, u32)>,
    /// DNS streams: answers by the cell they pointed to, [`FOREIGN`] for an address of none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<String, u32>,
    /// Gauges: what each scrape read, in the order of time; `bad` is then left to the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f64>,
    /// DNS streams: what the entrypoint's users met, by kind of client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<UsersSeen>,
}

/// A count that nobody would miss in its line.
fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

/// How probes ended that were under way when their block was closed, and so were told as its `timeouts`. Bad they
/// were all the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LateEnds {
    pub stream: String,
    pub start_ms: u64,
    /// Silent up to their own timeout.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeouts: u32,
    /// Answered as expected, but slower than the threshold.
    pub slow: u32,
    pub resets: u32,
    pub errors: u32,
    /// Of the errors, those with a status of 500 to 599.
    pub server_errors: u32,
}

/// How many real requests a cell had in one block, and how many of them some stream stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Name of the traffic in the fleet file.
    pub traffic: String,
    pub cell: String,
    pub start_ms: u64,
    pub requests: u64,
    /// Of these: in a judged stratum, or in one that a probe asks for.
    pub covered: u64,
}

impl Block {
    /// One in which nothing was due.
    pub fn empty(stream: &str, start_ms: u64) -> Self {
        Self {
            stream: stream.to_owned(),
            vantage: None,
            start_ms,
            scheduled: 0,
            valid: 0,
            bad: 0,
            timeouts: 0,
            under_way: 0,
            resets: 0,
            errors: 0,
            server_errors: 0,
            slow: 0,
            latency_us: Vec::new(),
            answers: BTreeMap::new(),
            values: Vec::new(),
            users: None,
        }
    }
}

/// A bad sample as it was; at most a few per block and stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BadSample {
    pub stream: String,
    /// Who looked; absent: the conductor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vantage: Option<String>,
    pub at_ms: u64,
    pub what: String,
}

/// A change of state at an agent, as ctl learnt it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentEvent {
    /// When ctl learnt it.
    pub at_ms: u64,
    /// When it began, by the agent's own clock; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    pub cell: String,
    pub node: String,
    /// `armed`, `firing`, `reverted`, `refused`, `lost`, `unreachable`, ...
    pub state: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What the fault did not reach although it should have, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

impl AgentEvent {
    /// When it began, as well as is known: what is learnt late may have been so for long.
    pub fn happened_ms(&self) -> u64 {
        self.since_ms
            .map_or(self.at_ms, |since| since.min(self.at_ms))
    }
}

/// The verdict so far, once a second while the fault is in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoFar {
    /// End of the second that it covers.
    pub at_ms: u64,
    /// E of every stream that must not notice and of every control (verdict.md 3).
    pub e_values: BTreeMap<String, f64>,
}

/// The online abort spoke (`verdict.md` section 3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    pub at_ms: u64,
    pub stream: String,
    pub cause: AlarmCause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmCause {
    /// A stream that must not notice did.
    Degraded,
    /// The prober cannot be trusted.
    Prober,
    /// Three blocks in a row without evidence.
    Blind,
    /// Users paid more than the scenario allows; the stream is `harm/LIMIT`.
    Harm,
}

/// The prober's machine was given another time, or slept; its monotonic clock shows neither.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClockStep {
    pub at_ms: u64,
    /// How much further the wall clock went than the monotonic one.
    pub wall_ms: i64,
    /// How long the machine was suspended.
    pub suspended_ms: u64,
}

impl std::fmt::Display for ClockStep {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.suspended_ms, self.wall_ms) {
            (0, wall) => write!(out, "the prober's wall clock was stepped by {wall:+} ms"),
            (asleep, _) => write!(out, "the prober's machine was suspended for {asleep} ms"),
        }
    }
}

/// Acknowledged writes, read back after recovery, per cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    pub cell: String,
    pub probe: String,
    pub acknowledged: u64,
    /// Acknowledged but not there.
    pub lost: u64,
    /// There more than once.
    pub duplicated: u64,
    /// Could not be asked (the read itself failed): not evidence of anything.
    pub unread: u64,
    /// Deleted or overwritten, seen so, and there again as it was before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resurrected: u64,
    /// Read in an older version than was acknowledged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stale: u64,
    /// Of the acknowledged ones, those whose update was acknowledged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub updated: u64,
    /// The same for deletions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deleted: u64,
    /// The counts above by the time of the last acknowledged change; empty in older histories.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<WritePhase, WriteCounts>,
    /// A few ids of each bad kind, for people.
    pub examples: Vec<String>,
}

/// What one agent's residue scan found after revert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Residue {
    pub cell: String,
    pub node: String,
    /// False: the scan could not be made, which counts as residue.
    pub verified: bool,
    /// Things of ours that are still there, or drifted state.
    pub left: Vec<String>,
}

/// The drill was ended before its time by something other than an alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interrupted {
    pub at_ms: u64,
    /// Ctrl-C, SIGTERM, a refusal, a lost agent.
    pub why: String,
}
