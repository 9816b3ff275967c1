//! The ways to build a fleet wrong on purpose: real mechanisms by which one breaks its own promise.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layout::{CellLayout, CloudLayout, Layout};

pub const MANAGED_DB_PORT: u16 = 5432;
/// One order in this many is lost or doubled by a store with that flaw.
const STORE_FLAW_EVERY: &str = "10";
/// The name under which the dependency is declared.
const ORDERS_DB: &str = "orders-db";

/// `--flaw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// The other cells' shops ask the first cell's pricing
    SharedConfig,
    /// All cells' shops resolve at the first cell's resolver
    SharedResolver,
    /// The second cell's store is the managed database in the first cell's cloud
    ManagedDatabase,
    /// The second cell's store acknowledges orders that it does not keep
    LossyStore,
    /// The second cell's store keeps some orders twice
    DuplicatingStore,
    /// The second cell's store forgets some updates and deletions after it acknowledged them
    ResurrectingStore,
    /// The second cell's store acknowledges updates that it does not keep
    StaleStore,
}

impl Flaw {
    /// As on the command line.
    pub fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// How many cells the fleet must have for the flaw to be one.
    fn cells_needed(self) -> usize {
        2
    }
}

/// Declares what the flaws make cells depend on; refuses flaws that this fleet cannot have.
pub fn weaken(clouds: &[CloudLayout], cells: &mut [CellLayout], flaws: &[Flaw]) -> Result<()> {
    for flaw in flaws {
        if cells.len() < flaw.cells_needed() {
            return Err(Error::Layout(format!(
                "the flaw {} lies between cells: it needs {} of them, and the fleet has {}",
                flaw.name(),
                flaw.cells_needed(),
                cells.len()
            )));
        }
    }
    if flaws.contains(&Flaw::ManagedDatabase) {
        let database = managed_database(clouds, cells)?;
        cells[1].uses.insert(ORDERS_DB.to_string(), database);
    }
    Ok(())
}

/// The host without an agent in the first cell's cloud.
fn managed_database(clouds: &[CloudLayout], cells: &[CellLayout]) -> Result<SocketAddr> {
    let cloud = clouds.iter().find(|cloud| cloud.name == cells[0].cloud);
    let address = cloud.and_then(|cloud| cloud.managed_db.first());
    let missing = || Error::Layout(format!("cloud `{}` has no database", cells[0].cloud));
    Ok(SocketAddr::new(
        *address.ok_or_else(missing)?,
        MANAGED_DB_PORT,
    ))
}

/// What one cell of a lab is wired to because of the flaws.
pub struct Wiring<'a> {
    layout: &'a Layout,
    cell: usize,
}

impl<'a> Wiring<'a> {
    pub fn of(layout: &'a Layout, cell: usize) -> Wiring<'a> {
        Wiring { layout, cell }
    }

    fn flawed(&self, flaw: Flaw) -> bool {
        self.layout.flaws.contains(&flaw)
    }

    /// The cell whose pricing this cell's fronts ask.
    pub fn pricing_cell(&self) -> &'a CellLayout {
        match self.flawed(Flaw::SharedConfig) {
            true => &self.layout.cells[0],
            false => &self.layout.cells[self.cell],
        }
    }

    /// The other cell whose resolver this cell's fronts ask, if it is not their own.
    pub fn foreign_resolver(&self) -> Option<&'a CellLayout> {
        let foreign = self.cell > 0 && self.flawed(Flaw::SharedResolver);
        foreign.then(|| &self.layout.cells[0])
    }

    /// The database that this cell's fronts take for their store.
    pub fn foreign_store(&self) -> Option<SocketAddr> {
        // A user's fleet file may declare this name, too; only the flaw wires it.
        let wired = self.cell == 1 && self.flawed(Flaw::ManagedDatabase);
        let declared = self.layout.cells[self.cell].uses.get(ORDERS_DB).copied();
        declared.filter(|_| wired)
    }

    /// Arguments of this cell's store.
    pub fn store_arguments(&self) -> Vec<String> {
        let flags = [
            (Flaw::LossyStore, "--lossy"),
            (Flaw::DuplicatingStore, "--duplicate"),
            (Flaw::ResurrectingStore, "--resurrect"),
            (Flaw::StaleStore, "--stale"),
        ];
        let wired = flags
            .iter()
            .filter(|(flaw, _)| self.cell == 1 && self.flawed(*flaw));
        wired
            .flat_map(|(_, flag)| [flag.to_string(), STORE_FLAW_EVERY.to_string()])
            .collect()
    }
}
