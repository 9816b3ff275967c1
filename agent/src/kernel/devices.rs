//! The network devices of this network namespace.

use std::collections::BTreeSet;
use std::io;

use nix::ifaddrs::InterfaceAddress;
use nix::net::if_::InterfaceFlags;

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
