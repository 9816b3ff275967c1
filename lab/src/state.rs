//! The directory of each lab and `lab.json` in it: which labs there are, and whose they are.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::process::ProcessId;

/// On a real disk, because agents keep their journals in it and fsync them.
pub const DEFAULT_ROOT: &str = "/var/lib/cellwall-lab";
const RECORD: &str = "lab.json";
/// Directories that are being made or removed are named `.gone-NAME-PID`; whoever finds one of
/// ours while holding the lock removes it.
const GONE: &str = ".gone-";

/// How far `up` has come. Each is announced when it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The directory with certificates, policies and the fleet file is there.
    Prepared,
    /// The holder stands in its namespaces.
    Holder,
    /// Every host has its network namespace.
    Namespaces,
    /// Every link, address and route is there.
    Links,
    /// Every process was started.
    Services,
    /// Every cell serves and every agent answers.
    Up,
}

impl Step {
    /// As on the command line and in `lab.json`.
    pub fn word(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_string())
    }
}

/// `lab.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    pub step: Step,
    /// Who removes the directory: `up` at first, then the janitor.
    pub keeper: ProcessId,
    pub holder: Option<ProcessId>,
    /// Host pids of the agents by `NODE.CELL`; an agent that is being restarted has none.
    pub agents: std::collections::BTreeMap<String, i32>,
}

/// One lab's directory.
#[derive(Clone, Debug)]
pub struct LabDirectory(pub PathBuf);

impl LabDirectory {
    pub fn fleet_file(&self) -> PathBuf {
        self.0.join("fleet.yaml")
    }

    pub fn layout_file(&self) -> PathBuf {
        self.0.join("layout.json")
    }

    /// One context for each cell; only labs of Kubernetes cells have it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// What kubectl keeps of the lab's API servers when it is run in the lab.
    pub fn kubectl_cache(&self) -> PathBuf {
        self.0.join("kubectl-cache")
    }

    pub fn tls(&self) -> PathBuf {
        self.0.join("tls")
    }

    /// The hosts' directories.
    pub fn nodes(&self) -> PathBuf {
        self.0.join("nodes")
    }

    /// Where a host's processes keep their files and logs.
    pub fn node(&self, namespace: &str) -> PathBuf {
        self.nodes().join(namespace)
    }

    pub fn record(&self) -> Result<Record> {
        read_json(&self.0.join(RECORD))
    }

    /// Replaces `lab.json` in one step; readers see the old one or the new one. Not fsynced:
    /// what it says ends with this boot.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        write_json(&self.0.join(RECORD), record)
    }

    pub fn layout(&self) -> Result<Layout> {
        read_json(&self.layout_file())
    }

    pub fn write_layout(&self, layout: &Layout) -> Result<()> {
        write_json(&self.layout_file(), layout)
    }
}

/// The directory that holds the directories of all labs.
#[derive(Clone, Debug)]
pub struct Root(pub PathBuf);

impl Root {
    pub fn lab(&self, name: &str) -> LabDirectory {
        LabDirectory(self.0.join(name))
    }

