//! Who a user is, is decided in one cell: every checkout and order asks it.

use super::{Mechanism, Wiring};
use crate::layout::CellLayout;

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "Tokens of all cells' users are checked in the first cell"
    }

    fn wire(&self, _cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        wiring.front_needs("token=");
    }
}
