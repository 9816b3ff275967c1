//! Pods of this node: network namespaces of other processes that hang on a device of our own.
//!
//! A container is one too; so is whatever else has a namespace that is reached through this host.
//! A pod in the host's own namespace is part of the host. All this only looks: /proc is walked, and
//! each foreign namespace is asked for its links by a thread that enters it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::kernel::links::{DefaultRoute, Link, Links};
use crate::kernel::namespaces::{Namespace, NamespaceId};
use crate::kernel::netlink;

const KUBEPODS: &str = "kubepods";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot look at the network namespace of this agent: {0}; nothing was altered")]
    Own(io::Error),
    #[error("cannot list the processes of this node: {0}; nothing was altered")]
    Processes(io::Error),
    #[error("cannot ask for the links of this node: {0}; nothing was altered")]
    Links(#[from] netlink::Error),
}

/// A pod whose packets come and go through a device of this node.
pub struct Pod {
    pub name: String,
    pub namespace: Namespace,
    pub defaults: Vec<DefaultRoute>,
}

/// What names a pod in a journal, so that another process finds it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodId {
    pub pod: String,
    pub namespace: NamespaceId,
}

impl Pod {
    pub fn id(&self) -> PodId {
        PodId {
            pod: self.name.clone(),
            namespace: self.namespace.id,
        }
    }
}

/// Everything that runs on this node in a namespace of its own, by name.
pub struct Seen {
    pub attached: Vec<Pod>,
    /// Pods of this node without a link to it: name and why.
    pub apart: Vec<(String, String)>,
}

/// One foreign namespace, by the first process that was seen in it.
struct Found {
    namespace: Namespace,
    names: Names,
    tree: Option<String>,
}

#[derive(Default)]
struct Names {
    hostname: Option<String>,
    uid: Option<String>,
}

/// Looks at every process of /proc.
pub fn look() -> Result<Seen, Error> {
    let own = Namespace::own().map_err(Error::Own)?;
    let mut links = Links::open()?;
    let here = links.all()?;
    let up: Vec<u32> = links
        .default_routes()?
        .iter()
        .map(|hop| hop.device)
        .collect();
    let (found, mut trees) = by_namespace(&own)?;
    let mut seen = Seen {
        attached: Vec::new(),
        apart: Vec::new(),
    };
    let mut others = Vec::new();
    for found in found.into_values() {
        let name = found.name();
        match attachment(&found.namespace, &own, &here, &up) {
            Ok(Some(defaults)) => {
                trees.extend(found.tree);
                seen.attached.push(Pod {
                    name,
                    namespace: found.namespace,
                    defaults,
                });
            }
            Ok(None) => {
                let why = "its network namespace has no link to a device of this node";
                others.extend(found.tree.map(|tree| (tree, name, why.to_owned())));
            }
            Err(why) => {
                let why = format!("its network namespace cannot be asked for its links: {why}");
                others.extend(found.tree.map(|tree| (tree, name, why)));
            }
        }
    }
    others.retain(|(tree, _, _)| trees.contains(tree));
    let apart = others.into_iter().map(|(_, name, why)| (name, why));
    seen.apart.extend(apart);
    seen.attached.sort_by(|a, b| a.name.cmp(&b.name));
    seen.apart.sort();
    Ok(seen)
}

/// The namespace with this id, if a process or thread of this node still is in it.
pub fn find(id: NamespaceId) -> io::Result<Option<Namespace>> {
    // A process that cannot be opened has ended.
    let open = |pid| Namespace::open(Path::new(&format!("/proc/{pid}/ns/net"))).ok();
    let mut namespaces = processes()?.into_iter().filter_map(open);
    Ok(namespaces.find(|namespace| namespace.id == id))
}

fn processes() -> io::Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

