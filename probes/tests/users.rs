//! Kinds of client: each follows DNS in its own way, and each is counted by how it ended for it.

mod fleet;

use std::net::IpAddr;
use std::time::Duration;

use fleet::{Seen, add_cell, always_ok, entrypoint, fleet, probe, serve, serve_dns_kept};
use scenarios::effects::{ClientKind, ClientMix, UserCount};
use scenarios::fleet::Fleet;

const QUARTERS: ClientMix = ClientMix {
    honours_ttl: 0.25,
    ignores_ttl: 0.25,
    pinned: 0.25,
    retries: 0.25,
};

fn region(resolver: std::net::SocketAddr, port: u16, clients: ClientMix) -> Fleet {
    let mut fleet = fleet();
    add_cell(&mut fleet, "a", "127.0.0.1");
    add_cell(&mut fleet, "b", "127.0.0.2");
    let mut shop = entrypoint(resolver, port, &["a", "b"]);
    shop.clients = clients;
    fleet.entrypoints.insert("shop".to_owned(), shop);
    fleet
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

/// Requests and bad ones of a kind in some seconds.
fn met(seen: &Seen, kind: ClientKind, seconds: std::ops::Range<usize>) -> UserCount {
    let mut sum = UserCount::default();
    for block in &seen.blocks["shop/dns"][seconds] {
        let users = block.users.as_ref().expect("users are counted");
        let count = users.kinds.get(&kind).copied().unwrap_or_default();
        sum.requests += count.requests;
        sum.bad += count.bad;
    }
    sum
}

#[tokio::test]
async fn each_kind_follows_dns_in_its_own_way() {
    let server = serve("127.0.0.1:0", always_ok());
    // Nobody listens on 127.0.0.2. For two seconds half of the answers point there, then none; an
    // answer may be kept for 1 s. A client that retries draws more answers than one.
    // Which half is drawn: a kind whose turn comes every so often must not meet only one of them.
    let drawn = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63;
    let (resolver, _) = serve_dns_kept(1, move |n| {
        Some(vec![address(if n < 100 && drawn(n) == 1 { 2 } else { 1 })])
    });
    let mut fleet = region(resolver, server.address.port(), QUARTERS);
    fleet.entrypoints.get_mut("shop").unwrap().rate = 40.0;
    let (seen, _) = probe(&fleet, 7).await;
    assert_eq!(
        seen.sum("shop/dns", |block| block.bad),
        0,
        "{:?}",
        seen.samples
    );
    let of = |kind, seconds| met(&seen, kind, seconds);
    for kind in ClientKind::ALL {
        let all = of(kind, 0..7);
        assert!((60..=70).contains(&all.requests), "{kind:?} {all:?}");
    }
    assert!(of(ClientKind::HonoursTtl, 0..2).bad > 0);
    assert_eq!(of(ClientKind::HonoursTtl, 5..7).bad, 0, "DNS was followed");
    assert!(
        of(ClientKind::IgnoresTtl, 5..7).bad > 0,
        "its first address for ever"
    );
    let pinned = of(ClientKind::Pinned, 0..7);
    assert!(
        (25..=45).contains(&pinned.bad),
        "about five of ten: {pinned:?}"
    );
    assert_eq!(
        of(ClientKind::Retries, 0..7).bad,
        0,
        "another address answers"
    );
    // The first try of a client that retries is a probe of the dead cell all the same.
    assert!(seen.sum("shop@b", |block| block.resets) > pinned.bad);
    assert_eq!(seen.sum("shop@a", |block| block.bad), 0);
    let ttl = seen.blocks["shop/dns"][3].users.as_ref().unwrap().ttl_s;
    assert_eq!(ttl, 1);
}

#[tokio::test]
async fn silence_is_retried_within_the_users_patience() {
    let server = serve("127.0.0.1:0", always_ok());
    let port = server.address.port();
    let silent = serve(
        &format!("127.0.0.2:{port}"),
        std::sync::Arc::new(|_| (Duration::from_secs(5), 200, String::new())),
    );
    let (resolver, _) = serve_dns_kept(0, |n| Some(vec![address(1 + (n % 2) as u8)]));
    let only = ClientMix::only(ClientKind::Retries);
    let (seen, _) = probe(&region(resolver, port, only), 3).await;
    assert!(silent.requests() > 10);
    let users = met(&seen, ClientKind::Retries, 0..3);
    assert!(users.requests >= 50 && users.bad <= 2, "{users:?}");
    assert!(
        seen.sum("shop@b", |block| block.timeouts) > 10,
        "the cell is dead all the same"
    );
}

#[tokio::test]
async fn a_kept_address_needs_no_dns_and_an_unkept_one_does() {
    let server = serve("127.0.0.1:0", always_ok());
    let half = ClientMix {
        honours_ttl: 0.5,
        pinned: 0.5,
        ignores_ttl: 0.0,
        retries: 0.0,
    };
    let (resolver, _) = serve_dns_kept(5, |_| None);
    let mut fleet = region(resolver, server.address.port(), half);
    fleet.cells.get_mut("b").unwrap().addresses = vec![address(1)];
    let (seen, _) = probe(&fleet, 3).await;
    let pinned = met(&seen, ClientKind::Pinned, 0..3);
    let honours = met(&seen, ClientKind::HonoursTtl, 0..3);
    assert!(pinned.requests >= 27 && pinned.bad == 0, "{pinned:?}");
    assert!(
        honours.requests >= 27 && honours.bad == honours.requests,
        "{honours:?}"
    );
    assert!(
        seen.sum("shop/dns", |block| block.timeouts) >= 54,
        "DNS is judged by all"
    );
}
