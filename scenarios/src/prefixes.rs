//! Arithmetic of address sets: merging, overlap and containment of prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::change::Peers;

/// Merged (no overlap, no adjacent pair) and sorted, IPv4 before IPv6.
pub(crate) fn merge(prefixes: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let mut merged = IpNet::aggregate(&prefixes.into_iter().collect());
    // In this order already today, but the crate does not promise it, and plans are hashed.
    merged.sort();
    merged
}

/// 127.0.0.0/8 and ::1, which are never cut.
pub(crate) fn loopback() -> [IpNet; 2] {
    [
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    ]
}

/// Two prefixes overlap exactly when one contains the other.
pub(crate) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Whether some of the prefixes contains the address.
pub(crate) fn hold(prefixes: &[IpNet], address: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(&address))
}

/// Whether every address of `inner` lies in `outer`, which must be merged.
pub(crate) fn within(inner: &IpNet, outer: &[IpNet]) -> bool {
    outer.iter().any(|prefix| prefix.contains(inner))
}

/// Whether every address of `prefix` is one of the peers.
pub(crate) fn covers(peers: &Peers, prefix: &IpNet) -> bool {
    match peers {
        Peers::Only(only) => within(prefix, only),
        Peers::AllBut(spared) => !spared.iter().any(|spared| overlap(spared, prefix)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn neighbours_and_repetitions_merge() {
        let merged = merge(nets(&[
            "2001:db8:0:1::/64",
            "198.51.100.128/25",
            "198.51.100.0/25",
            "198.51.100.7/32",
            "2001:db8::/64",
        ]));
        assert_eq!(merged, nets(&["198.51.100.0/24", "2001:db8::/63"]));
    }

    #[test]
    fn covering_means_every_address() {
        let only = Peers::Only(nets(&["198.51.100.0/24"]));
        assert!(covers(&only, &"198.51.100.0/25".parse().unwrap()));
        assert!(!covers(&only, &"198.51.0.0/16".parse().unwrap()));
        let but = Peers::AllBut(nets(&["198.51.100.0/24"]));
        assert!(!covers(&but, &"198.51.0.0/16".parse().unwrap()));
        assert!(covers(&but, &"2001:db8::/32".parse().unwrap()));
    }
}