/// The namespaces of others; and the trees of control groups that hold a pod in the host's own
/// namespace, and so are this node's even if no pod of them has a link to it.
fn by_namespace(
    own: &Namespace,
) -> Result<(BTreeMap<NamespaceId, Found>, BTreeSet<String>), Error> {
    let mut all: BTreeMap<NamespaceId, Found> = BTreeMap::new();
    let mut trees = BTreeSet::new();
    for pid in processes().map_err(Error::Processes)? {
        // A process that ended meanwhile, or a kernel thread.
        let Ok(namespace) = Namespace::open(Path::new(&format!("/proc/{pid}/ns/net"))) else {
            continue;
        };
        if namespace.id == own.id {
            trees.extend(kubepods(pid).map(|(tree, _)| tree));
            continue;
        }
        let found = all.entry(namespace.id).or_insert_with(|| Found {
            namespace,
            names: Names::default(),
            tree: None,
        });
        if found.tree.is_none()
            && let Some((tree, uid)) = kubepods(pid)
        {
            found.tree = Some(tree);
            found.names.uid = uid;
        }
        if found.names.hostname.is_none() {
            found.names.hostname = hostname(pid);
        }
    }
    Ok((all, trees))
}

/// Where in the control groups a process of a pod is: what stands above `kubepods`, and the pod's uid.
fn kubepods(pid: u32) -> Option<(String, Option<String>)> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let (above, below) = groups.lines().find_map(|line| line.split_once(KUBEPODS))?;
    Some((above.splitn(3, ':').nth(2)?.to_owned(), pod_uid(below)))
}

/// The pod's name, if the process has a root directory of its own.
fn hostname(pid: u32) -> Option<String> {
    let root = |who: &str| {
        use std::os::unix::fs::MetadataExt;
        let root = std::fs::metadata(format!("/proc/{who}/root/.")).ok()?;
        Some((root.dev(), root.ino()))
    };
    if root(&pid.to_string())? == root("self")? {
        return None;
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/root/etc/hostname")).ok()?;
    let name = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let fits = !name.is_empty() && name.len() <= 253 && name.chars().all(plain);
    fits.then(|| name.to_owned())
}

/// Of `.../podUID/...` or `...-podUID.slice/...` (systemd writes `_` for `-`).
fn pod_uid(path: &str) -> Option<String> {
    let (_, rest) = path.rsplit_once("pod")?;
    let uid = rest.split(['/', '.']).next()?.replace('_', "-");
    (uid.len() >= 32).then_some(uid)
}

impl Found {
    fn name(&self) -> String {
        let id = self.namespace.id;
        match &self.names {
            Names {
                hostname: Some(name),
                ..
            } => format!("{name} ({id})"),
            Names { uid: Some(uid), .. } => format!("with uid {uid} ({id})"),
            _ => format!("without a name ({id})"),
        }
    }
}

/// The default routes of a namespace that has a link to a device of ours, other than the one behind
/// which our own default gateway is: what is there is above this node, not on it.
fn attachment(
    namespace: &Namespace,
    own: &Namespace,
    here: &[Link],
    up: &[u32],
) -> Result<Option<Vec<DefaultRoute>>, netlink::Error> {
    let ask = || {
        let mut links = Links::open()?;
        let all = links.all()?;
        // Only after the dump, which gives numbers to the namespaces it names.
        let Some(number) = links.number_of(own)? else {
            return Ok(None);
        };
        let below = |link: &Link| {
            link.peer_namespace == Some(number)
                && here.iter().any(|ours| Some(ours.index) == link.peer)
                && !(link.kind == "veth" && link.peer.is_some_and(|peer| up.contains(&peer)))
        };
        if !all.iter().any(below) {
            return Ok(None);
        }
        links.default_routes().map(Some)
    };
    namespace.run(ask).map_err(netlink::Error::Open)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_of_both_cgroup_drivers() {
        let uid = "0d1ffbb5-0a9a-4c7e-8f6e-3d9f7a0f1c11";
        let plain = format!("/burstable/pod{uid}/cri-containerd");
        assert_eq!(pod_uid(&plain).as_deref(), Some(uid));
        let systemd = format!(
            "-burstable.slice/kubepods-burstable-pod{}.slice/cri-1.scope",
            uid.replace('-', "_")
        );
        assert_eq!(pod_uid(&systemd).as_deref(), Some(uid));
        assert_eq!(pod_uid("/burstable"), None);
    }

    #[test]
    fn this_process_is_found_by_its_namespace() {
        let own = Namespace::own().unwrap();
        let found = find(own.id).unwrap();
        assert_eq!(found.map(|found| found.id), Some(own.id));
        let nowhere = NamespaceId {
            device: 0,
            inode: 1,
        };
        assert!(find(nowhere).unwrap().is_none());
    }
}
