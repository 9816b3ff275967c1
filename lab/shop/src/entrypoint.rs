//! The authoritative DNS of a region: each answer is one cell's address, by traffic share.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};

use crate::ShopError;
use crate::names::{self, Found, Zones};
use crate::resolve;

/// How often an address is tried, and how long it may take to accept.
const CHECK_EVERY: Duration = Duration::from_millis(500);
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);
/// So many tries in a row take an address out of the answers, or back in.
const CHECKS: u32 = 2;

#[derive(clap::Args)]
pub struct Options {
    /// Where it answers, UDP and TCP; repeat for several addresses
    #[arg(long, required = true, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// The name that users call; it is a zone of its own
    #[arg(long, value_name = "NAME")]
    name: String,
    /// A cell's address (or one of each family) and its weight; repeat for several cells
    #[arg(long, required = true, value_name = "IPV4[,IPV6]=WEIGHT")]
    share: Vec<Share>,
    /// Seconds
    #[arg(long, default_value_t = 5)]
    ttl: u32,
    /// Leave an address out of the answers while nothing accepts connections there
    #[arg(long, value_name = "PORT")]
    check_port: Option<u16>,
}

#[derive(Clone)]
struct Share {
    addresses: Vec<IpAddr>,
    weight: u32,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (addresses, weight) = text.rsplit_once('=').ok_or("expected IPV4[,IPV6]=WEIGHT")?;
        let weight = weight
            .parse()
            .map_err(|_| format!("`{weight}` is no weight"))?;
        let addresses: Vec<IpAddr> = addresses
            .split(',')
            .map(|address| {
                address
                    .parse()
                    .map_err(|_| format!("`{address}` is no IP address"))
            })
            .collect::<Result<_, _>>()?;
        for family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
            if addresses.iter().filter(|address| family(address)).count() > 1 {
                return Err("one address of each family at the most".to_owned());
            }
        }
        Ok(Self { addresses, weight })
    }
}

struct Candidate {
    address: IpAddr,
    weight: i64,
    current: i64,
}

/// Smooth weighted round robin, as nginx does it: every run of as many picks as the weights add up
/// to holds each address exactly as often as its weight says, well mixed.
struct Rotation(Vec<Candidate>);

impl Rotation {
    fn new(shares: &[Share], family: fn(&IpAddr) -> bool) -> Self {
        let of_share = |share: &Share| {
            let address = share.addresses.iter().copied().find(family)?;
            Some(Candidate {
                address,
                weight: i64::from(share.weight),
                current: 0,
            })
        };
        Self(
            shares
                .iter()
                .filter(|share| share.weight > 0)
                .filter_map(of_share)
                .collect(),
        )
    }

    /// Without those that are out, unless all of them are: an answer that may fail beats none.
    fn pick(&mut self, out: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let all_out = self
            .0
            .iter()
            .all(|candidate| out.contains(&candidate.address));
        let is_in = |candidate: &&mut Candidate| all_out || !out.contains(&candidate.address);
        let total: i64 = self.0.iter_mut().filter(is_in).map(|c| c.weight).sum();
        for candidate in self.0.iter_mut().filter(is_in) {
            candidate.current += candidate.weight;
        }
        // The first of equals, so that the order of the shares decides.
        let best = self
            .0
            .iter_mut()
            .filter(is_in)
            .rev()
            .max_by_key(|candidate| candidate.current)?;
        best.current -= total;
        Some(best.address)
    }
}

struct Region {
    name: Name,
    v4: Mutex<Rotation>,
    v6: Mutex<Rotation>,
    out: Out,
}

/// Addresses where nothing accepts connections.
type Out = Arc<Mutex<BTreeSet<IpAddr>>>;

impl Zones for Region {
    fn origin(&self, name: &Name) -> Option<Name> {
        self.name.zone_of(name).then(|| self.name.clone())
    }

    fn find(&self, name: &Name, record_type: RecordType) -> Found {
        if *name != self.name {
            return Found::NoName;
        }
        let rotation = match record_type {
            RecordType::A => &self.v4,
            RecordType::AAAA => &self.v6,
            _ => return Found::Addresses(Vec::new()),
        };
        let out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let picked = rotation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pick(&out);
        Found::Addresses(picked.into_iter().collect())
    }
}

