//! A whole cloud's worth of prefixes.

use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use scenarios::change::{Change, Direction, FirewallCut, Peers};

use crate::support::*;

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn sixty_thousand_prefixes_are_armed_fired_renewed_and_reverted() {
    let (site, agent, client) = Site::with_agent();
    Echo::start(&site.peer, ECHO);
    let prefixes = (0..60_000_u32)
        .map(|n| {
            Ipv4Net::new((0x0b00_0000 + n * 512).into(), 24)
                .unwrap()
                .into()
        })
        .chain([IpNet::from(PEER.parse::<std::net::IpAddr>().unwrap())])
        .collect();
    let cut = Change::Firewall(FirewallCut {
        peers: Peers::Only(prefixes),
        direction: Direction::Both,
        management: scenarios::change::Management::Keep,
    });
    let plan = plan(10_000, vec![step(0, 0, 60_000, cut)]);
    let time = |what: &str, job: &mut dyn FnMut()| {
        let begun = Instant::now();
        job();
        println!("60,000 prefixes, {what}: {:?}", begun.elapsed());
    };
    time("arm", &mut || drop(client.arm("d", &plan).unwrap()));
    assert_eq!(tcp(&site.node, PEER), Reach::Answered, "armed, not cut");
    time("fire call", &mut || {
        client.fire_in("d", Duration::from_millis(200)).unwrap();
    });
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(tcp(&site.node, PEER), Reach::Silent);
    assert_eq!(tcp(&site.peer, NODE_AT_PEER), Reach::Silent);
    time("renew", &mut || {
        client.renew("d").unwrap();
    });
    time("revert", &mut || client.revert_clean("d"));
    assert_eq!(tcp(&site.node, PEER), Reach::Answered);
    let journal = agent.journal("d");
    assert!(
        journal.len() < 10_000,
        "the journal holds names, not prefixes: {}",
        journal.len()
    );
}
