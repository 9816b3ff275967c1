//! Users of a lost cell wait for it, and all come at once when it is back.

use super::wiring::word;
use super::{Mechanism, Wiring};
use crate::layout::CellLayout;

/// Of each of a cell's two fronts: together 100 checkouts a second, of which two cells' crowd and
/// probes of 20/s take 70.
const SIZE: [&str; 4] = ["--workers", "2", "--work-ms", "40"];

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "Users of a lost cell wait for it and come to all cells at once when it is back"
    }

    fn wire(&self, _cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        wiring.front.extend(SIZE.map(word));
    }

    fn crowd(&self) -> &'static [&'static str] {
        &["--rate", "80", "--wait-for-cell"]
    }
}
