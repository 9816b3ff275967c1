//! Routes as raw messages, so that one that was taken away comes back exactly.
//!
//! Numbers are from linux/rtnetlink.h (uapi).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::netlink::{
    Batch, Encoder, Error, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, Socket, attributes,
};
use crate::hex;
use crate::journal::Permit;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const RTN_UNICAST: u8 = 1;
const RTM_F_CLONED: u32 = 0x200;
/// Of a next hop's flags, the only one that somebody asked for; the others say how it is now.
const RTNH_F_ONLINK: u32 = 4;

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_CACHEINFO: u16 = 12;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_EXPIRES: u16 = 23;
const RTA_PAD: u16 = 24;
const RTA_NH_ID: u16 = 30;

/// Length of struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
const HEADER: usize = 12;
/// Our own routing protocol: nobody else's daemon takes such a route for its own.
pub const OURS: u8 = 199;

/// One route: struct rtmsg and its attributes, without what only says how it is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    header: [u8; HEADER],
    /// Sorted by kind.
    attributes: Vec<(u16, Vec<u8>)>,
    /// It ends by itself (a router's advertisement).
    expires: bool,
}

/// Where a route leads instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Unicast = RTN_UNICAST,
    Blackhole = 6,
    Unreachable = 7,
    Prohibit = 8,
}

impl Route {
    fn parse(payload: &[u8]) -> Option<Self> {
        let mut header: [u8; HEADER] = payload.get(..HEADER)?.try_into().ok()?;
        let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
        if flags & RTM_F_CLONED != 0 {
            return None; // a cached copy of one of the others
        }
        header[8..12].copy_from_slice(&(flags & RTNH_F_ONLINK).to_ne_bytes());
        let all: Vec<(u16, Vec<u8>)> = attributes(&payload[HEADER..])
            .map(|(kind, value)| (kind, value.to_vec()))
            .collect();
        let by_id = all.iter().any(|(kind, _)| *kind == RTA_NH_ID);
        let expires = all.iter().any(|(kind, value)| match *kind {
            RTA_EXPIRES => true,
            // struct rta_cacheinfo: the third word is the time that is left.
            RTA_CACHEINFO => value.get(8..12).is_some_and(|left| left != [0; 4]),
            _ => false,
        });
        let mut kept: Vec<(u16, Vec<u8>)> =
            all.into_iter()
                .filter(|(kind, _)| match *kind {
                    RTA_CACHEINFO | RTA_PAD | RTA_EXPIRES => false,
                    // Of a next hop object, the kernel tells what it is; it takes only its number.
                    RTA_OIF | RTA_GATEWAY | RTA_MULTIPATH | RTA_VIA | RTA_ENCAP
                    | RTA_ENCAP_TYPE => !by_id,
                    _ => true,
                })
                .collect();
        for (kind, value) in &mut kept {
            if *kind == RTA_MULTIPATH {
                settle_next_hops(value);
            }
        }
        kept.sort();
        Some(Self {
            header,
            attributes: kept,
            expires,
        })
    }

