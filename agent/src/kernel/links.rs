//! Questions to rtnetlink about one network namespace: its links, its default routes, its neighbours.
//!
//! Numbers are from linux/rtnetlink.h, if_link.h and net_namespace.h (uapi, never change).

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use super::namespaces::Namespace;
use super::netlink::{Batch, Error, NLM_F_ACK, NLM_F_DUMP, Socket, attributes};
use crate::journal::Permit;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_GETROUTE: u16 = 26;
const RTM_GETNSID: u16 = 90;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const AF_INET6: u8 = 10;
const NEXTHOP: usize = 8; // struct rtnexthop

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `veth`, `bridge`, ...; empty for hardware.
    pub kind: String,
    /// By whoever set it up, whether or not there is a carrier.
    pub up: bool,
    /// Index of the device that it is paired with or stands on.
    pub peer: Option<u32>,
    /// How many packets a queue of it holds (`txqueuelen`).
    pub queue_length: Option<u32>,
    /// The asking namespace's number of the namespace in which `peer` is; none if it is the same.
    pub peer_namespace: Option<i32>,
}

/// One next hop of a default route in the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    pub v6: bool,
    /// None if the route has only a device.
    pub gateway: Option<IpAddr>,
    pub device: u32,
}

/// Of linux/if.h.
const IFF_UP: u32 = 1;

/// rtnetlink of the namespace in which it was opened.
pub struct Links(Socket);

impl Links {
    pub fn open() -> Result<Self, Error> {
        Ok(Self(Socket::open_route()?))
    }

    pub fn all(&mut self) -> Result<Vec<Link>, Error> {
        let links = RefCell::new(Vec::new());
        self.0.dump(
            || ask(RTM_GETLINK, NLM_F_DUMP, &[0; 16], |_| {}),
            |_, payload| links.borrow_mut().extend(link(payload)),
            || links.borrow_mut().clear(),
        )?;
        Ok(links.into_inner())
    }

    /// Sets `txqueuelen` of the device with this number.
    pub fn set_queue_length(&mut self, device: u32, length: u32, _: &Permit) -> Result<(), Error> {
        let mut header = [0; 16]; // struct ifinfomsg: the index stands behind family, padding and type
        header[4..8].copy_from_slice(&device.to_ne_bytes());
        self.0.request("link", (RTM_NEWLINK, 0), &header, |out| {
            out.bytes(IFLA_TXQLEN, &length.to_ne_bytes());
        })
    }

    pub fn default_routes(&mut self) -> Result<Vec<DefaultRoute>, Error> {
        let routes = RefCell::new(Vec::new());
        self.0.dump(
            || ask(RTM_GETROUTE, NLM_F_DUMP, &[0; 12], |_| {}),
            |family, payload| {
                let found = default_route(family == AF_INET6, payload);
                routes.borrow_mut().extend(found);
            },
            || routes.borrow_mut().clear(),
        )?;
        Ok(routes.into_inner())
    }

    /// This namespace's number for another one; none if it has none, and so no link into it.
    pub fn number_of(&mut self, other: &Namespace) -> Result<Option<i32>, Error> {
        let number = RefCell::new(None);
        let fd = other.file().as_raw_fd();
        self.0.dump(
            || {
                ask(RTM_GETNSID, NLM_F_ACK, &[0; 4], |out| {
                    out.bytes(NETNSA_FD, &fd.to_ne_bytes());
                })
            },
            |_, payload| {
                for (kind, value) in attributes(payload) {
                    if kind == NETNSA_NSID {
                        *number.borrow_mut() = word(value).map(|raw| raw as i32);
                    }
                }
            },
            || number.replace(None).map_or((), drop),
        )?;
        Ok(number.into_inner().filter(|number| *number >= 0))
    }
}

fn ask(
    kind: u16,
    flags: u16,
    header: &[u8],
    inside: impl FnOnce(&mut super::netlink::Encoder),
) -> Batch {
    let mut batch = Batch::default();
    batch.message_of("question", (kind, flags), header, inside);
    batch
}

