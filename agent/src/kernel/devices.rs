//! The network devices of this network namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use nix::ifaddrs::InterfaceAddress;
use nix::net::if_::InterfaceFlags;

use super::links::{Link, Links};
use super::netlink;

/// Names of all devices but loopback, up or down.
pub fn without_loopback() -> io::Result<BTreeSet<String>> {
    let addresses = nix::ifaddrs::getifaddrs()?;
    // A device's own entry has its link-layer address, or none if such a device has none (tun,
    // WireGuard). Entries of IP addresses may name a label (`eth0:1`), which is no device.
    let of_device = |entry: &InterfaceAddress| {
        let address = entry.address.as_ref();
        address.is_none_or(|address| address.as_link_addr().is_some())
    };
    Ok(addresses
        .filter(of_device)
        .filter(|entry| !entry.flags.contains(InterfaceFlags::IFF_LOOPBACK))
        .map(|entry| entry.interface_name)
        .collect())
}

/// Names and numbers of the devices that are the host's own: all but loopback, and but those that lead
/// to a namespace below this one (a veth pair's end, unless a default route takes it).
pub fn own() -> io::Result<BTreeMap<String, u32>> {
    let ask = || -> Result<_, netlink::Error> {
        let mut links = Links::open()?;
        Ok((links.all()?, links.default_routes()?))
    };
    let (links, up) = ask().map_err(io::Error::other)?;
    let leads_below = |link: &Link| {
        let leads_out = link.kind == "veth" && link.peer_namespace.is_some();
        leads_out && !up.iter().any(|hop| hop.device == link.index)
    };
    let devices = without_loopback()?;
    Ok(links
        .into_iter()
        .filter(|link| devices.contains(&link.name) && !leads_below(link))
        .map(|link| (link.name, link.index))
        .collect())
}
