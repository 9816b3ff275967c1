//! A change of each kind in the few words that tests want to say.

use scenarios::change::{
    Change, Direction, FirewallCut, Instead, Management, Peers, ProcessAct, ProcessChange,
    Processes, QdiscChange, RouteChange, Shape, Tbf,
};

use super::Sleeper;

/// Both ways from and to these prefixes.
pub fn firewall(peers: &[&str]) -> Change {
    let peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    Change::Firewall(FirewallCut {
        peers: Peers::Only(peers),
        direction: Direction::Both,
        management: Management::Keep,
    })
}

/// Of the main table.
/// Stops a process of the test's.
pub fn freeze(sleeper: &Sleeper) -> Change {
    Change::Process(ProcessChange {
        processes: Processes::Pids(vec![sleeper.pid()]),
        act: ProcessAct::Freeze,
    })
}

pub fn route(to: &str, instead: Option<Instead>) -> Change {
    Change::Route(RouteChange {
        destination: to.parse().unwrap(),
        table: 254,
        instead,
    })
}

pub fn qdisc(device: &str, shape: &Shape) -> Change {
    Change::Qdisc(QdiscChange {
        device: device.to_owned(),
        shape: shape.clone(),
    })
}

pub fn tbf(rate_bps: u64, burst_bytes: u32, latency_us: u32) -> Shape {
    Shape::Tbf(Tbf {
        rate_bps,
        burst_bytes,
        latency_us,
    })
}

/// 8 Mbit/s for all that leaves a device.
pub fn slow(device: &str) -> Change {
    qdisc(device, &tbf(8_000_000, 10_240, 50_000))
}

/// 1 Mbit/s for what leaves it towards these.
pub fn slow_towards(device: &str, peers: &[&str]) -> Change {
    let shape = Shape::Towards {
        peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
        rate_bps: 1_000_000,
        netem: None,
    };
    qdisc(device, &shape)
}
