//! What a vantage is ordered and what it says: a prober on a node of the fleet, spoken to by the
//! conductor in JSON, one object a line, both ways.

use scenarios::fleet::{Ask, Fleet, Plane, Probe};
use scenarios::history::{BadSample, Block, Role, Stream};
use serde::{Deserialize, Serialize};

use crate::writes::Write;

/// Raised with every change that an older vantage would misunderstand.
pub const VANTAGE_FORMAT: u32 = 1;

/// One line of the conductor's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// First, and once: what to ask. Answered with `Ready`, or the vantage ends and says why.
    Look(Box<Task>),
    /// 0 ms of the drill, by the CLOCK_BOOTTIME of the vantage's node; probing begins.
    Begin { origin_boottime_ns: u64 },
    /// Streams without a declared slo get their threshold from the blocks since then.
    Thresholds { from_ms: u64 },
    /// No more probes; what is under way is waited for. Answered with `Ended`.
    End,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub format: u32,
    /// Prefix of the ids that this vantage writes; no other prober of the drill has the same.
    pub run: String,
    /// The fleet file, as the conductor read it.
    pub fleet: String,
    /// With the rates of the drill.
    pub streams: Vec<Stream>,
}

/// One line of the vantage's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    Ready,
    /// One second of all streams, and the writes that are new, or to which something was done, since
    /// the one before.
    Second {
        start_ms: u64,
        blocks: Vec<Block>,
        samples: Vec<BadSample>,
        writes: Vec<Write>,
    },
    /// The last line: now all is told of the writes.
    Ended {
        writes: Vec<Write>,
    },
}

/// What of a drill's streams a vantage asks: those of the cells that must not notice, if they can be
/// asked without a file of the conductor's (a kubeconfig, authorities), and the controls.
///
/// Not the target: a plan also cuts the other cells' nodes from it, so what they see of it is no
/// evidence. Not the entrypoints, whose users are not the cells.
pub fn vantage_streams(fleet: &Fleet, streams: &[Stream]) -> Vec<Stream> {
    let asks = |stream: &&Stream| match stream.role {
        Role::Control => true,
        Role::Target => false,
        Role::Other => {
            let probe = fleet.probes.get(&stream.probe);
            let of_a_cell = stream
                .cell
                .as_ref()
                .is_some_and(|cell| stream.name == format!("{cell}/{}", stream.probe));
            stream.is_probed() && of_a_cell && probe.is_some_and(may_be_carried)
        }
    };
    streams.iter().filter(asks).cloned().collect()
}

/// Also not the cells' dependencies, which are within reach of the cell alone, as a rule.
fn may_be_carried(probe: &Probe) -> bool {
    let credentials = matches!(probe.ask, Ask::Kubernetes(_));
    probe.plane != Plane::Dependency && !credentials && !probe.names_files()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vantage_asks_what_users_of_the_other_cells_ask() {
        let text = include_str!("../../scenarios/tests/fleet.yaml");
        let fleet = scenarios::read_fleet(text, "fleet.yaml").unwrap();
        let streams = crate::streams(&fleet, &["gd-aliyun".to_owned()]);
        let asked = vantage_streams(&fleet, &streams);
        let names: Vec<&str> = asked.iter().map(|stream| stream.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "gd-aws/checkout",
                "gd-aws/order",
                "gd-tencent/checkout",
                "gd-tencent/order",
                "gx-tencent/checkout",
                "gx-tencent/order",
                "control/loopback",
                "control/reference-1",
                "control/reference-2"
            ]
        );
    }

    #[test]
    fn every_kind_of_question_is_carried_that_users_ask() {
        let text = include_str!("../../scenarios/tests/fleet.yaml");
        let spare = "  probes:\n";
        assert!(text.contains(spare));
        let more = "    port: { plane: data, tcp: { address: \"{cell}:443\" } }\n    \
             name: { plane: data, dns: { resolver: \"{cell}\", name: shop.example } }\n    \
             store: { plane: dependency, tcp: { address: \"{cell}:5432\" } }\n";
        let text = text.replacen(spare, &format!("{spare}{more}"), 1);
        let fleet = scenarios::read_fleet(&text, "fleet.yaml").unwrap_or_else(|e| panic!("{e}"));
        let streams = crate::streams(&fleet, &["gd-aliyun".to_owned()]);
        let asked = vantage_streams(&fleet, &streams);
        let is_asked = |probe: &str| asked.iter().any(|stream| stream.probe == probe);
        assert!(is_asked("port") && is_asked("name") && is_asked("checkout"));
        assert!(!is_asked("store"), "a dependency is its cell's own");
    }

    #[test]
    fn a_kubernetes_api_is_left_to_the_conductor() {
        let text = include_str!("../../scenarios/tests/fleet.yaml");
        let mut fleet = scenarios::read_fleet(text, "fleet.yaml").unwrap();
        let streams = crate::streams(&fleet, &["gd-aliyun".to_owned()]);
        let ready = scenarios::fleet::KubernetesQuestion::Ready;
        let order = fleet.probes.get_mut("order").unwrap();
        order.ask = Ask::Kubernetes(ready);
        let asked = vantage_streams(&fleet, &streams);
        assert!(asked.iter().all(|stream| stream.probe != "order"));
        assert!(asked.iter().any(|stream| stream.probe == "checkout"));
    }

    #[test]
    fn what_needs_a_file_of_the_conductors_is_left_to_it() {
        let text = include_str!("../../scenarios/tests/fleet.yaml");
        let mut fleet = scenarios::read_fleet(text, "fleet.yaml").unwrap();
        let streams = crate::streams(&fleet, &["gd-aliyun".to_owned()]);
        let order = fleet.probes.get_mut("order").unwrap();
        let Ask::Http(http) = &order.ask else {
            panic!("{order:?}");
        };
        let mut delete = http.clone();
        delete.trust.ca = Some("ca.pem".into());
        order.rewrites.delete = Some(delete);
        let asked = vantage_streams(&fleet, &streams);
        assert!(asked.iter().all(|stream| stream.probe != "order"));
    }
}