pub async fn run(options: Options) -> Result<(), ShopError> {
    let name = resolve::name(&options.name).map_err(|error| ShopError::Usage(error.to_string()))?;
    if options.share.iter().all(|share| share.weight == 0) {
        return Err(ShopError::Usage(
            "no share has a weight: nobody could be answered".to_owned(),
        ));
    }
    let out = Out::default();
    for share in &options.share {
        for address in &share.addresses {
            if let Some(port) = options.check_port {
                tokio::spawn(check(SocketAddr::new(*address, port), Arc::clone(&out)));
            }
        }
    }
    let region = Region {
        name,
        v4: Mutex::new(Rotation::new(&options.share, IpAddr::is_ipv4)),
        v6: Mutex::new(Rotation::new(&options.share, IpAddr::is_ipv6)),
        out,
    };
    names::serve(&options.listen, region, options.ttl).await
}

/// Takes an address out of the answers, and back in, for ever.
async fn check(address: SocketAddr, out: Out) {
    let mut against = 0;
    loop {
        let connecting = tokio::net::TcpStream::connect(address);
        let accepts = matches!(
            tokio::time::timeout(CHECK_TIMEOUT, connecting).await,
            Ok(Ok(_))
        );
        let is_out = {
            let out = out.lock().unwrap_or_else(PoisonError::into_inner);
            out.contains(&address.ip())
        };
        against = if accepts == is_out { against + 1 } else { 0 };
        if against >= CHECKS {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            match accepts {
                true => out.remove(&address.ip()),
                false => out.insert(address.ip()),
            };
            tracing::warn!("{address} is {}", if accepts { "in" } else { "out" });
        }
        tokio::time::sleep(CHECK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(texts: &[&str]) -> Vec<Share> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn shares_are_exact_in_every_window_and_mixed() {
        let shares = shares(&["10.0.0.1,fd00::1=5", "10.0.0.2=1", "10.0.0.3=1"]);
        let mut rotation = Rotation::new(&shares, IpAddr::is_ipv4);
        let out = BTreeSet::new();
        let last: Vec<String> = (0..70)
            .map(|_| rotation.pick(&out).unwrap().to_string().split_off(7))
            .collect();
        // The sequence that nginx documents for weights 5, 1, 1.
        assert_eq!(last[..7].concat(), "1121311");
        for window in last.windows(7) {
            assert_eq!(window.iter().filter(|octet| *octet == "1").count(), 5);
        }
    }

    #[test]
    fn a_share_without_an_address_of_the_family_is_not_in_its_rotation() {
        let shares = shares(&["10.0.0.1,fd00::1=5", "10.0.0.2=1"]);
        let mut rotation = Rotation::new(&shares, IpAddr::is_ipv6);
        let picks: Vec<_> = (0..3)
            .map(|_| rotation.pick(&BTreeSet::new()).unwrap().to_string())
            .collect();
        assert_eq!(picks, ["fd00::1"; 3]);
    }

    #[test]
    fn an_address_that_is_out_is_not_picked_unless_all_are() {
        let shares = shares(&["10.0.0.1=1", "10.0.0.2=1", "10.0.0.3=1"]);
        let mut rotation = Rotation::new(&shares, IpAddr::is_ipv4);
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut out = BTreeSet::from([address(2)]);
        let picks: Vec<_> = (0..20).filter_map(|_| rotation.pick(&out)).collect();
        assert!(!picks.contains(&address(2)) && picks.len() == 20);
        assert_eq!(picks.iter().filter(|pick| **pick == address(1)).count(), 10);
        out.extend([address(1), address(3)]);
        let picks: Vec<_> = (0..3).filter_map(|_| rotation.pick(&out)).collect();
        assert!(picks.contains(&address(2)) && picks.len() == 3);
    }

    #[test]
    fn bad_shares_are_refused() {
        for text in [
            "",
            "=",
            "10.0.0.1",
            "10.0.0.1=x",
            "10.0.0.1=-1",
            "host=1",
            "10.0.0.1,10.0.0.2=1",
        ] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
