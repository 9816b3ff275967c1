//! One leader for all stores, in one cell, and nobody elects another.

use super::{Mechanism, Wiring};
use crate::layout::CellLayout;

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "Stores write by lease of a leader in the first cell, and nobody elects another"
    }

    fn wire(&self, _cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        wiring.store_needs("lease=");
    }
}
