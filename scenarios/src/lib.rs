//! The language of cellwall, pure: fleet and scenario YAML to a plan, a history to a verdict.
//!
//! Nothing here does I/O, knows a clock or a kernel; that is an invariant (ARCHITECTURE.md).

pub mod change;
pub mod faults;
pub mod fleet;
pub mod history;
pub mod plan;
pub mod scenario;
pub mod verdict;
