//! The isolated world in which one scene is played: what is in it before any fault.
//!
//! It is made inside network, mount and PID namespaces of its own, with control groups of its own,
//! and holds for each mechanism something to alter and something foreign beside it that must stay.

pub mod files;
pub mod groups;
pub mod links;
mod volumes;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use groups::Groups;

pub use links::{OPERATOR, SIDE, UPLINK};

/// The folder of a world; a tmpfs of its own is mounted on it.
#[derive(Clone, Debug)]
pub struct Place(pub PathBuf);

impl Place {
    pub fn files(&self) -> PathBuf {
        self.0.join("files")
    }

    /// The agent's state directory.
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// What is written for and by the programs; not part of the inventory.
    pub fn desk(&self) -> PathBuf {
        self.0.join("desk")
    }

    pub fn volume(&self, name: &str) -> PathBuf {
        self.0.join("volumes").join(name)
    }

    /// Of the frozen file system's image: with the run's pid, so that a later run finds what a killed one
    /// has left frozen.
    pub fn image_name(&self) -> String {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        format!("{name}-frozen.img")
    }

    /// The file system that is frozen; whoever ends the world thaws it first.
    pub fn frozen(&self) -> PathBuf {
        self.volume("frozen")
    }
}

pub struct World {
    pub place: Place,
    pub groups: Groups,
    pub devices: Vec<&'static str>,
    pub volumes: Vec<PathBuf>,
    pub victims: Victims,
    /// Keeps the peer's namespace alive.
    _peer: File,
}

/// Sleeping processes: two by pid, one in each freezer, and one that somebody has stopped already.
pub struct Victims {
    pub by_pid: [u32; 2],
    pub all: Vec<u32>,
    _children: Vec<Child>,
}

impl World {
    /// `name` is that of its control groups.
    pub fn make(place: Place, name: &str, with_volumes: bool) -> Result<Self, String> {
        let groups = Groups::make(name)?;
        groups.enter_agent_leaf()?;
        mount_tmpfs(&place.0, "mode=755")?;
        for folder in [place.files(), place.state(), place.desk()] {
            std::fs::create_dir(&folder)
                .map_err(|cause| format!("{}: {cause}", folder.display()))?;
        }
        let peer = links::make()?;
        files::make(&place.files()).map_err(|cause| format!("the scene's files: {cause}"))?;
        let volumes = match with_volumes {
            true => volumes::make(&place)?,
            false => Vec::new(),
        };
        let victims = Victims::start(&groups)?;
        Ok(Self {
            place,
            groups,
            devices: links::DEVICES.to_vec(),
            volumes,
            victims,
            _peer: peer,
        })
    }
}

impl Victims {
    fn start(groups: &Groups) -> Result<Self, String> {
        let mut children = Vec::new();
        for _ in 0..5 {
            let child = Command::new("sleep")
                .arg("infinity")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .map_err(|cause| format!("sleep: {cause}"))?;
            children.push(child);
        }
        let all: Vec<u32> = children.iter().map(Child::id).collect();
        groups.put_victims(all[2], all[3])?;
        let stopped =
            nix::sys::signal::kill(crate::trace::pid(all[4]), nix::sys::signal::Signal::SIGSTOP);
        stopped.map_err(|cause| format!("stop a victim: {cause}"))?;
        Ok(Self {
            by_pid: [all[0], all[1]],
            all,
            _children: children,
        })
    }
}

/// Nobody's reading alters a time in it.
fn mount_tmpfs(on: &Path, options: &str) -> Result<(), String> {
    let flags = nix::mount::MsFlags::MS_NOATIME;
    nix::mount::mount(Some("crash"), on, Some("tmpfs"), flags, Some(options))
        .map_err(|cause| format!("mount a tmpfs on {}: {cause}", on.display()))
}
