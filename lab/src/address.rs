//! Who has which address: documentation prefixes (RFC 5737, RFC 3849) outside, private ones inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Last part of the address of a cloud's router, in each of its networks.
pub const ROUTER: u8 = 1;
/// Last part of the address of a cloud's managed database.
pub const MANAGED_DB: u8 = 40;
pub const AGENT_PORT: u16 = 7443;
/// 203.0.113.0/24.
const INTERNET_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 0);
/// 2001:db8:ffff::/64.
const INTERNET_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0);
/// The clouds that a lab can have, in this order.
pub const CLOUDS: [&str; 8] = [
    "aliyun",
    "tencent",
    "aws",
    "gcp",
    "azure",
    "cloudflare",
    "oracle",
    "ibm",
];

/// The internet's two networks.
pub fn internet() -> [IpNet; 2] {
    [net_v4(INTERNET_V4, 24), net_v6(INTERNET_V6, 64)]
}

/// Default prefixes of the cloud with this index: a /26 of TEST-NET-2 or TEST-NET-1, a /48.
pub fn cloud(index: usize) -> [IpNet; 2] {
    let third_part = if index < 4 {
        [198, 51, 100]
    } else {
        [192, 0, 2]
    };
    let [a, b, c] = third_part;
    let v4 = Ipv4Addr::new(a, b, c, ((index % 4) * 64) as u8);
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, index as u16 + 1, 0, 0, 0, 0, 0);
    [net_v4(v4, 26), net_v6(v6, 48)]
}

/// Default inside of the cell with this index: 10.i.0.0/16 and fd00:0:i::/48, i from 1.
pub fn inside(index: usize) -> [IpNet; 2] {
    let v6 = Ipv6Addr::new(0xfd00, 0, index as u16 + 1, 0, 0, 0, 0, 0);
    [
        net_v4(Ipv4Addr::new(10, index as u8 + 1, 0, 0), 16),
        net_v6(v6, 48),
    ]
}

/// The address with this last part, which is written the same in IPv6: `.10` and `::10`.
pub fn host(net: IpNet, last: u8) -> IpAddr {
    match net {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net.network()) + u32::from(last))),
        IpNet::V6(net) => {
            let last = u128::from(last);
            let digits = last / 100 * 0x100 + last % 100 / 10 * 0x10 + last % 10;
            IpAddr::V6(Ipv6Addr::from(u128::from(net.network()) + digits))
        }
    }
}

/// Each address with the prefix length of its family's network.
pub fn in_nets(addresses: &[IpAddr], nets: &[IpNet]) -> Vec<IpNet> {
    let with_length = |address: &IpAddr| {
        let net = nets
            .iter()
            .find(|net| net.addr().is_ipv4() == address.is_ipv4())?;
        IpNet::new(*address, net.prefix_len()).ok()
    };
    addresses.iter().filter_map(with_length).collect()
}

/// 0.0.0.0/0 or ::/0, of the same family.
pub fn everything(like: IpAddr) -> IpNet {
    match like {
        IpAddr::V4(_) => net_v4(Ipv4Addr::UNSPECIFIED, 0),
        IpAddr::V6(_) => net_v6(Ipv6Addr::UNSPECIFIED, 0),
    }
}

/// The part of a cloud's prefix that the lab puts hosts on: all of an IPv4 prefix, the first /64
/// of an IPv6 prefix. None if it has no room for the last parts above.
pub fn lan(prefix: IpNet) -> Option<IpNet> {
    match prefix {
        IpNet::V4(v4) if v4.prefix_len() <= 26 => Some(prefix.trunc()),
        IpNet::V6(v6) if v6.prefix_len() <= 64 => Some(net_v6(v6.network(), 64)),
        _ => None,
    }
}

fn net_v4(address: Ipv4Addr, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, length))
}

fn net_v6(address: Ipv6Addr, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_the_same_in_both_families() {
        let [v4, v6] = cloud(1);
        assert_eq!(
            (v4.to_string(), v6.to_string()),
            ("198.51.100.64/26".into(), "2001:db8:2::/48".into())
        );
        assert_eq!(host(v4, 10).to_string(), "198.51.100.74");
        assert_eq!(host(v6, 10).to_string(), "2001:db8:2::10");
        assert_eq!(host(internet()[0], 101).to_string(), "203.0.113.101");
        assert_eq!(host(internet()[1], 101).to_string(), "2001:db8:ffff::101");
        assert_eq!(cloud(7)[0].to_string(), "192.0.2.192/26");
        assert_eq!(inside(0)[1].to_string(), "fd00:0:1::/48");
    }

    #[test]
    fn no_two_default_networks_overlap() {
        let mut all: Vec<IpNet> = internet().to_vec();
        for index in 0..CLOUDS.len() {
            all.extend(cloud(index));
            all.extend(inside(index));
        }
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert!(
                    !one.contains(other) && !other.contains(one),
                    "{one} and {other}"
                );
            }
        }
    }

    #[test]
    fn a_prefix_without_room_is_no_lan() {
        assert!(lan("198.51.100.0/27".parse().unwrap()).is_none());
        assert!(lan("2001:db8::/65".parse().unwrap()).is_none());
        assert_eq!(
            lan("2001:db8::/32".parse().unwrap()).unwrap().prefix_len(),
            64
        );
    }
}