    /// One of ours in the place of `other`: same destination, source prefix, table and metric.
    pub fn instead_of(other: &Route, kind: Kind, gateway: Option<IpAddr>) -> Self {
        let mut header = other.header;
        header[5] = OURS;
        header[6] = 0; // RT_SCOPE_UNIVERSE
        header[7] = kind as u8;
        header[8..12].fill(0);
        let key = [RTA_DST, RTA_SRC, RTA_PRIORITY, RTA_TABLE];
        let mut attributes: Vec<(u16, Vec<u8>)> = other
            .attributes
            .iter()
            .filter(|(kind, _)| key.contains(kind))
            .cloned()
            .collect();
        if let Some(gateway) = gateway {
            let bytes = match gateway {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            attributes.push((RTA_GATEWAY, bytes));
        }
        attributes.sort();
        Self {
            header,
            attributes,
            expires: false,
        }
    }

    fn attribute(&self, wanted: u16) -> Option<&[u8]> {
        let found = self.attributes.iter().find(|(kind, _)| *kind == wanted);
        found.map(|(_, value)| value.as_slice())
    }

    fn word(&self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.attribute(kind)?.try_into().ok()?))
    }

    pub fn table(&self) -> u32 {
        self.word(RTA_TABLE).unwrap_or(u32::from(self.header[4]))
    }

    pub fn metric(&self) -> u32 {
        self.word(RTA_PRIORITY).unwrap_or(0)
    }

    /// Numbers of the devices that it leads to; none are known of a next hop object.
    pub fn devices(&self) -> Vec<u32> {
        let mut devices: Vec<u32> = self.word(RTA_OIF).into_iter().collect();
        let mut hops = self.attribute(RTA_MULTIPATH).unwrap_or_default();
        // Each is a struct rtnexthop: length, flags, hops, ifindex.
        while let Some((&[low, high, _, _, a, b, c, d], _)) = hops.split_first_chunk::<8>() {
            devices.push(u32::from_ne_bytes([a, b, c, d]));
            let length = usize::from(u16::from_ne_bytes([low, high]));
            hops = hops
                .get(length.next_multiple_of(4).max(8)..)
                .unwrap_or_default();
        }
        devices
    }

    /// It names an address of this host or a next hop object, without which the kernel takes no such route.
    pub fn needs_more_than_devices(&self) -> bool {
        let named = [RTA_PREFSRC, RTA_NH_ID];
        named.iter().any(|kind| self.attribute(*kind).is_some())
    }

    pub fn is_ours(&self) -> bool {
        self.header[5] == OURS
    }

    /// Whether the kernel's `self` is what was asked for as `ours`; it adds a device and the like.
    pub fn is_the_asked(&self, ours: &Route) -> bool {
        let gateway = ours.attribute(RTA_GATEWAY);
        self.is_ours()
            && self.same_slot(ours)
            && self.header[7] == ours.header[7]
            && (gateway.is_none() || self.attribute(RTA_GATEWAY) == gateway)
    }

    pub fn is_unicast(&self) -> bool {
        self.header[7] == RTN_UNICAST
    }

    pub fn expires(&self) -> bool {
        self.expires
    }

    /// Whether the kernel keeps only one of both: same destination, source prefix, table, type of
    /// service and metric.
    pub fn same_slot(&self, other: &Route) -> bool {
        self.header[..4] == other.header[..4]
            && self.destination() == other.destination()
            && self.attribute(RTA_SRC) == other.attribute(RTA_SRC)
            && (self.table(), self.metric()) == (other.table(), other.metric())
    }

    pub fn destination(&self) -> Option<IpNet> {
        let length = self.header[1];
        let bytes = self.attribute(RTA_DST);
        let address = match self.header[0] {
            AF_INET => IpAddr::from(<[u8; 4]>::try_from(bytes.unwrap_or(&[0; 4])).ok()?),
            AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(bytes.unwrap_or(&[0; 16])).ok()?),
            _ => return None,
        };
        IpNet::new(address, length).ok()
    }

    fn encode(&self, out: &mut Encoder) {
        for (kind, value) in &self.attributes {
            out.bytes(*kind, value);
        }
    }

    fn to_hex(&self) -> String {
        let mut bytes = self.header.to_vec();
        for (kind, value) in &self.attributes {
            let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(value);
        }
        hex::encode(&bytes)
    }

    fn from_hex(text: &str) -> Option<Self> {
        let bytes = hex::decode(text)?;
        let (header, mut rest) = bytes.split_at_checked(HEADER)?;
        let mut attributes = Vec::new();
        while !rest.is_empty() {
            let length = u16::from_be_bytes(rest.get(..2)?.try_into().ok()?) as usize;
            let kind = u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?);
            attributes.push((kind, rest.get(4..4 + length)?.to_vec()));
            rest = &rest[4 + length..];
        }
        Some(Self {
            header: header.try_into().ok()?,
            attributes,
            expires: false,
        })
    }
}

/// Clears what the flags of each struct rtnexthop say of the moment.
fn settle_next_hops(mut hops: &mut [u8]) {
    while hops.len() >= 8 {
        let length = u16::from_ne_bytes([hops[0], hops[1]]) as usize;
        hops[2] &= RTNH_F_ONLINK as u8;
        match hops.split_at_mut_checked(length.next_multiple_of(4).max(8)) {
            Some((_, rest)) => hops = rest,
            None => return,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destination = self.destination();
        let destination = destination.map_or_else(|| "?".to_owned(), |net| net.to_string());
        let (table, metric) = (self.table(), self.metric());
        write!(f, "route to {destination} metric {metric} in table {table}")
    }
}

/// In a journal: the bytes in hex, since the kernel's shape is the only exact one.
impl Serialize for Route {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not a route in hex"))
    }
}

/// Every route of every table and both families.
pub fn all(socket: &mut Socket) -> Result<Vec<Route>, Error> {
    let routes = std::cell::RefCell::new(Vec::new());
    for family in [AF_INET, AF_INET6] {
        let before = routes.borrow().len();
        socket.dump_whole(
            || {
                let mut header = [0; HEADER];
                header[0] = family;
                let mut batch = Batch::default();
                batch.message_of("routes", (RTM_GETROUTE, NLM_F_DUMP), &header, |_| {});
                batch
            },
            |payload| {
                routes.borrow_mut().extend(Route::parse(payload));
                Ok(())
            },
            || routes.borrow_mut().truncate(before),
        )?;
    }
    Ok(routes.into_inner())
}

/// Adds a route; EEXIST if its slot is taken.
pub fn add(socket: &mut Socket, route: &Route, _: &Permit) -> Result<(), Error> {
    put(socket, route, NLM_F_CREATE | NLM_F_EXCL)
}