fn word(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .trim_end_matches('\0')
        .to_owned()
}

/// struct ifinfomsg without its first four bytes: index, flags, change; then attributes.
fn link(payload: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: word(payload)?,
        // struct ifinfomsg: the flags stand behind the index.
        up: word(payload.get(4..)?)? & IFF_UP != 0,
        ..Link::default()
    };
    for (kind, value) in attributes(payload.get(12..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_LINK => link.peer = word(value),
            IFLA_TXQLEN => link.queue_length = word(value),
            IFLA_LINK_NETNSID => link.peer_namespace = word(value).map(|raw| raw as i32),
            IFLA_LINKINFO => {
                let mut kinds = attributes(value).filter(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = kinds.next().map(|(_, kind)| text(kind)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

/// struct rtmsg without its first four bytes: table, protocol, scope, type, flags; then attributes.
fn default_route(v6: bool, payload: &[u8]) -> Vec<DefaultRoute> {
    let (Some(&[table, _, _, kind]), Some(rest)) = (payload.first_chunk(), payload.get(8..)) else {
        return Vec::new();
    };
    let unicast = table == RT_TABLE_MAIN && kind == RTN_UNICAST;
    if !unicast || attributes(rest).any(|(kind, _)| kind == RTA_DST) {
        return Vec::new();
    }
    let mut hops = Vec::new();
    let mut one = DefaultRoute {
        v6,
        gateway: None,
        device: 0,
    };
    for (kind, value) in attributes(rest) {
        match kind {
            RTA_GATEWAY => one.gateway = address(value),
            RTA_OIF => one.device = word(value).unwrap_or(0),
            RTA_MULTIPATH => hops = nexthops(v6, value),
            _ => {}
        }
    }
    if hops.is_empty() {
        hops.push(one);
    }
    hops
}

fn nexthops(v6: bool, mut bytes: &[u8]) -> Vec<DefaultRoute> {
    let mut hops = Vec::new();
    while let Some(length) = bytes
        .first_chunk()
        .map(|raw| u16::from_ne_bytes(*raw) as usize)
    {
        let (Some(device), Some(inside)) =
            (bytes.get(4..).and_then(word), bytes.get(NEXTHOP..length))
        else {
            break;
        };
        let gateway = attributes(inside).find(|(kind, _)| *kind == RTA_GATEWAY);
        hops.push(DefaultRoute {
            v6,
            gateway: gateway.and_then(|(_, value)| address(value)),
            device,
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    hops
}

fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(value)
        .ok()
        .map(|octets| Ipv6Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_with_a_destination_or_of_another_table_is_no_default() {
        let rest = [0_u8; 4];
        let gateway = [8, 0, 5, 0, 10, 0, 0, 1];
        let route = |table: u8, kind: u8, more: &[u8]| {
            let head = [table, 4, 0, kind];
            default_route(false, &[&head[..], &rest, &gateway, more].concat())
        };
        let found = route(254, 1, &[8, 0, 4, 0, 7, 0, 0, 0]);
        assert_eq!(
            found,
            [DefaultRoute {
                v6: false,
                gateway: Some("10.0.0.1".parse().unwrap()),
                device: 7
            }]
        );
        assert!(route(254, 1, &[8, 0, 1, 0, 10, 0, 0, 0]).is_empty());
        assert!(route(255, 1, &[]).is_empty());
        assert!(route(254, 6, &[]).is_empty(), "a blackhole");
    }

    #[test]
    fn short_answers_are_no_links_and_no_routes() {
        for length in 0..12 {
            assert!(default_route(true, &vec![254; length]).len() < 2);
            assert_eq!(link(&vec![1; length]), None);
        }
        assert!(nexthops(false, &[2, 0, 0, 0, 1, 0, 0, 0, 9]).is_empty());
    }
}
