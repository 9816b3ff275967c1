//! Which paths have to be proven, and whom their canaries may ask.

use std::net::IpAddr;

use super::{Error, Question};
use crate::kernel::echo::Peer;
use crate::kernel::links::Links;
use crate::pods::{Pod, PodId};

/// The way of one address family between the host, or one pod, and the world.
pub struct Path<'a> {
    /// `the host` or `pod NAME (netns ...)`.
    pub name: String,
    pub v6: bool,
    /// None: the host.
    pub pod: Option<PodId>,
    pub of: Option<&'a Pod>,
    /// In the order of preference.
    pub peers: Vec<Peer>,
    /// Whether a route leads out, so that silence is no excuse.
    pub routed: bool,
}

impl Path<'_> {
    pub fn words(&self) -> String {
        let family = if self.v6 { "IPv6" } else { "IPv4" };
        format!("{} ({family})", self.name)
    }
}

/// Every path of this node.
pub fn all<'a>(asked: &Question<'a>) -> Result<Vec<Path<'a>>, Error> {
    let defaults = Links::open()
        .and_then(|mut links| links.default_routes())
        .map_err(Error::Routes)?;
    let mut paths = Vec::new();
    for v6 in [false, true] {
        let hops = defaults.iter().filter(|hop| hop.v6 == v6);
        let gateways = hops.filter_map(|hop| {
            let address = hop.gateway?;
            let device = hop.device;
            (address.is_ipv6() == v6).then_some(Peer { address, device })
        });
        let operators = asked.operator.iter().map(IpAddr::to_canonical);
        let operators = operators
            .filter(|address| address.is_ipv6() == v6)
            .map(|address| Peer { address, device: 0 });
        let mut peers: Vec<Peer> = Vec::new();
        for peer in gateways.chain(operators) {
            if !peers.iter().any(|known| known.address == peer.address) {
                peers.push(peer);
            }
        }
        let routed = defaults.iter().any(|hop| hop.v6 == v6);
        if routed || !peers.is_empty() {
            paths.push(Path {
                name: "the host".to_owned(),
                v6,
                pod: None,
                of: None,
                peers: peers.clone(),
                routed,
            });
        }
        // The host's link-local gateway is not the pod's.
        peers.retain(|peer| !link_local(peer.address));
        for pod in asked.pods {
            if pod.defaults.iter().any(|hop| hop.v6 == v6) {
                paths.push(Path {
                    name: format!("pod {}", pod.name),
                    v6,
                    pod: Some(pod.id()),
                    of: Some(pod),
                    peers: peers.clone(),
                    routed: true,
                });
            }
        }
    }
    Ok(paths)
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
