//! The resolver inside one cell: a fixed list of names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hickory_proto::rr::{Name, RecordType};

use crate::ShopError;
use crate::names::{self, Found, Zones};
use crate::resolve;

#[derive(clap::Args)]
pub struct Options {
    /// Where it answers, UDP and TCP; repeat for several addresses
    #[arg(long, required = true, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// A name and its address; repeat for several. The parents of the names are its zones
    #[arg(long, required = true, value_name = "NAME=IP")]
    record: Vec<HostRecord>,
    /// Seconds
    #[arg(long, default_value_t = 5)]
    ttl: u32,
}

#[derive(Clone)]
struct HostRecord {
    name: Name,
    address: IpAddr,
}

impl FromStr for HostRecord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').ok_or("expected NAME=IP")?;
        let name = resolve::name(name).map_err(|error| error.to_string())?;
        let address = address
            .parse()
            .map_err(|_| format!("`{address}` is no IP address"))?;
        Ok(Self {
            name: name.to_lowercase(),
            address,
        })
    }
}

struct Hosts(BTreeMap<Name, Vec<IpAddr>>);

impl Zones for Hosts {
    fn origin(&self, name: &Name) -> Option<Name> {
        self.0
            .keys()
            .map(Name::base_name)
            .find(|origin| origin.zone_of(name))
    }

    fn find(&self, name: &Name, record_type: RecordType) -> Found {
        if let Some(addresses) = self.0.get(&name.to_lowercase()) {
            return Found::Addresses(of_family(addresses.iter().copied(), record_type).collect());
        }
        // A name with names below it exists (RFC 8020).
        if self.0.keys().any(|known| name.zone_of(known)) {
            return Found::Addresses(Vec::new());
        }
        Found::NoName
    }
}

/// The addresses that answer an A or AAAA question; none for other types.
fn of_family(
    addresses: impl Iterator<Item = IpAddr>,
    record_type: RecordType,
) -> impl Iterator<Item = IpAddr> {
    addresses.filter(move |address| match address {
        IpAddr::V4(_) => record_type == RecordType::A,
        IpAddr::V6(_) => record_type == RecordType::AAAA,
    })
}

pub async fn run(options: Options) -> Result<(), ShopError> {
    let mut hosts: BTreeMap<Name, Vec<IpAddr>> = BTreeMap::new();
    for record in options.record {
        hosts.entry(record.name).or_default().push(record.address);
    }
    names::serve(&options.listen, Hosts(hosts), options.ttl).await
}
