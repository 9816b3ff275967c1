//! The authoritative DNS of a region: each answer is one cell's address, by traffic share.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use hickory_proto::rr::{Name, RecordType};

use crate::ShopError;
use crate::names::{self, Found, Zones};
use crate::resolve;

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

    fn pick(&mut self) -> Option<IpAddr> {
        let total: i64 = self.0.iter().map(|candidate| candidate.weight).sum();
        for candidate in &mut self.0 {
            candidate.current += candidate.weight;
        }
        // The first of equals, so that the order of the shares decides.
        let best = self
            .0
            .iter_mut()
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
}

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
        let picked = rotation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pick();
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
    let region = Region {
        name,
        v4: Mutex::new(Rotation::new(&options.share, IpAddr::is_ipv4)),
        v6: Mutex::new(Rotation::new(&options.share, IpAddr::is_ipv6)),
    };
    names::serve(&options.listen, region, options.ttl).await
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
        let last: Vec<String> = (0..70)
            .map(|_| rotation.pick().unwrap().to_string().split_off(7))
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
            .map(|_| rotation.pick().unwrap().to_string())
            .collect();
        assert_eq!(picks, ["fd00::1"; 3]);
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
