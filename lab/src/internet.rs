//! What stands outside every cell: users, operator, references, the region's DNS, the routers.

use std::net::{IpAddr, SocketAddr};

use crate::address;
use crate::kind::Place;
use crate::layout::{Ask, CellLayout, Check, CloudLayout, Host, Role, Route, Segment, Service};

const USERS: &str = "users";
pub const OPERATOR: &str = "operator";
const DNS: &str = "dns";
/// Hosts on the internet bridge with the last part of their addresses.
const HOSTS: [(&str, u8); 5] = [
    (OPERATOR, 10),
    ("reference-1", 20),
    ("reference-2", 21),
    (USERS, 30),
    (DNS, 53),
];
/// Routers follow from here, in the order of their clouds.
const FIRST_ROUTER: u8 = 101;
/// What users of the region call.
pub const ENTRYPOINT: &str = "shop.example";
/// Seconds that an answer of the entrypoint's DNS may be kept.
const TTL: u8 = 5;

/// The namespace of a cloud's router.
pub fn router(cloud: &str) -> String {
    format!("router.{cloud}")
}

/// IPv4 and IPv6 address of a host on the internet bridge.
fn addresses(last: u8) -> [IpAddr; 2] {
    address::internet().map(|net| address::host(net, last))
}

pub fn operator() -> [IpAddr; 2] {
    addresses(10)
}

pub fn references() -> [SocketAddr; 2] {
    [
        SocketAddr::new(addresses(20)[0], 80),
        SocketAddr::new(addresses(21)[0], 80),
    ]
}

/// The entrypoint's DNS server, IPv4.
pub fn resolver() -> IpAddr {
    addresses(53)[0]
}

/// The cells that the entrypoint's users are split over, with their percentage. A lab has one
/// entrypoint: for the region of its first cell.
pub fn shares(cells: &[CellLayout]) -> Vec<(&CellLayout, usize)> {
    let of_region = |cell: &&CellLayout| cell.region == cells[0].region;
    let own: Vec<&CellLayout> = cells.iter().filter(of_region).collect();
    let count = own.len();
    let percent = |index| 100 / count + usize::from(index < 100 % count);
    own.into_iter()
        .enumerate()
        .map(|(index, cell)| (cell, percent(index)))
        .collect()
}

/// The internet bridge in the holder's own namespace with everything on it.
pub fn segment(clouds: &[CloudLayout]) -> Segment {
    let nets = address::internet();
    let mut hosts: Vec<Host> = HOSTS
        .iter()
        .map(|(name, last)| Host {
            namespace: name.to_string(),
            port: format!("to-{name}"),
            addresses: address::in_nets(&addresses(*last), &nets),
            routes: routes_to_clouds(clouds, None),
            forwards: false,
        })
        .collect();
    for (index, cloud) in clouds.iter().enumerate() {
        hosts.push(Host {
            namespace: router(&cloud.name),
            port: format!("to-router-{}", index + 1),
            addresses: address::in_nets(&addresses(FIRST_ROUTER + index as u8), &nets),
            routes: routes_to_clouds(clouds, Some(index)),
            forwards: true,
        });
    }
    Segment {
        namespace: None,
        bridge: "internet".to_string(),
        addresses: Vec::new(),
        hosts,
    }
}

/// Every prefix of every cloud is behind that cloud's router. Insides are routed nowhere.
fn routes_to_clouds(clouds: &[CloudLayout], but: Option<usize>) -> Vec<Route> {
    let mut routes = Vec::new();
    for (index, cloud) in clouds
        .iter()
        .enumerate()
        .filter(|(index, _)| Some(*index) != but)
    {
        let uplink = addresses(FIRST_ROUTER + index as u8);
        for prefix in &cloud.prefixes {
            let via = uplink[usize::from(!prefix.addr().is_ipv4())];
            routes.push(Route {
                to: *prefix,
                via,
                from: None,
            });
        }
    }
    routes
}

