//! A few checkouts of every cell call another one, as a forgotten experiment leaves it.

use super::wiring::word;
use super::{Argument, Mechanism, Spot, Wiring};
use crate::layout::CellLayout;

/// One checkout in this many: 5 %.
const EVERY: u8 = 20;

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "The other cells ask the first cell's pricing for 5 % of their checkouts"
    }

    fn wire(&self, cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        if cell > 0 {
            wiring.front.extend([
                word("--detour"),
                Argument::Spot("", Spot::Pricing(0)),
                word("--detour-every"),
                word(EVERY),
            ]);
        }
    }
}
