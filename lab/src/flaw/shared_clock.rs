//! All stores set their clocks by one cell, and stop when theirs may be wrong by too much.

use super::{Mechanism, Wiring};
use crate::layout::CellLayout;

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "All stores set their clocks by the first cell, and stop when they are unsure of the time"
    }

    fn wire(&self, _cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        wiring.store_needs("clock=");
    }
}