    /// Makes the directory of a new lab, of which the calling process is the keeper for now.
    pub fn create(&self, name: &str) -> Result<LabDirectory> {
        let _lock = self.lock()?;
        self.sweep_locked()?;
        let lab = self.lab(name);
        if fs::symlink_metadata(&lab.0).is_ok() {
            return Err(match lab.record() {
                Ok(_) => Error::AlreadyUp(name.to_string()),
                Err(_) => Error::NotALab { path: lab.0 },
            });
        }
        let keeper = ProcessId::own().map_err(Error::kernel("read /proc/self/stat"))?;
        // It gets its name when it is signed, so that whatever has a name and no record is not
        // ours. The lock keeps sweeps away until then.
        let unnamed = LabDirectory(self.gone(name));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&unnamed.0)
            .map_err(Error::file("make", &unnamed.0))?;
        unnamed.write_record(&Record {
            name: name.to_string(),
            step: Step::Prepared,
            keeper,
            holder: None,
            agents: Default::default(),
        })?;
        fs::rename(&unnamed.0, &lab.0).map_err(Error::file("make", &lab.0))?;
        Ok(lab)
    }

    /// Removes a lab's directory, and the default root with the last one.
    pub fn remove(&self, lab: &LabDirectory) -> Result<()> {
        let _lock = self.lock()?;
        self.discard(&lab.0)?;
        self.remove_root_if_empty();
        Ok(())
    }

    /// Ends what is left of labs whose keeper was killed, and removes their directories.
    pub fn sweep(&self) -> Result<()> {
        if !self.0.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.sweep_locked()?;
        self.remove_root_if_empty();
        Ok(())
    }

    /// Every lab that has a directory and a living keeper, by name.
    pub fn labs(&self) -> Result<Vec<(LabDirectory, Record)>> {
        let mut labs = Vec::new();
        for path in self.entries()? {
            let lab = LabDirectory(path);
            if let Ok(record) = lab.record()
                && record.keeper.open().is_some()
            {
                labs.push((lab, record));
            }
        }
        labs.sort_by(|one, other| one.1.name.cmp(&other.1.name));
        Ok(labs)
    }

    fn sweep_locked(&self) -> Result<()> {
        for path in self.entries()? {
            if is_unfinished(&path) {
                remove_tree(&path)?;
                continue;
            }
            let lab = LabDirectory(path);
            let Ok(record) = lab.record() else {
                continue;
            };
            if name_of(&lab.0) != record.name || record.keeper.open().is_some() {
                continue;
            }
            if let Some(holder) = record.holder.as_ref().and_then(ProcessId::open) {
                holder.signal(Signal::KILL);
                holder.ended_within(Duration::from_secs(5));
            }
            self.discard(&lab.0)?;
        }
        Ok(())
    }

    /// First out of sight in one step, then gone: a half removed directory is never a lab.
    fn discard(&self, path: &Path) -> Result<()> {
        crate::cgroups::remove(path)?;
        let gone = self.gone(&name_of(path));
        match fs::rename(path, &gone) {
            Ok(()) => remove_tree(&gone),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::file("remove", path)(error)),
        }
    }

    fn gone(&self, name: &str) -> PathBuf {
        self.0.join(format!("{GONE}{name}-{}", std::process::id()))
    }

    fn entries(&self) -> Result<Vec<PathBuf>> {
        let listing = match fs::read_dir(&self.0) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("list", &self.0)(error)),
        };
        Ok(listing
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect())
    }

    /// One `up`, sweep or removal at a time. The lock is on the directory itself, so that it
    /// leaves no file; therefore the directory may vanish between opening and locking.
    fn lock(&self) -> Result<std::os::fd::OwnedFd> {
        loop {
            fs::create_dir_all(&self.0).map_err(Error::file("make", &self.0))?;
            let opened = rustix::fs::open(
                &self.0,
                OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY,
                Mode::empty(),
            );
            let Ok(directory) = opened else { continue };
            rustix::fs::flock(&directory, FlockOperation::LockExclusive)
                .map_err(Error::kernel(format!("lock {}", self.0.display())))?;
            let held = rustix::fs::fstat(&directory)
                .map_err(Error::kernel(format!("look at {}", self.0.display())))?;
            if fs::metadata(&self.0).is_ok_and(|now| now.ino() == held.st_ino) {
                if self.is_default() {
                    // Who may go further is said by each lab's own directory.
                    let _ = fs::set_permissions(&self.0, fs::Permissions::from_mode(0o711));
                }
                return Ok(directory);
            }
        }
    }

    fn remove_root_if_empty(&self) {
        if self.is_default() {
            let _ = fs::remove_dir(&self.0);
        }
    }

    fn is_default(&self) -> bool {
        self.0 == Path::new(DEFAULT_ROOT)
    }
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A lab's directory that is being made or removed: it has the name that one has, and in it is the
/// record of that lab, or nothing but an unfinished record.
fn is_unfinished(path: &Path) -> bool {
    let name = name_of(path);
    let Some((lab, pid)) = name
        .strip_prefix(GONE)
        .and_then(|rest| rest.rsplit_once('-'))
    else {
        return false;
    };
    if lab.is_empty() || pid.parse::<u32>().is_err() {
        return false;
    }
    if let Ok(record) = LabDirectory(path.to_path_buf()).record() {
        return record.name == lab;
    }
    let only_a_record = |name: &std::ffi::OsStr| name == RECORD || name == "lab.json.new";
    fs::read_dir(path).is_ok_and(|listing| {
        listing
            .into_iter()
            .all(|entry| entry.is_ok_and(|entry| only_a_record(&entry.file_name())))
    })
}

