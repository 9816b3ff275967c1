//! A process of the agent's own that uses something up.

use serde::{Deserialize, Serialize};

/// It ends with the change, and with the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperChange {
    pub work: HelperWork,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HelperWork {
    /// So many threads that never wait.
    BurnCpu { threads: u32 },
    /// So many bytes of memory, written once so that they are really there.
    HoldMemory { bytes: u64 },
}

impl HelperChange {
    pub fn summary(&self) -> String {
        match &self.work {
            HelperWork::BurnCpu { threads } => format!("{threads} threads burn the processors"),
            HelperWork::HoldMemory { bytes } => format!("{bytes} bytes of memory are held"),
        }
    }
}
