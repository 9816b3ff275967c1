//! The ways to build a fleet wrong on purpose: real mechanisms by which one breaks its own promise.

mod wiring;

use std::fmt;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use wiring::{Argument, Spot, Wiring};

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::layout::{CellLayout, CloudLayout};

pub const MANAGED_DB_PORT: u16 = 5432;

/// Declares each flaw's module and lists them all, in the order in which people read them.
macro_rules! flaws {
    ($($name:literal => $module:ident,)*) => {
        $(mod $module;)*

        const ALL: &[Flaw] = &[
            $(Flaw { name: $name, mechanism: &$module::Planted },)*
        ];
    };
}

// A further flaw is one line here, one file in flaw/, one section of docs/flaws.md, and one row of
// tests/flaws/src/table.rs; tests/tests/conventions.rs looks for them.
flaws! {
    "shared-config" => shared_config,
    "shared-resolver" => shared_resolver,
    "shared-auth" => shared_auth,
    "shared-rate-limit" => shared_rate_limit,
    "shared-clock" => shared_clock,
    "shared-database" => shared_database,
    "shared-image-source" => shared_image_source,
    "managed-database" => managed_database,
    "cross-cell-call" => cross_cell_call,
    "synchronous-replication" => synchronous_replication,
    "leader-in-one-cell" => leader_in_one_cell,
    "slow-coupling" => slow_coupling,
    "retry-storm" => retry_storm,
    "recovery-herd" => recovery_herd,
    "lossy-store" => lossy_store,
    "duplicating-store" => duplicating_store,
    "resurrecting-store" => resurrecting_store,
    "stale-store" => stale_store,
}

/// What a flaw does to a fleet. Cells are known by their index; the first one is what breaks.
pub trait Mechanism: Sync {
    /// What is wrong, in half a sentence.
    fn about(&self) -> &'static str;

    /// How many cells the fleet must have for the flaw to be one.
    fn cells_needed(&self) -> usize {
        2
    }

    /// The kinds of cell that can have it.
    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Plain, Kind::Kubernetes]
    }

    /// Adds what an honest owner of this fleet would declare in its fleet file.
    fn declare(&self, _clouds: &[CloudLayout], _cells: &mut [CellLayout]) -> Result<()> {
        Ok(())
    }

    /// Changes what the cell with this index is wired to. `own` knows what `declare` has added.
    fn wire(&self, _cell: usize, _own: &CellLayout, _wiring: &mut Wiring) {}

    /// Arguments of a crowd of users that the flaw needs to show; empty: none.
    fn crowd(&self) -> &'static [&'static str] {
        &[]
    }
}

/// `--flaw`.
#[derive(Clone, Copy)]
pub struct Flaw {
    name: &'static str,
    mechanism: &'static dyn Mechanism,
}

impl Flaw {
    pub fn named(name: &str) -> Option<Flaw> {
        ALL.iter().find(|flaw| flaw.name == name).copied()
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Reads one from the command line, and lists them all in its help.
    pub fn parser() -> impl TypedValueParser<Value = Flaw> {
        let known = ALL
            .iter()
            .map(|flaw| PossibleValue::new(flaw.name).help(flaw.mechanism.about()));
        PossibleValuesParser::new(known).try_map(|name: String| Flaw::try_from(name))
    }

    /// What cannot be built with it, in words.
    fn check(self, kind: Kind, cells: usize) -> Result<()> {
        let needed = self.mechanism.cells_needed();
        if cells < needed {
            return Err(Error::Layout(format!(
                "the flaw {self} lies between cells: it needs {needed} of them, and the fleet has \
                 {cells}"
            )));
        }
        if !self.mechanism.kinds().contains(&kind) {
            return Err(Error::Layout(format!(
                "the flaw {self} cannot be built in cells of the kind {kind:?}; leave it out, or \
                 take another --kind"
            )));
        }
        Ok(())
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

// By hand, since a derived reader would borrow the name from what it reads.
impl Serialize for Flaw {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Flaw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Flaw, D::Error> {
        let name = String::deserialize(from)?;
        Flaw::try_from(name).map_err(serde::de::Error::custom)
    }
}

impl TryFrom<String> for Flaw {
    type Error = String;

    fn try_from(name: String) -> std::result::Result<Flaw, String> {
        Flaw::named(&name).ok_or_else(|| format!("`{name}` is no flaw"))
    }
}

/// Declares what the flaws make cells depend on; refuses flaws that this fleet cannot have, alone
/// or together.
pub fn weaken(
    kind: Kind,
    clouds: &[CloudLayout],
    cells: &mut [CellLayout],
    flaws: &[Flaw],
) -> Result<()> {
    for flaw in flaws {
        flaw.check(kind, cells.len())?;
        flaw.mechanism.declare(clouds, cells)?;
    }
    let crowds: Vec<&str> = flaws
        .iter()
        .filter(|flaw| !flaw.mechanism.crowd().is_empty())
        .map(|flaw| flaw.name)
        .collect();
    if crowds.len() > 1 {
        return Err(Error::Layout(format!(
            "each of the flaws {} brings a crowd of users that the cells are sized for; name one",
            crowds.join(", ")
        )));
    }
    for (index, cell) in cells.iter().enumerate() {
        if let Some(what) = Wiring::with(flaws, index, cell).contested {
            return Err(Error::Layout(format!(
                "two flaws want the {what} of cell `{}` elsewhere; name one of them",
                cell.name
            )));
        }
    }
    Ok(())
}

/// Arguments of the crowd that one of the flaws brings.
pub fn crowd(flaws: &[Flaw]) -> Option<&'static [&'static str]> {
    let mut all = flaws.iter().map(|flaw| flaw.mechanism.crowd());
    all.find(|arguments| !arguments.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flaw_is_written_as_its_name_and_no_other_word_is_read() {
        for flaw in ALL {
            let text = serde_json::to_string(flaw).unwrap();
            assert_eq!(text, format!("\"{}\"", flaw.name));
            let read: Flaw = serde_json::from_str(&text).unwrap();
            assert_eq!(read.name, flaw.name);
        }
        assert!(serde_json::from_str::<Flaw>("\"no-such-flaw\"").is_err());
    }

    #[test]
    fn every_flaw_changes_something() {
        for flaw in ALL {
            let cells = crate::description::Description::default_fleet(3);
            let place = crate::kind::Place {
                directory: crate::state::LabDirectory("/nowhere".into()),
                programs: "/bin".into(),
            };
            let lay_out = |flaws: &[Flaw]| {
                let layout = crate::layout::Layout::new("a", Kind::Plain, flaws, &cells, &place);
                format!("{:?}", layout.unwrap().services)
            };
            assert_ne!(lay_out(&[*flaw]), lay_out(&[]), "{flaw}");
        }
    }
}
