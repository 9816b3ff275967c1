//! The nodes that a fleet names as vantages.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::fleet::{Fleet, VantageNode};
use crate::input::InputError;
use crate::places::Places;
use crate::values::{Name, Text};

/// A node of a cell; its agent's policy must allow a vantage.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VantageSpec {
    cell: Text<Name>,
    node: Text<Name>,
}

/// Every vantage is a node of the fleet, named once.
pub(super) fn check(
    fleet: &Fleet,
    specs: Vec<VantageSpec>,
    places: &Places,
) -> Result<Vec<VantageNode>, InputError> {
    let mut vantages: Vec<VantageNode> = Vec::new();
    for (index, spec) in specs.into_iter().enumerate() {
        let path = format!("spec.vantages[{index}]");
        let vantage = VantageNode {
            cell: spec.cell.0.0,
            node: spec.node.0.0,
        };
        let Some(cell) = fleet.cells.get(&vantage.cell) else {
            let message = format!("unknown cell `{}`", vantage.cell);
            let error = InputError::at_value(places, &format!("{path}.cell"), message);
            return Err(error.with_valid(fleet.cells.keys()));
        };
        let names = || cell.nodes.iter().map(|node| &node.name);
        if !names().any(|name| *name == vantage.node) {
            let message = format!("cell {} has no node `{}`", vantage.cell, vantage.node);
            let error = InputError::at_value(places, &format!("{path}.node"), message);
            return Err(error.with_valid(names()));
        }
        if vantages.contains(&vantage) {
            let message = format!("{} of cell {} is named twice", vantage.node, vantage.cell);
            return Err(InputError::at_value(
                places,
                &format!("{path}.node"),
                message,
            ));
        }
        vantages.push(vantage);
    }
    Ok(vantages)
}
