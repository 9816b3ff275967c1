//! What looks at the fleet: open-loop schedule, probe kinds, block records.
//!
//! [`streams`] says what a fleet is asked, [`Prober::start`] asks it, second by second, and
//! [`Prober::read_back`] asks for every acknowledged write again. The rules are those of the
//! verdict: probes are sent on a fixed grid whatever became of the ones before them, latency runs
//! from the intended time, and what the prober itself delayed is no evidence against a cell.

mod ask;
mod block;
mod board;
mod control;
mod dns;
mod entrypoint;
mod http;
mod kinds;
mod kubernetes;
mod outcome;
mod prober;
mod readback;
mod schedule;
mod stalls;
mod streams;
mod target;
pub mod vantage;

pub use block::Threshold;
pub use kinds::ProbeError;
pub use kubernetes::{KubeconfigError, kubernetes_config};
pub use prober::{ProbeOut, Prober, Write};
pub use streams::streams;

/// Length of a block; block `k` covers `[k, k + 1)` of these since the drill began.
pub const BLOCK_MS: u64 = 1000;
