//! The kinds of cell that a lab can have, and the ways to build one wrong on purpose.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::layout::{CellLayout, Check, CloudLayout, Layout, Service};
use crate::state::LabDirectory;

/// `--kind`. A further kind is one arm here and one implementation of [`CellKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Ordinary processes on hosts, as a fleet of virtual machines is run
    Plain,
}

impl Kind {
    pub fn builder(self) -> &'static dyn CellKind {
        match self {
            Kind::Plain => &crate::plain::Plain,
        }
    }
}

/// What differs between kinds of cell: which hosts a cell has and what runs on them.
pub trait CellKind {
    /// Hosts of a cell with the last part of their addresses.
    fn nodes(&self) -> &'static [(&'static str, u8)];

    /// The node that the cell's users connect to.
    fn entry(&self) -> &'static str;

    /// Declares what the flaws make cells depend on; refuses flaws that this fleet cannot have.
    fn weaken(
        &self,
        clouds: &[CloudLayout],
        cells: &mut [CellLayout],
        flaws: &[Flaw],
    ) -> Result<()>;

    /// The processes of one cell, agents included.
    fn services(&self, layout: &Layout, cell: usize, place: &Place) -> Result<Vec<Service>>;

    /// What must work before this cell counts as up.
    fn checks(&self, cell: &CellLayout) -> Vec<Check>;
}

/// Where programs and files are.
pub struct Place {
    pub directory: LabDirectory,
    /// Holds `shop` and `cellwall-agent`.
    pub programs: PathBuf,
}

/// `--flaw`: real mechanisms by which a fleet breaks its own promise.
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
}

impl Flaw {
    /// As on the command line.
    pub fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// How many cells the fleet must have for the flaw to be one.
    pub fn cells_needed(self) -> usize {
        2
    }
}
