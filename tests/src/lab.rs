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
    /// Cells of plain hosts, for what needs no cluster.
    pub fn up(name: &str, flaws: &[&str]) -> Self {
        Self::of_kind("plain", name, flaws)
    }

    /// Plain hosts whose region's DNS stops answering with a cell that accepts no connection.
    pub fn with_dns_failover(name: &str) -> Self {
        let up = Self::start("plain", name, 3, &["--dns-failover"]);
        up.unwrap_or_else(|why| panic!("{why}"))
    }

    /// Cells that are real Kubernetes clusters.
    pub fn clusters(name: &str, flaws: &[&str]) -> Self {
        Self::of_kind("kubernetes", name, flaws)
    }

    fn of_kind(kind: &str, name: &str, flaws: &[&str]) -> Self {
        Self::try_up(kind, name, 3, flaws).unwrap_or_else(|why| panic!("{why}"))
    }

    /// A lab of so many cells.
    ///
    /// # Errors
    /// What `lab up` said if it failed; nothing of the lab is left then.
    pub fn try_up(kind: &str, name: &str, cells: u8, flaws: &[&str]) -> Result<Self, String> {
        let options: Vec<&str> = flaws.iter().flat_map(|flaw| ["--flaw", *flaw]).collect();
        Self::start(kind, name, cells, &options)
    }

    fn start(kind: &str, name: &str, cells: u8, options: &[&str]) -> Result<Self, String> {
        let mut command = cellwall();
        command.args(["lab", "up", "--name", name, "--kind", kind]);
        command.args(["--cells", &cells.to_string()]);
        command.args(options);
        let output = command
            .stdin(Stdio::null())
            .output()
            .expect("cellwall runs");
        if !output.status.success() {
            return Err(format!("lab up: {}", words(&output)));
        }
        let status = status(name).expect("a lab that came up is listed");
        Ok(Self {
            name: name.to_string(),
            status,
        })
    }

    /// The present state, because agents that die get new pids.
    pub fn refresh(&mut self) {
        self.status = status(&self.name).expect("the lab is still up");
    }

    pub fn agent_pid(&self, cell: &str, node: &str) -> i32 {
        let running = self.running_agent_pid(cell, node);
        running.expect("the node has an agent that runs")
    }

    /// None while the agent is being started again.
    pub fn running_agent_pid(&self, cell: &str, node: &str) -> Option<i32> {
        let cells = self.status.cells.iter().filter(|c| c.name == cell);
        let mut nodes = cells.flat_map(|c| &c.nodes).filter(|n| n.name == node);
        nodes.next().and_then(|node| node.agent_pid)
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

impl Lab {
    /// Works on a thread that stands in a host's network namespace.
    pub fn within<T: Send + 'static>(
        &self,
        host: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let holder = self.status.holder_pid;
        within(&format!("/proc/{holder}/root/run/netns/{host}"), work)
    }

    /// Works on a thread that stands in the network namespace of a pod, found by an argument of
    /// its program and the worker it is on.
    pub fn within_pod<T: Send + 'static>(
        &self,
        worker: &str,
        argument: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let group = format!("cellwall-lab-{}-", self.name);
        let listing = std::fs::read_dir("/proc").expect("procfs").flatten();
        let mut pods = listing.map(|entry| entry.path()).filter(|process| {
            let read = |file: &str| std::fs::read(process.join(file)).unwrap_or_default();
            let groups = String::from_utf8_lossy(&read("cgroup")).into_owned();
            let command = String::from_utf8_lossy(&read("cmdline")).into_owned();
            let on = groups.contains(&group) && groups.contains(&format!("/{worker}/"));
            on && groups.contains("/kubepods/") && command.split('\0').any(|a| a == argument)
        });
        let pod = pods.next().expect("the pod runs");
        within(&pod.join("ns/net").display().to_string(), work)
    }
}

fn within<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let opened = std::fs::File::open(namespace);
    let opened = opened.unwrap_or_else(|error| panic!("{namespace}: {error}"));
    let thread = std::thread::spawn(move || {
        nix::sched::setns(opened, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may enter");
        work()
    });
    thread.join().expect("the work in a namespace ends")
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
