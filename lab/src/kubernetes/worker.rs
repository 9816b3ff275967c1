//! What a worker of a cell is, as data: written when a lab is prepared, read by the worker itself.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where containerd listens, in the worker's own mount namespace.
pub const SOCKET: &str = "/run/containerd/containerd.sock";
/// The file in the worker's directory that says all of this.
const DESCRIPTION: &str = "worker.json";

/// Everything that a worker's programs need to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Worker {
    /// Where its files are: a directory of the lab.
    pub directory: PathBuf,
    /// The lab's own directory.
    pub lab: PathBuf,
    /// `NODE.CELL`, here and as the name of the node in its cluster.
    pub namespace: String,
    /// IPv4 first, then IPv6, here and below.
    pub inside: Vec<IpAddr>,
    pub cell: Vec<IpNet>,
    pub pods: [IpNet; 2],
    pub dns: IpAddr,
    pub kubelet: PathBuf,
    pub kube_proxy: PathBuf,
    /// Debian's packages, unpacked.
    pub unpacked: PathBuf,
}

impl Worker {
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The path of its control group in every hierarchy.
    pub fn cgroup(&self) -> String {
        format!("{}/{}", crate::cgroups::name(&self.lab), self.namespace)
    }

    /// Where its images lie until it has them.
    pub fn images(&self) -> PathBuf {
        self.file("images")
    }

    /// Writes this description and makes the place for images.
    pub fn write(&self) -> Result<()> {
        let path = self.file(DESCRIPTION);
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Record {
            path: path.clone(),
            why: error.to_string(),
        })?;
        let images = self.images();
        fs::create_dir_all(&images).map_err(Error::file("make", &images))?;
        fs::write(&path, text).map_err(Error::file("write", &path))
    }

    pub fn read(directory: &Path) -> Result<Worker> {
        let path = directory.join(DESCRIPTION);
        let text = fs::read(&path).map_err(Error::file("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| Error::Record {
            path,
            why: error.to_string(),
        })
    }
}
