//! Two cells keep their orders in the store of one.

use super::{Mechanism, Spot, Wiring};
use crate::layout::CellLayout;

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "The second cell keeps its orders in the first cell's store"
    }

    fn wire(&self, cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        if cell == 1 {
            wiring.set_store(Spot::Store(0));
        }
    }
}
