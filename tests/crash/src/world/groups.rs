//! Control groups of a scene, in every hierarchy of this machine, with values that are no defaults.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All groups of this program are named so: then the pid of the run, then the scene.
pub const PREFIX: &str = "cellwall-crash-";
const AGENT: &str = "agent";
const VICTIMS: &str = "victims";
/// v1 controllers that are looked at.
const CONTROLLERS: &[&str] = &["freezer", "cpu", "memory", "blkio"];

/// One mounted hierarchy and the scene's own group in it.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// None: v2.
    pub controller: Option<&'static str>,
    pub root: PathBuf,
    pub top: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Groups {
    pub name: String,
    pub agent_leaf: String,
    pub hierarchies: Vec<Hierarchy>,
}

impl Groups {
    /// Where they would be.
    pub fn named(name: &str) -> Result<Self, String> {
        let hierarchies = roots()?.into_iter().map(|(controller, root)| Hierarchy {
            controller,
            top: root.join(name),
            root,
        });
        Ok(Self {
            name: name.to_owned(),
            agent_leaf: AGENT.to_owned(),
            hierarchies: hierarchies.collect(),
        })
    }

    pub fn make(name: &str) -> Result<Self, String> {
        let groups = Self::named(name)?;
        for hierarchy in &groups.hierarchies {
            make(&hierarchy.top)?;
            if hierarchy.controller.is_none() {
                hand_down(&hierarchy.top)?;
            }
            make(&hierarchy.top.join(AGENT))?;
            make(&hierarchy.top.join(VICTIMS))?;
        }
        for (file, value) in groups.limits() {
            write(&file, &value)?;
        }
        Ok(groups)
    }

    /// Values before any fault, so that a default put in their place shows.
    fn limits(&self) -> Vec<(PathBuf, String)> {
        let mut limits = Vec::new();
        for (file, value) in [
            ("cpu.max", "70000 90000"),
            ("memory.high", "268435456"),
            ("cpu.cfs_period_us", "90000"),
            ("cpu.cfs_quota_us", "70000"),
            ("memory.limit_in_bytes", "268435456"),
        ] {
            limits.extend(self.file(file).map(|path| (path, value.to_owned())));
        }
        if let (Some(path), Some(disk)) = (self.file("blkio.throttle.read_bps_device"), disk()) {
            limits.push((path, format!("{}:{} 9000000", disk.0, disk.1)));
        }
        limits
    }

    /// A file of the victims' group, in whichever hierarchy has it.
    fn file(&self, name: &str) -> Option<PathBuf> {
        let paths = self
            .hierarchies
            .iter()
            .map(|h| h.top.join(VICTIMS).join(name));
        paths.into_iter().find(|path| path.exists())
    }

    /// The victims' group in the hierarchy that has one of these files.
    pub fn victims_with(&self, files: &[&str]) -> Option<String> {
        let path = files.iter().find_map(|file| self.file(file))?;
        Some(path.parent()?.display().to_string())
    }

    /// Of v1, if there is one.
    pub fn freezer(&self) -> Option<String> {
        self.victims_with(&["freezer.state"])
    }

    /// Of v2, if there is one.
    pub fn unified(&self) -> Option<String> {
        self.victims_with(&["cgroup.freeze"])
    }

    /// This process, and so whatever it starts, leaves the groups it came from.
    pub fn enter_agent_leaf(&self) -> Result<(), String> {
        let me = std::process::id().to_string();
        for hierarchy in &self.hierarchies {
            write(&hierarchy.top.join(AGENT).join("cgroup.procs"), &me)?;
        }
        Ok(())
    }

    /// The first goes where v2 freezes, the second where v1 does.
    pub fn put_victims(&self, v2: u32, v1: u32) -> Result<(), String> {
        for (group, pid) in [(self.unified(), v2), (self.freezer(), v1)] {
            if let Some(group) = group {
                write(&Path::new(&group).join("cgroup.procs"), &pid.to_string())?;
            }
        }
        Ok(())
    }

