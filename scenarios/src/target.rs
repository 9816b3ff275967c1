//! Whom a scenario targets, resolved against a fleet.

use ipnet::IpNet;

use crate::fleet::{Cell, Fleet};
use crate::prefixes::merge;
use crate::scenario::TargetSelector;

/// The cells to break and every address that goes dark with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub cloud: String,
    /// In the order of their names.
    pub cells: Vec<String>,
    /// Merged. A whole cloud: its prefixes and everything of its cells. Some cells by name: only
    /// what is theirs, because other cells may live in the same cloud.
    pub prefixes: Vec<IpNet>,
}

/// Why a target selector finds nothing that one drill can break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetError {
    UnknownCloud(String),
    /// Its place in the list.
    UnknownCell(usize, String),
    Empty(String),
    TwoClouds(usize, String),
}

impl Target {
    pub(crate) fn resolve(fleet: &Fleet, selector: &TargetSelector) -> Result<Target, TargetError> {
        match selector {
            TargetSelector::Cloud(name) => {
                let Some(cloud) = fleet.clouds.get(name) else {
                    return Err(TargetError::UnknownCloud(name.clone()));
                };
                let inside = fleet.cells.iter().filter(|(_, cell)| cell.cloud == *name);
                let cells: Vec<String> = inside.map(|(cell, _)| cell.clone()).collect();
                if cells.is_empty() {
                    return Err(TargetError::Empty(name.clone()));
                }
                let extents = fleet.cells.values().filter(|cell| cell.cloud == *name);
                let prefixes = extents.flat_map(Cell::extent);
                let prefixes = merge(prefixes.chain(cloud.prefixes.iter().copied()));
                Ok(Target {
                    cloud: name.clone(),
                    cells,
                    prefixes,
                })
            }
            TargetSelector::Cells(names) => Target::of_cells(fleet, names),
        }
    }

    fn of_cells(fleet: &Fleet, names: &[String]) -> Result<Target, TargetError> {
        let mut target = Target {
            cloud: String::new(),
            cells: Vec::new(),
            prefixes: Vec::new(),
        };
        for (index, name) in names.iter().enumerate() {
            let Some(cell) = fleet.cells.get(name) else {
                return Err(TargetError::UnknownCell(index, name.clone()));
            };
            if index > 0 && cell.cloud != target.cloud {
                return Err(TargetError::TwoClouds(index, name.clone()));
            }
            target.cloud.clone_from(&cell.cloud);
            target.cells.push(name.clone());
            target.prefixes.extend(cell.extent());
        }
        if target.cells.is_empty() {
            return Err(TargetError::Empty(String::new()));
        }
        target.cells.sort();
        target.cells.dedup();
        target.prefixes = merge(target.prefixes);
        Ok(target)
    }
}
