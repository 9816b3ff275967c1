//! A network namespace for every host, each made on a thread of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::NETNS;
use crate::error::{Error, Result};
use crate::layout::{Host, Layout};

/// Descriptors of the namespaces by the names of their hosts.
pub struct Namespaces(BTreeMap<String, OwnedFd>);

impl Namespaces {
    pub fn get(&self, name: &str) -> Result<&OwnedFd> {
        let missing = || Error::Layout(format!("no host is named `{name}`"));
        self.0.get(name).ok_or_else(missing)
    }

    /// Does something on a thread that stands in this namespace; none is the holder's own. What
    /// it opens stays in that namespace, and the other threads never leave theirs.
    pub fn within<T: Send>(
        &self,
        name: Option<&str>,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let Some(name) = name else { return work() };
        let namespace = self.get(name)?;
        let entered = || {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
                .map_err(Error::kernel(format!("enter the namespace of {name}")))?;
            work()
        };
        on_a_thread(entered)
    }
}

/// Makes them all and binds each to a file, so that it can be reached from outside as
/// `/proc/HOLDER/root/run/netns/NAME`.
pub fn make(layout: &Layout) -> Result<Namespaces> {
    let mut all = BTreeMap::new();
    for host in layout.hosts() {
        all.insert(host.namespace.clone(), on_a_thread(|| make_one(host))?);
    }
    Ok(Namespaces(all))
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let joined = std::thread::scope(|scope| scope.spawn(work).join());
    joined.unwrap_or_else(|_| Err(Error::Start("a thread of the holder panicked".to_string())))
}

fn make_one(host: &Host) -> Result<OwnedFd> {
    let failed = |what: &str| format!("{what} the namespace of {}", host.namespace);
    unshare(CloneFlags::CLONE_NEWNET).map_err(Error::kernel(failed("make")))?;
    let own = "/proc/thread-self/ns/net";
    let opened = File::open(own).map_err(Error::file("open", own))?;
    let bound = Path::new(NETNS).join(&host.namespace);
    File::create(&bound).map_err(Error::file("make", &bound))?;
    let none: Option<&str> = None;
    mount(Some(own), &bound, none, MsFlags::MS_BIND, none)
        .map_err(Error::kernel(failed("bind")))?;
    settings(host)?;
    Ok(opened.into())
}

/// What `/proc/sys/net` says is the calling thread's namespace.
fn settings(host: &Host) -> Result<()> {
    // An address is used at once: nobody else in this lab can have it.
    set("ipv6/conf/default/accept_dad", "0")?;
    set("ipv6/conf/default/dad_transmits", "0")?;
    // Neighbours and routes are what the layout says, not what routers advertise.
    set("ipv6/conf/default/accept_ra", "0")?;
    if host.forwards {
        set("ipv4/ip_forward", "1")?;
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

fn set(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net").join(name);
    std::fs::write(&path, value).map_err(Error::file("set", path))
}
