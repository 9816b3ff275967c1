//! A silent cut of packets between a node and its peers.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A silent cut of IPv4 and IPv6 packets, for the host's own and for forwarded traffic.
///
/// Address resolution (ARP, ICMPv6 133-137) always passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirewallCut {
    /// Whom the node can no longer talk to.
    pub peers: Peers,
    /// Which way packets vanish, seen from the node.
    pub direction: Direction,
    #[serde(default, skip_serializing_if = "Management::is_kept")]
    pub management: Management,
}

/// The conductor's way to the agent: TCP between the plan's operator addresses and the agent's port,
/// which only the agent knows.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Management {
    /// Stays open, so that the fault can be watched, prolonged and aborted.
    #[default]
    Keep,
    /// Is cut like everything else.
    Cut,
}

impl Management {
    fn is_kept(&self) -> bool {
        *self == Management::Keep
    }
}

/// A set of addresses; both lists are merged (no overlap, no adjacent pair) and sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Peers {
    /// Exactly these prefixes.
    Only(Vec<IpNet>),
    /// Everything but these prefixes (loopback is always spared).
    AllBut(Vec<IpNet>),
}

impl Peers {
    /// The prefixes as listed, whatever they mean.
    pub fn prefixes(&self) -> &[IpNet] {
        match self {
            Peers::Only(prefixes) | Peers::AllBut(prefixes) => prefixes,
        }
    }
}

/// Seen from the node that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Ingress,
    Egress,
    Both,
}

impl Direction {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
            Direction::Both => "both directions",
        }
    }

    pub fn ingress(self) -> bool {
        self != Direction::Egress
    }

    pub fn egress(self) -> bool {
        self != Direction::Ingress
    }
}

impl FirewallCut {
    /// `cut from everyone but 3 IPv4 and 2 IPv6 prefixes, both directions`; counted after merging.
    pub fn summary(&self) -> String {
        let merged = IpNet::aggregate(&self.peers.prefixes().to_vec());
        let v4 = merged.iter().filter(|p| matches!(p, IpNet::V4(_))).count();
        let v6 = merged.len() - v4;
        let everyone = match self.peers {
            Peers::AllBut(_) => "everyone but ",
            Peers::Only(_) => "",
        };
        let way = self.direction.words();
        let management = match self.management {
            Management::Keep => "",
            Management::Cut => ", the conductor's way to the agent too",
        };
        format!("cut from {everyone}{v4} IPv4 and {v6} IPv6 prefixes, {way}{management}")
    }
}
