//! The language of cellwall, pure: fleet and scenario YAML to a plan, a history to a verdict.
//!
//! Nothing here does I/O, knows a clock or a kernel; that is an invariant (ARCHITECTURE.md).

pub mod asks;
pub mod change;
mod cores;
pub mod effects;
pub mod faults;
pub mod fleet;
pub mod history;
pub mod input;
pub mod library;
pub mod places;
pub mod plan;
pub mod planner;
mod prefixes;
pub mod read;
pub mod scenario;
pub mod schema;
pub mod selector;
pub mod target;
pub mod traffic;
mod values;
pub mod verdict;
mod yaml;

pub use input::InputError;
pub use read::{read_fleet, read_fleet_bytes, read_scenario, read_scenario_bytes};
pub use values::{parse_duration, parse_percentage, parse_rate};
pub use yaml::MAX_BYTES as INPUT_BYTES_MAX;
