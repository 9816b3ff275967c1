//! Processes that stand still or are killed.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessChange {
    pub processes: Processes,
    pub act: ProcessAct,
}

/// Resolved and pinned when the drill is armed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Processes {
    /// These, by pid and start time.
    Pids(Vec<u32>),
    /// Everything in this control group and below, whoever joins it.
    Cgroup(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessAct {
    /// The freezer of the control group (v2 `cgroup.freeze` or v1 `freezer.state`), or SIGSTOP.
    Freeze,
    /// SIGKILL. There is no undo.
    Kill,
}

impl ProcessChange {
    pub fn summary(&self) -> String {
        let whom = match &self.processes {
            Processes::Pids(pids) => {
                let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
                format!("processes {}", pids.join(", "))
            }
            Processes::Cgroup(path) => format!("the processes of {path}"),
        };
        match self.act {
            ProcessAct::Freeze => format!("{whom} stand still"),
            ProcessAct::Kill => format!("{whom} are killed"),
        }
    }
}
