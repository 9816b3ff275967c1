//! In which network namespace a change was made: an undo in another one would alter what is not ours.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::{Error, Hands};
use crate::kernel::namespaces::{Namespace, NamespaceId};
use crate::kernel::netlink::{self, Socket};
use crate::kernel::procfs;

const NEXT: &str = "run `cellwall-agent revert --all` in that namespace (nsenter --net)";

/// The namespace at hand; none if the kernel is too old to tell.
pub fn here(hands: &mut Hands) -> Result<Option<u64>, netlink::Error> {
    Ok(hands.route()?.namespace())
}

/// For an undo: none if the change was made here. If its namespace is gone, so is the change, and these
/// words say it; if somebody still holds it, the undo is owed there.
pub fn elsewhere(
    captured: Option<u64>,
    hands: &mut Hands,
    what: &str,
) -> Result<Option<Vec<String>>, Error> {
    let back = |cause: super::Cause| Error::Back {
        what: what.to_owned(),
        cause,
        now: "it may be as the drill has left it".to_owned(),
        next: NEXT,
    };
    let now = here(hands).map_err(|cause| back(cause.into()))?;
    let (Some(captured), Some(now)) = (captured, now) else {
        return Ok(None);
    };
    if captured == now {
        return Ok(None);
    }
    match holder(captured).map_err(|cause| back(cause.into()))? {
        None => Ok(Some(vec![format!(
            "cannot {what}: the network namespace of that is gone, and all that was in it"
        )])),
        Some(place) => Err(back(
            format!("that is in another network namespace, {}", place.display()).into(),
        )),
    }
}

/// Whoever holds the namespace: a mount (`ip netns`), a process, one of its threads, or an open file. A
/// socket that is all that is left of one holds it too, and is not seen.
fn holder(wanted: u64) -> io::Result<Option<PathBuf>> {
    let mut places = mounts(&std::fs::read_to_string("/proc/thread-self/mountinfo")?);
    for (process, thread) in procfs::all_threads()? {
        places.push(format!("/proc/{process}/task/{thread}/ns/net").into());
    }
    places.extend(procfs::open_namespaces()?);
    let mut known = BTreeMap::<NamespaceId, Option<u64>>::new();
    for place in places {
        let namespace = match Namespace::open(&place) {
            Ok(namespace) => namespace,
            // A thread that has ended, or that this agent may not look at.
            Err(cause) if cannot_hold(&cause) => continue,
            Err(cause) => return Err(cause),
        };
        let cookie = match known.get(&namespace.id) {
            Some(cookie) => *cookie,
            None => {
                let cookie = match namespace.run(Socket::open_route) {
                    Ok(socket) => socket.ok().and_then(|socket| socket.namespace()),
                    // One of processes or mounts.
                    Err(cause) if cause.kind() == io::ErrorKind::InvalidInput => None,
                    Err(cause) => return Err(cause),
                };
                known.insert(namespace.id, cookie);
                cookie
            }
        };
        if cookie == Some(wanted) {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Mounted network namespaces, as proc_pid_mountinfo(5) tells.
fn mounts(mountinfo: &str) -> Vec<PathBuf> {
    let lines = mountinfo
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let named = lines.filter(|words| words.get(3).is_some_and(|root| root.starts_with("net:[")));
    named
        .filter_map(|words| words.get(4).map(PathBuf::from))
        .collect()
}

/// Every other error, such as no descriptors left, tells nothing of who holds a namespace.
fn cannot_hold(cause: &io::Error) -> bool {
    // Its number may be that of a socket by now, which cannot be opened: ENXIO.
    let a_socket = Some(nix::errno::Errno::ENXIO as i32);
    procfs::is_hidden(cause) || cause.raw_os_error() == a_socket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_namespaces_are_known() {
        let table = "36 25 0:32 / /proc rw,relatime - proc proc rw\n\
                     99 25 0:4 net:[4026532301] /run/netns/blue rw shared:7 - nsfs nsfs rw\n\
                     98 25 0:4 mnt:[4026532302] /run/x rw - nsfs nsfs rw\n99 25\n";
        assert_eq!(mounts(table), [PathBuf::from("/run/netns/blue")]);
    }
}
