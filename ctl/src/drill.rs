//! One drill from plan to verdict: arm, fire, hold, revert, recover, judge.

pub mod conduct;
pub mod hands;
pub mod latency;
pub mod prepare;
pub mod pulse;
pub mod report;
pub mod scene;
pub mod vantages;
