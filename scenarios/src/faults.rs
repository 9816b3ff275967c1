//! Faults: pure functions from parameters to changes. One file each, one line here each.

/// placeholder until the registry is written
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {}