/// Puts a route in the place of the one in its slot, without a moment between.
pub fn replace(socket: &mut Socket, route: &Route, _: &Permit) -> Result<(), Error> {
    put(socket, route, NLM_F_CREATE | NLM_F_REPLACE)
}

fn put(socket: &mut Socket, route: &Route, flags: u16) -> Result<(), Error> {
    socket.request("route", (RTM_NEWROUTE, flags), &route.header, |out| {
        route.encode(out);
    })
}

/// Deletes exactly this route; one that is not there is fine.
pub fn delete(socket: &mut Socket, route: &Route, _: &Permit) -> Result<(), Error> {
    let deleted = socket.request("route", (RTM_DELROUTE, 0), &route.header, |out| {
        route.encode(out);
    });
    match deleted {
        Err(error) if matches!(error.errno(), Some(Errno::ESRCH | Errno::ENOENT)) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(flags: u32, more: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut payload = vec![AF_INET, 24, 0, 0, 254, 3, 0, RTN_UNICAST];
        payload.extend_from_slice(&flags.to_ne_bytes());
        let mut out = Encoder::default();
        out.bytes(RTA_TABLE, &254_u32.to_ne_bytes());
        out.bytes(RTA_DST, &[10, 9, 8, 0]);
        for (kind, value) in more {
            out.bytes(*kind, value);
        }
        payload.extend_from_slice(out.as_bytes());
        payload
    }

    #[test]
    fn what_says_how_a_route_is_now_does_not_count() {
        let plain = Route::parse(&route(0, &[])).unwrap();
        // RTNH_F_DEAD and LINKDOWN.
        assert_eq!(Route::parse(&route(0x11, &[])).unwrap(), plain);
        assert_ne!(Route::parse(&route(RTNH_F_ONLINK, &[])).unwrap(), plain);
        assert_eq!(plain.destination(), Some("10.9.8.0/24".parse().unwrap()));
        assert_eq!((plain.table(), plain.metric()), (254, 0));
        let cached = route(RTM_F_CLONED, &[]);
        assert!(Route::parse(&cached).is_none());
    }

    #[test]
    fn the_devices_of_a_route_are_those_of_its_hops() {
        let of = |more: &[(u16, Vec<u8>)]| Route::parse(&route(0, more)).unwrap().devices();
        assert_eq!(of(&[(RTA_OIF, 7_u32.to_ne_bytes().to_vec())]), [7]);
        let hop = |length: u16, device: u32| {
            let mut hop = length.to_ne_bytes().to_vec();
            hop.extend_from_slice(&[0, 0]);
            hop.extend_from_slice(&device.to_ne_bytes());
            hop.resize(usize::from(length).next_multiple_of(4), 0);
            hop
        };
        let hops = [hop(16, 3), hop(8, 4)].concat();
        assert_eq!(of(&[(RTA_MULTIPATH, hops)]), [3, 4]);
        assert_eq!(of(&[(RTA_MULTIPATH, vec![0; 11])]), [0], "nonsense ends");
    }

    #[test]
    fn an_expiring_route_is_known() {
        let info = |left: u32| {
            let words = [0, 0, left, 0, 0, 0, 0, 0];
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            Route::parse(&route(0, &[(RTA_CACHEINFO, bytes)])).unwrap()
        };
        assert!(info(1799).expires());
        assert!(!info(0).expires());
        assert_eq!(info(0).attribute(RTA_CACHEINFO), None);
    }

    #[test]
    fn of_a_next_hop_object_only_its_number_is_kept() {
        let gateway = (RTA_GATEWAY, vec![10, 0, 0, 1]);
        let id = (RTA_NH_ID, 7_u32.to_ne_bytes().to_vec());
        let by_id = Route::parse(&route(0, &[gateway.clone(), id])).unwrap();
        assert_eq!(by_id.attribute(RTA_GATEWAY), None);
        let by_hop = Route::parse(&route(0, &[gateway])).unwrap();
        assert!(by_hop.attribute(RTA_GATEWAY).is_some());
    }

    #[test]
    fn a_journal_gives_the_same_route_back() {
        let metric = (RTA_PRIORITY, 77_u32.to_ne_bytes().to_vec());
        let hop = (RTA_GATEWAY, vec![10, 0, 0, 1]);
        let route = Route::parse(&route(0, &[metric, hop])).unwrap();
        let text = serde_json::to_string(&route).unwrap();
        assert_eq!(serde_json::from_str::<Route>(&text).unwrap(), route);
        let ours = Route::instead_of(&route, Kind::Prohibit, None);
        assert!(ours.is_ours() && ours.same_slot(&route) && !ours.is_unicast());
        for bad in ["\"0\"", "\"zz\"", "\"0a18\"", "7"] {
            assert!(serde_json::from_str::<Route>(bad).is_err(), "{bad}");
        }
    }
}
