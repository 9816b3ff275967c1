//! A store acknowledges updates that it does not keep.

use super::wiring::word;
use super::{Mechanism, Wiring};
use crate::layout::CellLayout;

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "The second cell's store acknowledges updates that it does not keep"
    }

    /// One update in ten.
    fn wire(&self, cell: usize, _own: &CellLayout, wiring: &mut Wiring) {
        if cell == 1 {
            wiring.store_arguments.extend(["--stale", "10"].map(word));
        }
    }
}
