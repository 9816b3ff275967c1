//! The closed vocabulary of what an agent may alter on a machine, each one with an undo.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One reversible alteration of a node. Faults produce these; agents know nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Packets to and from `peers` vanish without a word to either side.
    Firewall(FirewallCut),
}

impl Change {
    /// The word for this kind of change in the agent's policy, the plan and the journal.
    pub fn kind(&self) -> &'static str {
        match self {
            Change::Firewall(_) => "firewall",
        }
    }
}

impl Change {
    /// What ends it, each without the ones before it, where the agent's kernel has them all; an
    /// agent that lacks one says so when it is asked (`plan --live`) and refuses to arm.
    pub fn ends_by(&self) -> &'static [&'static str] {
        match self {
            Change::Firewall(_) => &["timer", "lease", "guardian", "gate", "owner", "journal"],
        }
    }
}

/// A silent cut of IPv4 and IPv6 packets, for the host's own and for forwarded traffic.
///
/// The management path (operator address + agent port, ICMPv6 133-137) is not part of it: every
/// agent keeps its own open, because only it knows the port that it listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirewallCut {
    /// Whom the node can no longer talk to.
    pub peers: Peers,
    /// Which way packets vanish, seen from the node.
    pub direction: Direction,
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
