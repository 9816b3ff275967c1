//! The quota of all cells is counted in one; who cannot ask lets nobody through.

use super::{Mechanism, Wiring};
use crate::layout::CellLayout;

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "The rate limit of all cells is counted in the first cell, and fails closed"
    }

    fn wire(&self, _cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        wiring.front_needs("quota=");
    }
}
