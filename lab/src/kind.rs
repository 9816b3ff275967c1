//! The kinds of cell that a lab can have.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::layout::{CellLayout, Check, Host, Layout, NodeLayout, Service};
use crate::state::LabDirectory;

/// `--kind`. A further kind is one arm here and one implementation of [`CellKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A real Kubernetes cluster in every cell: a control plane and a node with pods
    Kubernetes,
    /// Ordinary processes on hosts, as a fleet of virtual machines is run
    Plain,
}

impl Kind {
    pub fn builder(self) -> &'static dyn CellKind {
        match self {
            Kind::Kubernetes => &crate::kubernetes::Kubernetes,
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

    /// What no cell of this kind can be built from, in words.
    fn check(&self, _cell: &CellLayout) -> Result<()> {
        Ok(())
    }

    /// What a host of a cell has beside its addresses and its way out.
    fn shape(&self, _cell: &CellLayout, _node: &NodeLayout, _host: &mut Host) {}

    /// The lines of the fleet file that are of this kind only.
    fn fleet_lines(&self, _cell: &CellLayout) -> FleetLines {
        FleetLines::default()
    }

    /// The processes of one cell, agents included.
    fn services(&self, layout: &Layout, cell: usize, place: &Place) -> Result<Vec<Service>>;

    /// What must work before this cell counts as up.
    fn checks(&self, cell: &CellLayout) -> Vec<Check>;

    /// How long all checks together may take.
    fn patience(&self) -> Duration;

    /// Programs beside those of [`CellKind::services`] that must be there before anything is made.
    fn require(&self) -> Result<()> {
        Ok(())
    }

    /// Writes the files that this kind's processes want to find.
    fn prepare(&self, _layout: &Layout, _place: &Place) -> Result<()> {
        Ok(())
    }
}

/// What a kind of cell adds to the fleet file.
#[derive(Default)]
pub struct FleetLines {
    /// Lines of a cell, at its indentation.
    pub cell: String,
    /// Lines of the probes, at theirs; the same for every cell.
    pub probes: &'static str,
}

/// Where programs and files are.
pub struct Place {
    pub directory: LabDirectory,
    /// Holds `shop` and `cellwall-agent`.
    pub programs: PathBuf,
}
