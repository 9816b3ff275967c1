//! The policy file of a lab's agents: what their owner allows, written as a user would.

use crate::tls::CONDUCTOR;

/// The same for every node.
pub fn text() -> String {
    format!(
        "# Written by `cellwall-lab up`.\n\
         allow: [firewall]\n\
         longest: 1h\n\
         cells: 1\n\
         protected: {{ cidrs: [] }}\n\
         clients: [{CONDUCTOR}]\n"
    )
}
