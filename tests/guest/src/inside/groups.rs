//! The one hierarchy of cgroup v2, with its controllers.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
const CONTROLLERS: &str = "+cpu +memory +io";

/// Mounts it and hands the controllers down.
pub fn mounted() -> Result<(), String> {
    super::mounted("cgroup2", "cgroup2", ROOT)?;
    write(&Path::new(ROOT).join("cgroup.subtree_control"), CONTROLLERS)
}

pub fn make(name: &str) -> Result<PathBuf, String> {
    let group = Path::new(ROOT).join(name);
    fs::create_dir(&group).map_err(|cause| format!("{}: {cause}", group.display()))?;
    Ok(group)
}

pub fn hand_down(group: &Path) -> Result<(), String> {
    write(&group.join("cgroup.subtree_control"), CONTROLLERS)
}

pub fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|cause| format!("write {text} to {}: {cause}", file.display()))
}

pub fn read(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file);
    let text = text.map_err(|cause| format!("{}: {cause}", file.display()))?;
    Ok(text.trim_end().to_owned())
}

/// The number behind a word of a file with lines of words and numbers, such as `cpu.stat`.
pub fn number(file: &Path, word: &str) -> Result<u64, String> {
    let text = read(file)?;
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find_map(|(name, number)| (name == word).then(|| number.parse().ok())?);
    found.ok_or_else(|| format!("{} has no {word}", file.display()))
}

/// Runs something while this process is in the group: whatever it starts stays there.
pub fn within<T>(group: &Path, run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    enter(group)?;
    let done = run();
    enter(Path::new(ROOT))?;
    done
}

fn enter(group: &Path) -> Result<(), String> {
    write(&group.join("cgroup.procs"), &std::process::id().to_string())
}
