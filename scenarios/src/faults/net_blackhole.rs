//! `net.blackhole`: packets to and from some peers vanish without a word to either side.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::change::{Change, Direction, FirewallCut, Management, Peers};
use crate::effects::Symptom;
use crate::faults::{CellChanges, FaultError, Plannable, Scene};
use crate::fleet::Cell;
use crate::prefixes::{loopback, merge, overlap};
use crate::scenario::Side;
use crate::values::Text;

/// Whom the acting cells can no longer talk to, and which way.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetBlackhole {
    peers: PeerSelector,
    /// Seen from the acting node; `both` is what a real outage does.
    #[serde(default = "both")]
    direction: Direction,
    /// Whether the conductor still reaches the agents of the acting cells: `keep` (default) or `cut`,
    /// which needs `allow: [cut_management]`.
    #[serde(default)]
    management: Management,
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
            let Some(cell) = scene.fleet.cells.get(name) else {
                continue;
            };
            let peers = match self.prefixes(scene)? {
                None => Peers::AllBut(merge(cell.prefixes.iter().copied().chain(loopback()))),
                Some(prefixes) => {
                    self.check_own(scene.side, name, cell, &prefixes)?;
                    Peers::Only(prefixes)
                }
            };
            let cut = FirewallCut {
                peers,
                direction: self.direction,
                management: self.management,
            };
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
        let management = match self.management {
            Management::Keep => "",
            Management::Cut => ", the management path too",
        };
        format!("{peers}, {}{management}", self.direction.words())
    }

    /// Who is cut from everyone is silent: no reset, no 5xx, no answer at all.
    fn symptom(&self) -> Option<Symptom> {
        matches!(self.peers, PeerSelector::Everyone).then_some(Symptom::Timeouts)
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
            true => Err(FaultError::new(
                field,
                "no prefix is listed, so nothing would be cut",
            )),
            false => Ok(Some(prefixes)),
        }
    }

    /// A cell is never cut from itself: its inside goes on in the dark, as in a real outage.
    fn check_own(
        &self,
        side: Side,
        name: &str,
        cell: &Cell,
        prefixes: &[IpNet],
    ) -> Result<(), FaultError> {
        let own = cell
            .extent()
            .chain(loopback())
            .find(|own| prefixes.iter().any(|prefix| overlap(prefix, own)));
        let Some(own) = own else { return Ok(()) };
        let message = match self.peers {
            PeerSelector::Target => format!(
                "the acting cell {name} belongs to the target, and no cell is cut from itself"
            ),
            _ => format!(
                "these peers hold {own} of the acting cell {name}, and no cell is cut from itself"
            ),
        };
        let hint = match side {
            Side::Target => "write `peers: everyone` to cut a cell from everything but itself",
            Side::Others => "write `peers: target` to cut the others from the target",
        };
        Err(FaultError {
            hint,
            ..FaultError::new(self.peers.field(), message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;
    use crate::read::read_fleet;
    use crate::scenario::TargetSelector;
    use crate::target::Target;

    fn fleet() -> Fleet {
        read_fleet(include_str!("../../tests/fleet.yaml"), "fleet.yaml").unwrap()
    }

    fn fault(peers: &str) -> NetBlackhole {
        serde_yaml::from_str(&format!("peers: {peers}")).unwrap()
    }

    fn changes(peers: &str, acting: &str) -> Result<Vec<FirewallCut>, FaultError> {
        let fleet = fleet();
        let target = Target::resolve(&fleet, &TargetSelector::Cloud("aliyun".to_owned())).unwrap();
        let acting = [acting.to_owned()];
        let scene = Scene {
            fleet: &fleet,
            target: &target,
            side: Side::Target,
            acting: &acting,
        };
        let changes = fault(peers).changes(&scene)?;
        assert_eq!(changes.len(), 1);
        Ok(changes[0]
            .1
            .iter()
            .filter_map(Change::as_cut)
            .cloned()
            .collect())
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn everyone_spares_the_own_inside_and_loopback_in_both_families() {
        let cuts = changes("everyone", "gd-aliyun").unwrap();
        let spared = nets(&["10.1.0.0/16", "127.0.0.0/8", "::1/128", "fd00:1::/64"]);
        assert_eq!(
            cuts,
            [FirewallCut {
                peers: Peers::AllBut(spared),
                direction: Direction::Both,
                management: Management::Keep,
            }]
        );
    }

    #[test]
    fn the_target_is_its_cloud_and_the_inside_of_its_cells_merged() {
        let cuts = changes("target", "gd-aws").unwrap();
        let dark = nets(&[
            "10.1.0.0/16",
            "198.51.100.0/26",
            "2001:db8:1::/48",
            "fd00:1::/64",
        ]);
        assert_eq!(cuts[0].peers, Peers::Only(dark));
    }

    #[test]
    fn a_cell_by_name_is_its_inside_and_its_addresses() {
        let cuts = changes("{ cell: gd-aws }", "gd-aliyun").unwrap();
        let cell = nets(&[
            "10.3.0.0/16",
            "198.51.100.130/32",
            "198.51.100.133/32",
            "2001:db8:3::2/128",
            "fd00:3::/64",
        ]);
        assert_eq!(cuts[0].peers, Peers::Only(cell));
    }

    #[test]
    fn no_cell_is_cut_from_itself() {
        for peers in [
            "target",
            "{ cloud: aliyun }",
            "{ cell: gd-aliyun }",
            "{ cidrs: [10.1.2.0/24] }",
            "{ cidrs: [10.0.0.0/8] }",
            "{ cidrs: [127.0.0.0/16] }",
            "{ cidrs: ['::/0'] }",
        ] {
            let error = changes(peers, "gd-aliyun").unwrap_err();
            assert!(
                error.message.contains("no cell is cut from itself"),
                "{peers}: {error:?}"
            );
        }
        assert!(changes("{ cidrs: [192.0.2.254/32] }", "gd-aliyun").is_ok());
    }

    #[test]
    fn nothing_to_cut_is_an_error() {
        assert!(changes("{ cidrs: [] }", "gd-aliyun").is_err());
        assert!(
            changes("{ cloud: azure }", "gd-aliyun")
                .unwrap_err()
                .valid
                .contains(&"aws".into())
        );
    }
}
