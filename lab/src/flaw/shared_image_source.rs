//! Servers download what they run from one cell, which shows when one of them must start anew.

use std::time::Duration;

use super::wiring::word;
use super::{Argument, Mechanism, Spot, Wiring};
use crate::kind::Kind;
use crate::layout::CellLayout;

/// Each front is replaced once in this time, as spot instances and rolling updates do it.
const REPLACED_EVERY: Duration = Duration::from_secs(16);

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "All fronts download their release from the first cell at each start, every 16 s"
    }

    /// A kubelet waits longer and longer before it starts a container again that ends by itself.
    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Plain]
    }

    fn wire(&self, cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        wiring.serves_all |= cell == 0;
        wiring.front.extend([
            word("--release-source"),
            Argument::Spot("", Spot::Shared(0)),
            word("--replaced-every"),
            word(REPLACED_EVERY.as_millis()),
            word("--replaced-after"),
            Argument::Turn(REPLACED_EVERY),
        ]);
    }
}
