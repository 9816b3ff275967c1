//! One module per fault; each asserts that it bites, reverts, and reverts again.

mod net_blackhole;
