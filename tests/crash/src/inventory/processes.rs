//! The processes of a scene: whether they run or stand still, and in which control groups.

use std::fs;

use crate::world::World;

/// A process of this PID namespace.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub state: char,
    pub name: String,
    pub command: Vec<String>,
}

impl Process {
    /// The agent's second process, told apart by its first argument.
    pub fn is_guardian(&self) -> bool {
        self.command.get(1).is_some_and(|word| word == "guardian")
    }
}

/// All but this one.
pub fn list() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut processes: Vec<Process> = pids
        .filter(|pid| *pid != nix::unistd::getpid().as_raw())
        .filter_map(look)
        .collect();
    processes.sort_by_key(|process| process.pid);
    processes
}

fn look(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(") ")?;
    let mut words = after.split_whitespace();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = command.split(|byte| *byte == 0);
    Some(Process {
        pid,
        state: words.next()?.chars().next()?,
        parent: words.next()?.parse().ok()?,
        name: before.split_once('(')?.1.to_owned(),
        command: command
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect(),
    })
}

/// Sleeping and running are one: which of them it is, is chance.
fn words(state: char) -> &'static str {
    match state {
        'T' | 't' => "stopped",
        'Z' | 'X' => "dead",
        _ => "runs",
    }
}

pub fn take(_: &World) -> Result<Vec<String>, String> {
    let told = list().into_iter().map(|process| {
        let Process {
            pid,
            parent,
            name,
            state,
            ..
        } = &process;
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let groups = read("cgroup").trim().replace('\n', " ");
        let oom = read("oom_score_adj");
        let oom = oom.trim();
        let state = words(*state);
        format!("{pid} {name} of {parent}: {state}, oom_score_adj {oom}, groups {groups}")
    });
    Ok(told.collect())
}
