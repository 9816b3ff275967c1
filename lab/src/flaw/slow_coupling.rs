//! Fronts work with keys of one cell that they keep for a while: nothing happens at first.

use super::{Mechanism, Wiring};
use crate::layout::CellLayout;

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "Fronts work with keys of the first cell, which are good for 40 s"
    }

    fn wire(&self, _cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        wiring.front_needs("keys=");
    }
}
