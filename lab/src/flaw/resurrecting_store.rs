//! A store forgets updates and deletions some time after it acknowledged them.

use super::wiring::word;
use super::{Mechanism, Wiring};
use crate::layout::CellLayout;

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "The second cell's store forgets some updates and deletions after it acknowledged them"
    }

    /// One in ten.
    fn wire(&self, cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        if cell == 1 {
            wiring
                .store_arguments
                .extend(["--resurrect", "10"].map(word));
        }
    }
}
