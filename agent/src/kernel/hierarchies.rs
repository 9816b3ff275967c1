//! Which control groups a process is in, and a group of its own for this process.

use std::io;
use std::path::{Path, PathBuf};

/// Another guardian that ends may remove the group while this one enters it.
const TRIES: u32 = 3;

/// One mounted hierarchy, of proc_pid_mountinfo(5).
struct Mount {
    point: PathBuf,
    /// What of the hierarchy is seen at `point`.
    root: PathBuf,
    /// None: v2. Else what of v1 is there: `freezer`, `cpu`, `name=systemd`, ...
    controllers: Option<Vec<String>>,
}

impl Mount {
    /// `36 35 98:0 /root /point rw,noatime master:1 - cgroup cgroup rw,freezer`
    fn parse(line: &str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mut kind = kind.split(' ');
        let (root, point) = (place.next()?.into(), place.next()?.into());
        let controllers = match kind.next()? {
            "cgroup2" => None,
            "cgroup" => Some(kind.nth(1)?.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        Some(Self {
            point,
            root,
            controllers,
        })
    }

    fn all() -> io::Result<Vec<Self>> {
        let table = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(table.lines().filter_map(Self::parse).collect())
    }

    /// Whether a line of proc_pid_cgroup(5) (`6:freezer:/a`, of v2 `0::/a`) is of this hierarchy.
    fn is_of(&self, controllers: &str) -> bool {
        match &self.controllers {
            None => controllers.is_empty(),
            Some(all) => controllers
                .split(',')
                .any(|one| all.iter().any(|known| known == one)),
        }
    }

    /// The folder of the group that such a file (`/proc/PID/cgroup`) says.
    fn folder(&self, groups: &str) -> Option<PathBuf> {
        let path = groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            self.is_of(controllers).then_some(path)
        })?;
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        Some(self.point.join(below))
    }
}

fn groups_of(pid: &str) -> io::Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
}

/// Where this process is in the hierarchy that a folder belongs to.
fn own_group_beside(folder: &Path) -> io::Result<PathBuf> {
    let mounts = Mount::all()?;
    let around = mounts
        .iter()
        .filter(|mount| folder.starts_with(&mount.point));
    let mount = around.max_by_key(|mount| mount.point.components().count());
    let mount = mount.ok_or_else(|| io::Error::other("it is below no mounted cgroup hierarchy"))?;
    mount
        .folder(&groups_of("self")?)
        .ok_or_else(|| io::Error::other("this process is not seen in that hierarchy"))
}

/// Of an agent that systemd has given a subtree (DelegateSubgroup=agent): the folder `guardian` beside
/// its own `agent`, in v2.
pub fn beside_agent() -> Option<PathBuf> {
    let mounts = Mount::all().ok()?;
    let v2 = mounts.iter().find(|mount| mount.controllers.is_none())?;
    let own = v2.folder(&groups_of("self").ok()?)?;
    (own.file_name()? == "agent").then(|| own.with_file_name("guardian"))
}

/// The v1 group in which a process stands still, if it does: not even SIGKILL ends it there.
pub fn frozen_in(pid: u32) -> Option<PathBuf> {
    let mounts = Mount::all().ok()?;
    let v1 = mounts.iter().find(|mount| mount.is_of("freezer"))?;
    let group = v1.folder(&groups_of(&pid.to_string()).ok()?)?;
    let state = std::fs::read_to_string(group.join("freezer.state")).ok()?;
    (state.trim() != "THAWED").then_some(group)
}

/// This process in a group of its own, until it is dropped.
pub struct Stay {
    group: PathBuf,
    /// Where it was, and goes back to: nobody can remove a group that it is in itself.
    former: PathBuf,
}

impl Stay {
    /// Moves this process there; the folder is made if it is missing.
    pub fn enter(group: &Path) -> io::Result<Self> {
        let former = own_group_beside(group)?;
        let mut tries = 0;
        loop {
            tries += 1;
            match std::fs::create_dir(group) {
                Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(cause),
                _ => {}
            }
            match move_to(group) {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
                moved => break moved?,
            }
        }
        let stay = Self {
            group: group.to_owned(),
            former,
        };
        let now = own_group_beside(group)?;
        match now.canonicalize()? == group.canonicalize()? {
            true => Ok(stay),
            false => Err(io::Error::other(format!(
                "the kernel has {}",
                now.display()
            ))),
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if move_to(&self.former).is_ok() {
            remove_if_empty(&self.group);
        }
    }
}

/// `0` stands for whoever writes it.
fn move_to(group: &Path) -> io::Result<()> {
    std::fs::write(group.join("cgroup.procs"), "0")
}

/// Of a group that another process is in the kernel refuses it.
pub fn remove_if_empty(group: &Path) {
    if group.join("cgroup.procs").exists() {
        let _ = std::fs::remove_dir(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_the_mount_of_its_hierarchy() {
        let groups = "9:name=systemd:/s\n6:cpu,cpuacct:/c/x\n5:freezer:/a/b\n0::/u/agent\n";
        let folder = |line: &str| {
            let folder = Mount::parse(line).and_then(|mount| mount.folder(groups));
            folder.map(|path| path.display().to_string())
        };
        let v1 =
            "31 25 0:27 / /sys/fs/cgroup/freezer rw,nosuid shared:9 - cgroup cgroup rw,freezer";
        assert_eq!(folder(v1).unwrap(), "/sys/fs/cgroup/freezer/a/b");
        let inside = v1.replace("0:27 / ", "0:27 /a ");
        assert_eq!(folder(&inside).unwrap(), "/sys/fs/cgroup/freezer/b");
        assert_eq!(
            folder(&v1.replace("0:27 / ", "0:27 /z ")),
            None,
            "outside what is mounted"
        );
        let two = "32 25 0:28 / /c rw - cgroup cgroup rw,cpu,cpuacct";
        assert_eq!(folder(two).unwrap(), "/c/c/x");
        let v2 = "33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(folder(v2).unwrap(), "/sys/fs/cgroup/unified/u/agent");
        assert_eq!(folder("34 25 0:30 / /proc rw - proc proc rw"), None);
        assert!(Mount::parse("").is_none());
    }

    #[test]
    fn a_folder_that_is_no_group_is_refused_and_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let error = Stay::enter(folder.path()).err().unwrap().to_string();
        assert!(error.contains("no mounted cgroup hierarchy"), "{error}");
        remove_if_empty(folder.path());
        assert!(folder.path().exists());
    }
}
