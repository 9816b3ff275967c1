//! One cell's configuration was copied to all: they ask its pricing.

use super::{Mechanism, Wiring};
use crate::layout::CellLayout;

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "The other cells' shops ask the first cell's pricing"
    }

    fn wire(&self, _cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        wiring.pricing = 0;
    }
}
