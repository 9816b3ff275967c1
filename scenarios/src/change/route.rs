//! Routes to one destination withdrawn, or another one in their place.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Every unicast route of one table to exactly this destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteChange {
    /// `0.0.0.0/0` and `::/0` are the default routes.
    pub destination: IpNet,
    /// Routing table; 254 is the main one (`rtnetlink(7)`).
    #[serde(default = "main_table")]
    pub table: u32,
    /// None: withdrawn only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Instead>,
}

/// What stands in the place of the routes. What an application sees differs: see the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Instead {
    /// EINVAL at once.
    Blackhole,
    /// EHOSTUNREACH at once.
    Unreachable,
    /// EACCES at once.
    Prohibit,
    /// Another next hop, of the destination's family.
    Via(IpAddr),
}

fn main_table() -> u32 {
    254
}

impl RouteChange {
    pub fn summary(&self) -> String {
        let RouteChange {
            destination, table, ..
        } = self;
        let place = match table {
            254 => String::new(),
            table => format!(" in table {table}"),
        };
        match self.instead {
            None => format!("the routes to {destination}{place} withdrawn"),
            Some(instead) => {
                let words = match instead {
                    Instead::Blackhole => "to nowhere".to_owned(),
                    Instead::Unreachable => "to an unreachable host".to_owned(),
                    Instead::Prohibit => "to a prohibited one".to_owned(),
                    Instead::Via(hop) => format!("by {hop}"),
                };
                format!("the routes to {destination}{place} lead {words}")
            }
        }
    }
}
