//! What the parts of one cell are wired to, said once for all kinds of cell.

use std::net::SocketAddr;
use std::time::Duration;

use super::Flaw;
use crate::layout::{CellLayout, Layout};

/// Where something stands that a part of a cell calls. Cells are known by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    Pricing(usize),
    Store(usize),
    /// What one cell serves to all; it runs where [`Wiring::serves_all`] is set.
    Shared(usize),
    /// A host outside all cells.
    Host(SocketAddr),
}

/// A word of a command line, known when the kind of cell knows the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    Word(String),
    /// The address of a spot, after this text.
    Spot(&'static str, Spot),
    /// The share of this time, in ms, that is before the turn of each front: 0 for the first.
    Turn(Duration),
}

/// The wiring of one cell. Without a flaw everything is the cell's own.
#[derive(Clone, Debug)]
pub struct Wiring {
    cell: usize,
    pub pricing: usize,
    pub resolver: usize,
    pub store: Spot,
    /// Further arguments of the fronts, and of the store.
    pub front: Vec<Argument>,
    pub store_arguments: Vec<Argument>,
    /// This cell runs what [`Spot::Shared`] names.
    pub serves_all: bool,
    /// What two flaws want in different places.
    pub(super) contested: Option<&'static str>,
}

impl Wiring {
    pub fn of(layout: &Layout, cell: usize) -> Wiring {
        Wiring::with(&layout.flaws, cell, &layout.cells[cell])
    }

    pub(super) fn with(flaws: &[Flaw], cell: usize, own: &CellLayout) -> Wiring {
        let mut wiring = Wiring {
            cell,
            pricing: cell,
            resolver: cell,
            store: Spot::Store(cell),
            front: Vec::new(),
            store_arguments: Vec::new(),
            serves_all: false,
            contested: None,
        };
        for flaw in flaws {
            flaw.mechanism.wire(cell, own, &mut wiring);
        }
        wiring
    }

    /// The orders go there.
    pub fn set_store(&mut self, store: Spot) {
        if self.store != Spot::Store(self.cell) && self.store != store {
            self.contested = Some("store");
        }
        self.store = store;
    }

    /// The fronts take no checkout and no order without this from what the first cell serves.
    pub fn front_needs(&mut self, need: &'static str) {
        self.serves_all |= self.cell == 0;
        let needs = [word("--needs"), Argument::Spot(need, Spot::Shared(0))];
        self.front.extend(needs);
    }

    /// The store takes no order without this from what the first cell serves.
    pub fn store_needs(&mut self, need: &'static str) {
        self.serves_all |= self.cell == 0;
        let needs = [word("--needs"), Argument::Spot(need, Spot::Shared(0))];
        self.store_arguments.extend(needs);
    }
}

/// A plain word of a command line.
pub fn word(text: impl ToString) -> Argument {
    Argument::Word(text.to_string())
}
