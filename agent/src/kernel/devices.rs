//! The network devices of this network namespace.

use std::collections::BTreeSet;
use std::io;

use nix::net::if_::InterfaceFlags;

/// Names of all devices but loopback, up or down.
pub fn without_loopback() -> io::Result<BTreeSet<String>> {
    let addresses = nix::ifaddrs::getifaddrs()?;
    // Every device has an entry of family AF_PACKET, whether it has an address or not.
    Ok(addresses
        .filter(|entry| !entry.flags.contains(InterfaceFlags::IFF_LOOPBACK))
        .map(|entry| entry.interface_name)
        .collect())
}
