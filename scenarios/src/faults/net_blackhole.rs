//! `net.blackhole`: packets to and from some peers vanish without a word to either side.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::change::{Change, Direction, FirewallCut, Peers};
use crate::faults::{CellChanges, FaultError, Plannable, Scene};
use crate::fleet::Cell;
use crate::prefixes::{loopback, merge, overlap};
use crate::values::Text;

/// Whom the acting cells can no longer talk to, and which way.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetBlackhole {
    peers: PeerSelector,
    /// Seen from the acting node; `both` is what a real outage does.
    #[serde(default = "both")]
    direction: Direction,
}

fn both() -> Direction {
    Direction::Both
}

/// The peers of a cut.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum PeerSelector {
    /// Everything but loopback and the acting cell's own prefixes.
    Everyone,
    /// The scenario's target; only for `on: others`, since no cell is cut from itself.
    Target,
    /// All prefixes of one cloud.
    Cloud(String),
    /// All prefixes and addresses of one cell.
    Cell(String),
    /// Exactly these prefixes.
    Cidrs(Vec<Text<IpNet>>),
}

impl PeerSelector {
    fn field(&self) -> &'static str {
        match self {
            PeerSelector::Everyone | PeerSelector::Target => "peers",
            PeerSelector::Cloud(_) => "peers.cloud",
            PeerSelector::Cell(_) => "peers.cell",
            PeerSelector::Cidrs(_) => "peers.cidrs",
        }
    }
}

impl Plannable for NetBlackhole {
    fn changes(&self, scene: &Scene) -> Result<CellChanges, FaultError> {
        let mut changes = CellChanges::new();
        for name in scene.acting {
            let Some(cell) = scene.fleet.cells.get(name) else { continue };
            let peers = match self.prefixes(scene)? {
                None => Peers::AllBut(merge(cell.prefixes.iter().copied().chain(loopback()))),
                Some(prefixes) => {
                    self.check_own(name, cell, &prefixes)?;
                    Peers::Only(prefixes)
                }
            };
            let cut = FirewallCut { peers, direction: self.direction };
            changes.push((name.clone(), vec![Change::Firewall(cut)]));
        }
        Ok(changes)
    }

    fn title(&self) -> String {
        let peers = match &self.peers {
            PeerSelector::Everyone => "everyone".to_owned(),
            PeerSelector::Target => "the target".to_owned(),
            PeerSelector::Cloud(name) => format!("cloud {name}"),
            PeerSelector::Cell(name) => format!("cell {name}"),
            PeerSelector::Cidrs(list) => format!("{} listed prefixes", list.len()),
        };
        format!("{peers}, {}", self.direction.words())
    }
}

impl NetBlackhole {
    /// The peers, merged and sorted; `None` is everyone.
    fn prefixes(&self, scene: &Scene) -> Result<Option<Vec<IpNet>>, FaultError> {
        let field = self.peers.field();
        let prefixes = match &self.peers {
            PeerSelector::Everyone => return Ok(None),
            PeerSelector::Target => scene.target.prefixes.clone(),
            PeerSelector::Cloud(name) => {
                let cloud = scene.fleet.clouds.get(name).ok_or_else(|| FaultError {
                    valid: scene.fleet.clouds.keys().cloned().collect(),
                    ..FaultError::new(field, format!("unknown cloud `{name}`"))
                })?;
                merge(cloud.prefixes.iter().copied())
            }
            PeerSelector::Cell(name) => {
                let cell = scene.fleet.cells.get(name).ok_or_else(|| FaultError {
                    valid: scene.fleet.cells.keys().cloned().collect(),
                    ..FaultError::new(field, format!("unknown cell `{name}`"))
                })?;
                merge(cell.extent())
            }
            PeerSelector::Cidrs(list) => merge(list.iter().map(|prefix| prefix.0)),
        };
        match prefixes.is_empty() {
            true => Err(FaultError::new(field, "no prefix is listed, so nothing would be cut")),
            false => Ok(Some(prefixes)),
        }
    }

    /// A cell is never cut from itself: its inside goes on in the dark, as in a real outage.
    fn check_own(&self, name: &str, cell: &Cell, prefixes: &[IpNet]) -> Result<(), FaultError> {
        let own = cell.extent().chain(loopback()).find(|own| {
            prefixes.iter().any(|prefix| overlap(prefix, own))
        });
        let Some(own) = own else { return Ok(()) };
        let message = match self.peers {
            PeerSelector::Target => format!(
                "the acting cell {name} belongs to the target, and no cell is cut from itself"
            ),
            _ => format!(
                "these peers hold {own} of the acting cell {name}, and no cell is cut from itself"
            ),
        };
        Err(FaultError {
            hint: "write `peers: everyone` to cut a cell from everything but itself",
            ..FaultError::new(self.peers.field(), message)
        })
    }
}