/// The record last: as long as anything else is there, it says whose the rest is.
fn remove_tree(path: &Path) -> Result<()> {
    let listing = fs::read_dir(path).map_err(Error::file("list", path))?;
    for entry in listing
        .flatten()
        .filter(|entry| entry.file_name() != RECORD)
    {
        let inner = entry.path();
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => fs::remove_dir_all(&inner),
            false => fs::remove_file(&inner),
        }
        .map_err(Error::file("remove", &inner))?;
    }
    fs::remove_dir_all(path).map_err(Error::file("remove", path))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).map_err(Error::file("read", path))?;
    serde_json::from_slice(&text).map_err(|error| Error::Record {
        path: path.to_path_buf(),
        why: error.to_string(),
    })
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| Error::Record {
        path: path.to_path_buf(),
        why: error.to_string(),
    })?;
    let new = path.with_extension("json.new");
    let opened = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new);
    let mut file = opened.map_err(Error::file("make", &new))?;
    file.write_all(&text).map_err(Error::file("write", &new))?;
    fs::rename(&new, path).map_err(Error::file("replace", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(name: &str) -> Root {
        let path = std::env::temp_dir().join(format!("lab-state-{name}-{}", std::process::id()));
        Root(path)
    }

    #[test]
    fn a_lab_whose_keeper_is_gone_is_swept_and_a_kept_one_stays() {
        let root = root("sweep");
        let kept = root.create("kept").unwrap();
        let orphan = root.create("orphan").unwrap();
        let mut record = orphan.record().unwrap();
        record.keeper.started += 1;
        orphan.write_record(&record).unwrap();
        root.sweep().unwrap();
        assert!(kept.0.exists());
        assert!(!orphan.0.exists());
        assert!(matches!(root.create("kept"), Err(Error::AlreadyUp(_))));
        root.create("orphan").unwrap();
        fs::remove_dir_all(&root.0).unwrap();
    }

    #[test]
    fn what_is_not_a_lab_is_left_alone() {
        let root = root("foreign");
        fs::create_dir_all(root.0.join("photos")).unwrap();
        fs::write(root.0.join("photos/cat"), "meow").unwrap();
        fs::create_dir_all(root.0.join("empty")).unwrap();
        fs::create_dir_all(root.0.join(".gone-mine/data")).unwrap();
        fs::create_dir_all(root.0.join(".gone-old-1/nodes")).unwrap();
        // The record of one lab under another name: a copy that somebody made.
        let copied = root.create("copied").unwrap();
        fs::rename(&copied.0, root.0.join("copy")).unwrap();
        let mut record = LabDirectory(root.0.join("copy")).record().unwrap();
        record.keeper.started += 1;
        LabDirectory(root.0.join("copy"))
            .write_record(&record)
            .unwrap();
        root.sweep().unwrap();
        for foreign in [
            "photos/cat",
            "empty",
            ".gone-mine/data",
            ".gone-old-1",
            "copy",
        ] {
            assert!(root.0.join(foreign).exists(), "{foreign}");
        }
        for taken in ["photos", "empty"] {
            assert!(matches!(root.create(taken), Err(Error::NotALab { .. })));
        }
        fs::remove_dir_all(&root.0).unwrap();
    }

    #[test]
    fn what_was_being_made_or_removed_is_swept() {
        let root = root("unfinished");
        let lab = root.create("half").unwrap();
        fs::create_dir_all(lab.node("front-1.a")).unwrap();
        fs::rename(&lab.0, root.0.join(".gone-half-1")).unwrap();
        fs::create_dir_all(root.0.join(".gone-bare-2")).unwrap();
        fs::create_dir_all(root.0.join(".gone-torn-3")).unwrap();
        fs::write(root.0.join(".gone-torn-3/lab.json.new"), "{").unwrap();
        root.sweep().unwrap();
        assert_eq!(fs::read_dir(&root.0).unwrap().count(), 0);
        fs::remove_dir_all(&root.0).unwrap();
    }
}
