//! The agent on every node of every kind of cell: its process and its policy file.

use crate::internet::OPERATOR;
use crate::kind::Place;
use crate::layout::{Ask, CellLayout, Check, NodeLayout, Role, Service};
use crate::tls::CONDUCTOR;

/// What the owner of the nodes allows, written as a user would; the same for every node.
pub fn policy() -> String {
    format!(
        "# Written by `cellwall-lab up`.\n\
         allow: [firewall]\n\
         longest: 1h\n\
         cells: 1\n\
         protected: {{ cidrs: [] }}\n\
         no_lease: true\n\
         cut_management: true\n\
         vantage: true\n\
         clients: [{CONDUCTOR}]\n"
    )
}

/// The operator reaches the agent.
pub fn check(node: &NodeLayout) -> Check {
    Check {
        from: OPERATOR.to_string(),
        to: node.agent,
        ask: Ask::Connect,
    }
}

fn pair(flag: &str, value: impl ToString) -> [String; 2] {
    [flag.to_string(), value.to_string()]
}

/// The agent of one node.
pub fn service(cell: &CellLayout, node: &NodeLayout, place: &Place) -> Service {
    let files = place.directory.node(&node.namespace);
    let tls = place.directory.tls();
    let arguments: Vec<String> = [
        pair("--cell", &cell.name),
        pair("--node", &node.name),
        pair("--listen", node.agent),
        pair("--state-dir", files.join("agent").display()),
        pair("--policy", files.join("policy.yaml").display()),
        pair("--ca", tls.join("ca.pem").display()),
        pair(
            "--certificate",
            tls.join(format!("{}.pem", node.namespace)).display(),
        ),
        pair(
            "--key",
            tls.join(format!("{}.key", node.namespace)).display(),
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    Service {
        role: Role::Agent,
        namespace: node.namespace.clone(),
        program: place.programs.join("cellwall-agent"),
        arguments: std::iter::once("run".to_string())
            .chain(arguments)
            .collect(),
        after: None,
        log: files.join("agent.log"),
    }
}
