//! Users of a region: answers are counted by cell, and each failure is laid at the right door.

mod fleet;

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet::{add_cell, always_ok, entrypoint, fleet, probe, serve, serve_dns};
use scenarios::fleet::Fleet;

fn region(resolver: std::net::SocketAddr, port: u16) -> Fleet {
    let mut fleet = fleet();
    add_cell(&mut fleet, "a", "127.0.0.1");
    add_cell(&mut fleet, "b", "127.0.0.2");
    add_cell(&mut fleet, "elsewhere", "127.0.0.3");
    fleet.cells.get_mut("elsewhere").unwrap().region = "north".to_owned();
    fleet
        .entrypoints
        .insert("shop".to_owned(), entrypoint(resolver, port, &["a", "b"]));
    fleet
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

#[test]
fn streams_are_named_as_the_contract_says() {
    let fleet = region("127.0.0.1:53".parse().unwrap(), 80);
    let streams = probes::streams(&fleet, &["b".to_owned()]);
    let named: Vec<String> = streams
        .iter()
        .map(|stream| format!("{} {:?} {}", stream.name, stream.role, stream.rate))
        .collect();
    assert_eq!(
        named,
        [
            "shop/dns Other 20",
            "shop@a Other 10",
            "shop@b Target 10",
            "control/loopback Control 20"
        ]
    );
}

#[tokio::test]
async fn a_dead_cell_is_bad_for_its_own_users_only() {
    let server = serve("127.0.0.1:0", always_ok());
    let (resolver, _) = serve_dns(|n| Some(vec![address(1 + (n % 2) as u8)]));
    // Nobody listens on 127.0.0.2.
    let (seen, _) = probe(&region(resolver, server.address.port()), 3).await;
    let dns = seen.sum("shop/dns", |block| block.valid);
    let answers = seen.answers("shop/dns");
    assert!(dns >= 55, "{dns}");
    assert_eq!(
        seen.sum("shop/dns", |block| block.bad),
        0,
        "{:?}",
        seen.samples
    );
    assert_eq!(answers["a"] + answers["b"], dns);
    assert_eq!(seen.sum("shop@a", |block| block.scheduled), answers["a"]);
    assert_eq!(seen.sum("shop@b", |block| block.scheduled), answers["b"]);
    assert_eq!(seen.sum("shop@a", |block| block.bad), 0);
    assert_eq!(seen.sum("shop@b", |block| block.resets), answers["b"]);
    assert!(!seen.blocks.contains_key("shop@elsewhere"));
}

#[tokio::test]
async fn foreign_and_empty_answers_are_bad_for_dns() {
    let server = serve("127.0.0.1:0", always_ok());
    // A cell of another region is as foreign as any other address.
    let (resolver, _) = serve_dns(|n| match n % 4 {
        0 => Some(vec![address(9)]),
        1 => Some(Vec::new()),
        2 => Some(vec![address(3)]),
        _ => Some(vec![address(1)]),
    });
    let (seen, _) = probe(&region(resolver, server.address.port()), 2).await;
    let valid = seen.sum("shop/dns", |block| block.valid);
    let answers = seen.answers("shop/dns");
    assert!(valid >= 36, "{valid}");
    assert_eq!(
        seen.sum("shop/dns", |block| block.errors),
        valid - answers["a"]
    );
    assert!(
        (valid / 2 - 2..=valid / 2 + 2).contains(&answers["other"]),
        "{answers:?}"
    );
    assert_eq!(seen.sum("shop@a", |block| block.scheduled), answers["a"]);
}

#[tokio::test]
async fn a_silent_resolver_is_bad_for_dns_and_for_no_cell() {
    let server = serve("127.0.0.1:0", always_ok());
    let (resolver, asked) = serve_dns(|_| None);
    let (seen, _) = probe(&region(resolver, server.address.port()), 2).await;
    let valid = seen.sum("shop/dns", |block| block.valid);
    assert!(valid >= 36 && seen.sum("shop/dns", |block| block.timeouts) == valid);
    assert_eq!(seen.sum("shop@a", |block| block.scheduled), 0);
    // Asked twice each, as stub resolvers do.
    assert!(asked.load(Ordering::SeqCst) >= u64::from(2 * valid) - 25);
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_lost_datagram_is_asked_for_again_and_counts_once() {
    let server = serve("127.0.0.1:0", always_ok());
    let lost = std::sync::atomic::AtomicU64::new(0);
    // The first five datagrams are lost.
    let (resolver, _) = serve_dns(move |_| {
        let answered = lost.fetch_add(1, Ordering::SeqCst) >= 5;
        answered.then(|| vec![address(1)])
    });
    let (seen, _) = probe(&region(resolver, server.address.port()), 3).await;
    assert_eq!(
        seen.sum("shop/dns", |block| block.bad),
        0,
        "{:?}",
        seen.samples
    );
    let slow = seen.blocks["shop/dns"]
        .iter()
        .flat_map(|block| &block.latency_us)
        .filter(|(micros, _)| *micros > Duration::from_millis(380).as_micros() as u64)
        .map(|(_, times)| times)
        .sum::<u32>();
    assert!(slow >= 4, "{slow} answers after a retry");
    let valid = seen.sum("shop/dns", |block| block.valid);
    assert_eq!(seen.answers("shop/dns")["a"], valid);
}
