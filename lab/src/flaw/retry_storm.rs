//! Users try the next cell when theirs fails, and a cell has room for 60 % of them.

use super::wiring::word;
use super::{Mechanism, Wiring};
use crate::layout::CellLayout;

/// Of each of a cell's two fronts: together 83 checkouts a second, which is 60 % of what two cells
/// get from this crowd and from probes of 20/s (80 + 2 x 20 + 20).
const SIZE: [&str; 4] = ["--workers", "2", "--work-ms", "48"];

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "Failed checkouts are tried at the next cell, and a cell has room for 60 % of two cells' load"
    }

    fn wire(&self, _cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        wiring.front.extend(SIZE.map(word));
    }

    fn crowd(&self) -> &'static [&'static str] {
        &["--rate", "80", "--attempts", "3"]
    }
}
