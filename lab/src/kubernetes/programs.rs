//! Where the programs of a Kubernetes cell are: the field's own variable first, else our cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// envtest's variable: a directory with `etcd`, `kube-apiserver`, ... What it lacks is the cache's.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
const CACHE: &str = "CELLWALL_CACHE";
const DEFAULT_CACHE: &str = "/var/cache/cellwall";

const CLUSTER: [&str; 8] = [
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
];
const NODE: [&str; 7] = [
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/bin/ctr",
    "usr/sbin/runc",
    "usr/lib/cni/bridge",
    "usr/lib/cni/host-local",
    "usr/lib/cni/loopback",
];

/// A program of Kubernetes, by the name that it is called by.
pub fn cluster(name: &str) -> PathBuf {
    let own = std::env::var_os(ASSETS).map(|assets| PathBuf::from(assets).join(name));
    match own {
        Some(own) if is_program(&own) => own,
        _ => cached("controlplane").join(name),
    }
}

/// The directory that Debian's containerd, runc and CNI plugins are unpacked in.
pub fn node() -> PathBuf {
    cached("node")
}

/// Names what is missing and the command that brings it.
pub fn require() -> Result<()> {
    let cluster = CLUSTER.iter().map(|name| cluster(name));
    let unpacked = NODE.iter().map(|name| node().join(name));
    let from_apt = ["/usr/sbin/nft"].iter().map(PathBuf::from);
    let missing: Vec<String> = cluster
        .chain(unpacked)
        .chain(from_apt)
        .filter(|path| !is_program(path))
        .map(|path| path.display().to_string())
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::MissingPrograms(missing.join(", "))),
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// The link `current` is followed now: a build meanwhile must not change a lab that is up.
fn cached(part: &str) -> PathBuf {
    let cache = std::env::var_os(CACHE).map_or_else(|| DEFAULT_CACHE.into(), PathBuf::from);
    let current = cache.join(part).join("current");
    fs::canonicalize(&current).unwrap_or(current)
}

/// For `PATH`: the directory of `kubectl`.
pub fn kubectl_directory() -> PathBuf {
    let kubectl = cluster("kubectl");
    kubectl.parent().unwrap_or(Path::new("/")).to_path_buf()
}