/// References, DNS, and the managed database of each cloud.
pub fn services(clouds: &[CloudLayout], cells: &[CellLayout], place: &Place) -> Vec<Service> {
    let mut all = Vec::new();
    for (name, last) in HOSTS
        .iter()
        .filter(|(name, _)| name.starts_with("reference"))
    {
        let listen = listen(&addresses(*last), 80);
        all.push(shop(name, "reference", listen, place));
    }
    let mut dns = listen(&addresses(53), 53);
    dns.extend([
        "--name".into(),
        ENTRYPOINT.into(),
        "--ttl".into(),
        TTL.to_string(),
    ]);
    for (cell, percent) in shares(cells) {
        let own: Vec<String> = cell.addresses.iter().map(IpAddr::to_string).collect();
        dns.extend([
            "--share".to_string(),
            format!("{}={percent}", own.join(",")),
        ]);
    }
    all.push(shop(DNS, "entrypoint", dns, place));
    for cloud in clouds {
        let namespace = cloud.managed_db_namespace();
        let data = place.directory.node(&namespace).join("orders");
        let mut arguments = listen(&cloud.managed_db, crate::flaw::MANAGED_DB_PORT);
        arguments.extend(["--data".to_string(), data.display().to_string()]);
        all.push(shop(&namespace, "store", arguments, place));
    }
    all
}

/// Many users of all cells, where the region's users stand.
pub fn crowd(cells: &[CellLayout], arguments: &[&str], place: &Place) -> Service {
    let mut all: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    for address in cells.iter().filter_map(|cell| cell.addresses.first()) {
        all.extend([
            "--cell".to_string(),
            SocketAddr::new(*address, 80).to_string(),
        ]);
    }
    shop(USERS, "crowd", all, place)
}

/// Makes the entrypoint's DNS leave out cells that accept no connection.
pub fn with_failover(services: &mut [Service]) {
    for dns in services.iter_mut().filter(|s| s.namespace == DNS) {
        dns.arguments.extend(["--check-port".into(), "80".into()]);
    }
}

/// A part of the sample shop on a host.
pub fn shop(namespace: &str, part: &str, arguments: Vec<String>, place: &Place) -> Service {
    Service {
        role: Role::Part,
        namespace: namespace.to_string(),
        program: place.programs.join("shop"),
        arguments: std::iter::once(part.to_string()).chain(arguments).collect(),
        after: None,
        log: place.directory.node(namespace).join("shop.log"),
    }
}

/// `--listen ADDRESS:PORT` for each address.
pub fn listen(addresses: &[IpAddr], port: u16) -> Vec<String> {
    let pair = |address: &IpAddr| {
        [
            "--listen".to_string(),
            SocketAddr::new(*address, port).to_string(),
        ]
    };
    addresses.iter().flat_map(pair).collect()
}

/// What the users of a cell must see of the shop.
pub fn user_checks(cell: &CellLayout, port: u16) -> Vec<Check> {
    let mut all = Vec::new();
    for address in &cell.addresses {
        for (path, status) in [("/", 200), ("/checkout", 200), ("/orders/not-there", 404)] {
            let path = path.to_string();
            all.push(Check {
                from: USERS.to_string(),
                to: SocketAddr::new(*address, port),
                ask: Ask::Http { path, status },
            });
        }
    }
    all
}

/// What users and the operator must see outside the cells.
pub fn checks(clouds: &[CloudLayout], cells: &[CellLayout]) -> Vec<Check> {
    let check = |from: &str, to: SocketAddr, ask: Ask| Check {
        from: from.to_string(),
        to,
        ask,
    };
    let mut all = Vec::new();
    for last in [20, 21] {
        for address in addresses(last) {
            all.push(check(USERS, SocketAddr::new(address, 80), Ask::Connect));
        }
    }
    if !cells.is_empty() {
        let ask = Ask::Dns {
            name: ENTRYPOINT.to_string(),
        };
        all.push(check(USERS, SocketAddr::new(resolver(), 53), ask));
    }
    for cloud in clouds {
        for address in &cloud.managed_db {
            let to = SocketAddr::new(*address, crate::flaw::MANAGED_DB_PORT);
            all.push(check(USERS, to, Ask::Connect));
        }
    }
    all
}