    /// What is frozen goes on, so that it can die.
    pub fn thaw(&self) {
        for hierarchy in &self.hierarchies {
            for group in below(&hierarchy.top) {
                let _ = fs::write(group.join("freezer.state"), "THAWED");
                let _ = fs::write(group.join("cgroup.freeze"), "0");
            }
        }
    }

    /// Removes them when nobody is in them any more.
    pub fn remove(&self) {
        for hierarchy in &self.hierarchies {
            for group in below(&hierarchy.top) {
                for _ in 0..200 {
                    if fs::remove_dir(&group).is_ok() || !group.exists() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

/// Deepest first.
fn below(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
    }
    if top.is_dir() {
        found.push(top.to_owned());
    }
    found
}

/// The mounted hierarchies: a v1 controller, or none for v2, and where.
fn roots() -> Result<Vec<(Option<&'static str>, PathBuf)>, String> {
    let text = fs::read_to_string("/proc/self/mountinfo").map_err(|cause| cause.to_string())?;
    let mut roots: Vec<(Option<&'static str>, PathBuf)> = Vec::new();
    for line in text.lines() {
        let Some((mount, super_block)) = line.split_once(" - ") else {
            continue;
        };
        let point = mount.split_whitespace().nth(4).map(PathBuf::from);
        let options = super_block.split_whitespace().nth(2).unwrap_or_default();
        let controller = match super_block.split_whitespace().next() {
            Some("cgroup2") => None,
            Some("cgroup") => {
                let has = |c: &&&str| options.split(',').any(|option| option == **c);
                match CONTROLLERS.iter().find(has) {
                    Some(controller) => Some(*controller),
                    None => continue,
                }
            }
            _ => continue,
        };
        let known = roots.iter().any(|(known, _)| *known == controller);
        roots.extend(point.filter(|_| !known).map(|point| (controller, point)));
    }
    match roots.is_empty() {
        true => Err("no control groups are mounted here".to_owned()),
        false => Ok(roots),
    }
}

/// Lets the groups below ours have what controllers ours has.
fn hand_down(top: &Path) -> Result<(), String> {
    let controllers = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        if ["cpu", "memory", "io"].contains(&controller) {
            write(
                &top.join("cgroup.subtree_control"),
                &format!("+{controller}"),
            )?;
        }
    }
    Ok(())
}

/// The first real disk: what is limited to it are groups of ours in which nobody reads it.
pub fn disk() -> Option<(u32, u32)> {
    let mut disks: Vec<PathBuf> = fs::read_dir("/sys/block")
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    disks.sort();
    let real = |path: &&PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        !["loop", "ram", "zram"]
            .iter()
            .any(|kind| name.starts_with(kind))
    };
    let number = fs::read_to_string(disks.iter().find(real)?.join("dev")).ok()?;
    let (major, minor) = number.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn make(group: &Path) -> Result<(), String> {
    fs::create_dir(group).map_err(|cause| format!("{}: {cause}", group.display()))
}

fn write(file: &Path, value: &str) -> Result<(), String> {
    fs::write(file, value).map_err(|cause| format!("{value:?} into {}: {cause}", file.display()))
}

/// Groups of runs of this program that are dead are removed.
pub fn sweep() {
    for (_, root) in roots().unwrap_or_default() {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if owner(&name).is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true))
                && let Ok(groups) = Groups::named(&name)
            {
                groups.thaw();
                groups.remove();
            }
        }
    }
}

/// The pid of the run to which a group or a folder of this name belongs.
pub fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_have_an_owner() {
        assert_eq!(owner("cellwall-crash-12-file"), Some(12));
        assert_eq!(owner("cellwall-crash-x-file"), None);
        assert_eq!(owner("cellwall-lab-12"), None);
        assert_eq!(owner("system.slice"), None);
    }
}
