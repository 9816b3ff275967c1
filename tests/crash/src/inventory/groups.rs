//! The control groups of a scene, with what limits and freezes them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::world::groups::Groups;

/// What is set by people and programs; what counts and measures is left out.
const VALUES: &[&str] = &[
    "cgroup.freeze",
    "cgroup.subtree_control",
    "cgroup.max.depth",
    "cgroup.max.descendants",
    "cgroup.type",
    "cpu.max",
    "cpu.max.burst",
    "cpu.weight",
    "memory.min",
    "memory.low",
    "memory.high",
    "memory.max",
    "memory.swap.max",
    "io.max",
    "io.weight",
    "pids.max",
    "freezer.state",
    "freezer.self_freezing",
    "freezer.parent_freezing",
    "cpu.shares",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.cfs_burst_us",
    "memory.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.swappiness",
    "memory.oom_control",
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_iops_device",
    "notify_on_release",
    "cgroup.clone_children",
    "cgroup.procs",
];

pub fn take(groups: &Groups) -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    for hierarchy in &groups.hierarchies {
        walk(&hierarchy.top, &groups.agent_leaf, &mut told)?;
        others_of_ours(&hierarchy.root, &groups.name, &mut told);
    }
    told.sort();
    Ok(told)
}

fn walk(folder: &Path, agents: &str, told: &mut Vec<String>) -> Result<(), String> {
    let shown = folder.display();
    let begun = told.len();
    told.push(format!("{shown}"));
    // Where agents and this program are, the processes come and go.
    let theirs = folder.file_name().is_some_and(|name| name == agents);
    for value in VALUES
        .iter()
        .filter(|value| !(theirs && **value == "cgroup.procs"))
    {
        if let Ok(text) = fs::read_to_string(folder.join(value)) {
            told.push(format!(
                "{shown}/{value} = {}",
                text.trim().replace('\n', " ")
            ));
        }
    }
    if let Ok(events) = fs::read_to_string(folder.join("cgroup.events")) {
        let frozen = events.lines().find(|line| line.starts_with("frozen"));
        told.push(format!("{shown} is {}", frozen.unwrap_or("unfreezable")));
    }
    let entries = match fs::read_dir(folder) {
        // A guardian's group goes with it, also between two looks at it.
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            told.truncate(begun);
            return Ok(());
        }
        entries => entries.map_err(|cause| format!("{shown}: {cause}"))?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), agents, told)?;
        }
    }
    Ok(())
}

/// Groups that bear our name at the top of a hierarchy, but for labs, tests of the agent and other runs of
/// this program.
fn others_of_ours(root: &Path, own: &str, told: &mut Vec<String>) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let foreign = |name: &String| {
        let others = ["cellwall-lab", "cellwall-test-", "cellwall-crash-"];
        name != own && !others.iter().any(|other| name.starts_with(other))
    };
    let ours = names
        .filter(|name| name.contains("cellwall"))
        .filter(foreign);
    told.extend(ours.map(|name| root.join(name).display().to_string()));
}
