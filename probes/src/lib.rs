//! What looks at the fleet: open-loop schedule, probe kinds, block records.
//!
//! [`streams`] says what a fleet is asked, [`Prober::start`] asks it, second by second, and
//! [`Prober::read_back`] asks for every acknowledged write again. The rules are those of the
//! verdict: probes are sent on a fixed grid whatever became of the ones before them, latency runs
//! from the intended time, and what the prober itself delayed is no evidence against a cell.

mod ask;
mod askers;
mod block;
mod board;
mod clients;
mod clock;
mod control;
mod counters;
mod dial;
mod dns;
mod entrypoint;
mod expect;
mod exposition;
mod http;
mod kinds;
mod kubernetes;
mod late;
mod load;
mod metered;
mod metered_streams;
mod outcome;
mod prober;
mod progress;
mod readback;
mod request;
mod rewriter;
mod schedule;
mod scrape;
mod stalls;
mod streams;
mod target;
mod trust;
mod users;
pub mod vantage;
mod writes;

pub use block::Threshold;
pub use clock::Clocks;
pub use kinds::ProbeError;
pub use kubernetes::{KubeconfigError, kubernetes_config};
pub use load::Load;
pub use prober::{ProbeOut, Prober};
pub use streams::streams;
pub use writes::{Fate, Write, WritePhases};

/// Length of a block; block `k` covers `[k, k + 1)` of these since the drill began.
pub const BLOCK_MS: u64 = 1000;
