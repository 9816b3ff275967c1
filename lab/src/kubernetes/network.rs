//! The networks of a Kubernetes cell inside its own prefixes: nodes, pods, services.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};
use crate::layout::CellLayout;

/// The third part of the address of every pod, and of every service: 10.1.64.x, fd00:0:1:64::x.
const PODS: u8 = 0x40;
const SERVICES: u8 = 0x60;
/// The same numbers, read as the digits of an IPv6 subnet, so that addresses look alike.
const PODS_6: u8 = 0x64;
const SERVICES_6: u8 = 0x96;
/// What the inside must have room for.
const LONGEST_4: u8 = 17;
const LONGEST_6: u8 = 56;

/// IPv4 first, then IPv6.
pub struct Networks {
    pub pods: [IpNet; 2],
    pub services: [IpNet; 2],
}

impl Networks {
    pub fn of(cell: &CellLayout) -> Result<Networks> {
        let none = || {
            Error::Layout(format!(
                "cell `{}` has no room for pods and services: a Kubernetes cell wants an inside of \
                 an IPv4 prefix of /{LONGEST_4} or larger and an IPv6 prefix of /{LONGEST_6} or \
                 larger",
                cell.name
            ))
        };
        let fits = |net: &&IpNet| match net {
            IpNet::V4(net) => net.prefix_len() <= LONGEST_4,
            IpNet::V6(net) => net.prefix_len() <= LONGEST_6,
        };
        let inside: Vec<IpNet> = cell.inside.iter().filter(fits).copied().collect();
        let [IpNet::V4(v4), IpNet::V6(v6)] = inside[..] else {
            return Err(none());
        };
        Ok(Networks {
            pods: [part_4(v4, PODS, 24), part_6(v6, PODS_6, 64)],
            services: [part_4(v4, SERVICES, 20), part_6(v6, SERVICES_6, 112)],
        })
    }

    /// The address of the service `kubernetes`: the first one, as the API server gives it.
    pub fn api(&self) -> IpAddr {
        crate::address::host(self.services[0], 1)
    }

    pub fn dns(&self) -> IpAddr {
        crate::address::host(self.services[0], 10)
    }

    pub fn pricing(&self) -> IpAddr {
        crate::address::host(self.services[0], 20)
    }

    pub fn store(&self) -> IpAddr {
        crate::address::host(self.services[0], 21)
    }

    /// Of what one cell serves to all, in a flawed fleet.
    pub fn shared(&self) -> IpAddr {
        crate::address::host(self.services[0], 22)
    }
}

fn part_4(inside: Ipv4Net, third: u8, length: u8) -> IpNet {
    let base = u32::from(inside.network()) + (u32::from(third) << 8);
    IpNet::V4(Ipv4Net::new_assert(base.into(), length))
}

fn part_6(inside: Ipv6Net, subnet: u8, length: u8) -> IpNet {
    let base = u128::from(inside.network()) + (u128::from(subnet) << 64);
    IpNet::V6(Ipv6Net::new_assert(base.into(), length))
}
