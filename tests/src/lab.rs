//! A lab for one test, which goes down with the test however the test ends.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

use crate::{binary, cellwall};

/// A lab that is up.
pub struct Lab {
    pub name: String,
    pub status: LabStatus,
}

#[derive(Clone, Debug, Deserialize)]
pub struct LabStatus {
    pub name: String,
    pub kind: String,
    pub holder_pid: i32,
    pub fleet_file: PathBuf,
    pub cells: Vec<CellStatus>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct CellStatus {
    pub name: String,
    pub nodes: Vec<NodeStatus>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    #[serde(default)]
    pub agent_pid: Option<i32>,
}

#[derive(Deserialize)]
struct LabList {
    labs: Vec<LabStatus>,
}

impl Lab {
    pub fn up(name: &str, flaws: &[&str]) -> Self {
        let mut command = cellwall();
        command.args(["lab", "up", "--name", name, "--kind", "plain"]);
        for flaw in flaws {
            command.args(["--flaw", flaw]);
        }
        let output = command
            .stdin(Stdio::null())
            .output()
            .expect("cellwall runs");
        assert!(output.status.success(), "lab up: {}", words(&output));
        let status = status(name).expect("a lab that came up is listed");
        Self {
            name: name.to_string(),
            status,
        }
    }

    /// The present state, because agents that die get new pids.
    pub fn refresh(&mut self) {
        self.status = status(&self.name).expect("the lab is still up");
    }

    pub fn agent_pid(&self, cell: &str, node: &str) -> i32 {
        let cells = self.status.cells.iter().filter(|c| c.name == cell);
        let mut nodes = cells.flat_map(|c| &c.nodes).filter(|n| n.name == node);
        nodes
            .next()
            .and_then(|node| node.agent_pid)
            .expect("the node has an agent")
    }

    /// Runs a command in a node's network namespace.
    pub fn exec(&self, node: &str, command: &[&str]) -> Output {
        Command::new(binary("cellwall-lab"))
            .args(["exec", "--lab", &self.name, node, "--"])
            .args(command)
            .stdin(Stdio::null())
            .output()
            .expect("cellwall-lab runs")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let down = cellwall()
            .args(["lab", "down", "--name", &self.name])
            .output();
        match down {
            Ok(output) if output.status.success() => {}
            other => eprintln!("lab {} did not go down: {other:?}", self.name),
        }
    }
}

/// The lab of this name, if it is up.
pub fn status(name: &str) -> Option<LabStatus> {
    let output = cellwall()
        .args(["lab", "status", "--json", "-"])
        .output()
        .expect("cellwall runs");
    let list: LabList = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("lab status: {error}: {}", words(&output)));
    list.labs.into_iter().find(|lab| lab.name == name)
}

/// What a process said, for a failure message.
pub fn words(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
