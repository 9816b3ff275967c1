//! The contract between ctl and agent, generated from `proto/agent.proto`.

/// Raised with every change that an older peer would misunderstand.
pub const PROTOCOL: u32 = 1;

/// The DNS name in an agent's certificate: the conductor asks for it, so that an address that was
/// given to another machine is noticed.
pub fn agent_tls_name(cell: &str, node: &str) -> String {
    format!("{node}.{cell}")
}

#[allow(clippy::all, clippy::too_many_lines, missing_docs)]
mod generated {
    tonic::include_proto!("cellwall.agent.v1");
}
pub use generated::*;
