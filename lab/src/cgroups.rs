//! Control groups of a lab's nodes: made by a node, removed when nothing of the lab lives any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";
const PROCESSES: &str = "cgroup.procs";
const CONTROLLERS: &str = "cgroup.controllers";
const GIVEN: &str = "cgroup.subtree_control";
const LEAF: &str = "worker";
/// A group of which the last process was just reaped may still be busy for a moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// The name of a lab's groups at the top of every hierarchy. Of its directory, because two labs of
/// one name may have different roots.
pub fn name(lab: &Path) -> String {
    let digest = Sha256::digest(lab.as_os_str().as_encoded_bytes());
    let short: String = digest[..4].iter().map(|b| format!("{b:02x}")).collect();
    let last = lab.file_name().unwrap_or_default().to_string_lossy();
    format!("cellwall-lab-{last}-{short}")
}

/// Every hierarchy that is mounted where all systems have it: one for each controller of cgroup
/// v1, and the unified one of a hybrid system (cgroups(7)).
fn hierarchies() -> Vec<PathBuf> {
    let own = Path::new(ROOT);
    if own.join(PROCESSES).exists() {
        return vec![own.to_path_buf()];
    }
    let listing = fs::read_dir(own).into_iter().flatten().flatten();
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    listing
        .filter(is_directory)
        .map(|entry| entry.path())
        .filter(|path| path.join(PROCESSES).exists())
        .collect()
}

/// Makes the group `LAB/NODE` in every hierarchy and moves the calling process into it; where there
/// is only cgroup v2, into a leaf of it, because a group whose controllers are given to groups below
/// holds no process itself (cgroups(7), "no internal processes").
pub fn join(lab: &str, node: &str) -> Result<()> {
    let all = hierarchies();
    let only_v2 = all.len() == 1 && all[0].join(CONTROLLERS).exists();
    for hierarchy in all {
        let mut group = hierarchy;
        for part in [lab, node] {
            if only_v2 {
                give_controllers(&group)?;
            }
            let above = group.clone();
            group.push(part);
            make(&group)?;
            inherit_cpuset(&above, &group)?;
        }
        if only_v2 {
            give_controllers(&group)?;
            group.push(LEAF);
            make(&group)?;
        }
        let processes = group.join(PROCESSES);
        fs::write(&processes, "0").map_err(Error::file("join", &processes))?;
    }
    Ok(())
}

fn make(group: &Path) -> Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(Error::file("make", group)),
    }
}

/// A cpuset of cgroup v1 without processors takes no process (cpuset(7)); v2 inherits by itself.
fn inherit_cpuset(above: &Path, group: &Path) -> Result<()> {
    if group.join(CONTROLLERS).exists() {
        return Ok(());
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(inherited) = fs::read_to_string(above.join(file)) {
            let own = group.join(file);
            fs::write(&own, inherited).map_err(Error::file("set", &own))?;
        }
    }
    Ok(())
}

/// Lets the groups below have what this one has (cgroup v2).
fn give_controllers(group: &Path) -> Result<()> {
    let read = |file: &str| {
        let path = group.join(file);
        fs::read_to_string(&path).map_err(Error::file("read", path))
    };
    let given = read(GIVEN)?;
    for controller in read(CONTROLLERS)?.split_whitespace() {
        if !given.split_whitespace().any(|one| one == controller) {
            let path = group.join(GIVEN);
            fs::write(&path, format!("+{controller}")).map_err(Error::file("set", path))?;
        }
    }
    Ok(())
}

/// Removes all groups of a lab. None is no error.
pub fn remove(lab: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name(lab));
        loop {
            match remove_tree(&group) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(Error::file("remove", &group)(error)),
            }
        }
    }
    Ok(())
}

/// Only directories can be removed here; the files in them are the kernel's.
fn remove_tree(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_of_one_name_in_two_places_have_different_groups() {
        let one = name(Path::new("/var/lib/cellwall-lab/a"));
        assert!(one.starts_with("cellwall-lab-a-"), "{one}");
        assert_eq!(one, name(Path::new("/var/lib/cellwall-lab/a")));
        assert_ne!(one, name(Path::new("/tmp/other/a")));
    }
}
