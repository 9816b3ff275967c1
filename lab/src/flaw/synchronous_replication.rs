//! An order is acknowledged when another cell has it, too.

use super::wiring::word;
use super::{Argument, Mechanism, Spot, Wiring};
use crate::layout::CellLayout;

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "Stores acknowledge an order when the first cell's store has it, too"
    }

    /// The first cell's own replica is in the second one.
    fn wire(&self, cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        let replica = usize::from(cell == 0);
        wiring
            .store_arguments
            .extend([word("--replica"), Argument::Spot("", Spot::Store(replica))]);
    }
}
