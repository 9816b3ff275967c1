//! Control groups of a lab's nodes: made by a node, removed when nothing of the lab lives any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";
const PROCESSES: &str = "cgroup.procs";
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

/// Makes the group `LAB/NODE` in every hierarchy and moves the calling process into it.
pub fn join(lab: &str, node: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let mut group = hierarchy;
        let v2 = group.join("cgroup.controllers").exists();
        for part in [lab, node] {
            let above = group.clone();
            group.push(part);
            match fs::create_dir(&group) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(Error::file("make", &group))?,
            }
            // A cpuset without processors takes no process (cpuset(7)).
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(inherited) = fs::read_to_string(above.join(file))
                    && !v2
                {
                    let own = group.join(file);
                    fs::write(&own, inherited).map_err(Error::file("set", &own))?;
                }
            }
        }
        let processes = group.join(PROCESSES);
        fs::write(&processes, "0").map_err(Error::file("join", &processes))?;
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
