//! What a cut does to packets, and what it leaves alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use scenarios::change::Direction;

use crate::support::*;

const LONG: u64 = 60_000;

/// Site with echo services everywhere, a fault in force.
fn under(peers: &[&str], direction: Direction) -> (Site, AgentProcess, Client) {
    let (site, agent, client) = Site::with_agent();
    for namespace in [&site.operator, &site.node, &site.peer] {
        Echo::start(namespace, ECHO);
    }
    for (from, to) in [
        (&site.node, PEER),
        (&site.operator, PEER_6),
        (&site.operator, NODE),
    ] {
        assert_eq!(tcp(from, to), Reach::Answered, "tcp to {to} before the cut");
        assert_eq!(udp(from, to), Reach::Answered, "udp to {to} before the cut");
    }
    client.cut(
        "d",
        &plan(30_000, vec![step(0, 0, LONG, cut(peers, direction))]),
    );
    (site, agent, client)
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn both_directions_are_silent_and_come_back() {
    let (site, _agent, client) = under(&[PEER, PEER_6], Direction::Both);
    for (from, to) in [
        (&site.node, PEER),
        (&site.node, PEER_6),
        (&site.peer, NODE_AT_PEER),
        (&site.peer, NODE_AT_PEER_6),
        (&site.operator, PEER), // forwarded
        (&site.operator, PEER_6),
        (&site.peer, OPERATOR),
        (&site.peer, OPERATOR_6),
    ] {
        assert_eq!(udp(from, to), Reach::Silent, "udp to {to}");
        assert_eq!(tcp(from, to), Reach::Silent, "tcp to {to}");
    }
    assert_eq!(
        tcp(&site.operator, NODE),
        Reach::Answered,
        "not part of the cut"
    );
    client.revert_clean("d");
    for (from, to) in [
        (&site.node, PEER),
        (&site.peer, NODE_AT_PEER_6),
        (&site.operator, PEER_6),
    ] {
        assert_eq!(udp(from, to), Reach::Answered, "udp to {to} afterwards");
        assert_eq!(tcp(from, to), Reach::Answered, "tcp to {to} afterwards");
    }
}

/// Whether a UDP word gets from one namespace to an address of another; one way only.
fn arrives(from: &Namespace, to: &Namespace, address: &str) -> bool {
    let port = 4444;
    let receiver = to.run(move || UdpSocket::bind(("::", port)).unwrap());
    receiver
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let target = SocketAddr::new(address.parse().unwrap(), port);
    from.run(move || {
        let any = if target.is_ipv6() {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        UdpSocket::bind(any)
            .unwrap()
            .send_to(b"word", target)
            .unwrap();
    });
    receiver.recv(&mut [0; 10]).is_ok()
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn each_direction_alone_loses_only_its_own() {
    for (direction, out, back) in [
        (Direction::Ingress, true, false),
        (Direction::Egress, false, true),
    ] {
        let (site, _agent, client) = under(&[PEER, PEER_6], direction);
        for (peer, node) in [(PEER, NODE_AT_PEER), (PEER_6, NODE_AT_PEER_6)] {
            assert_eq!(
                arrives(&site.node, &site.peer, peer),
                out,
                "{direction:?} to {peer}"
            );
            assert_eq!(
                arrives(&site.peer, &site.node, node),
                back,
                "{direction:?} to {node}"
            );
        }
        // Forwarded packets are cut the same way, seen from the node.
        assert_eq!(
            arrives(&site.operator, &site.peer, PEER),
            out,
            "{direction:?} forwarded"
        );
        assert_eq!(
            arrives(&site.peer, &site.operator, OPERATOR),
            back,
            "{direction:?} forwarded"
        );
        let tables = site.node.command("nft", "list tables");
        assert_eq!(
            tables.matches("cellwall_").count(),
            1,
            "one table is enough: {tables}"
        );
        client.revert_clean("d");
    }
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn an_established_stream_stalls_and_goes_on() {
    let (site, _agent, client) = Site::with_agent();
    Echo::start(&site.peer, ECHO);
    let to = SocketAddr::new(PEER.parse().unwrap(), ECHO);
    let mut streams: Vec<TcpStream> = [&site.node, &site.operator]
        .map(|from| from.run(move || TcpStream::connect(to).unwrap()))
        .into();
    let mut word = [0; 4];
    for stream in &mut streams {
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        stream.write_all(b"word").unwrap();
        stream.read_exact(&mut word).unwrap();
    }
    let cut = cut(&[PEER], Direction::Both);
    client.cut("d", &plan(30_000, vec![step(0, 0, LONG, cut)]));
    for stream in &mut streams {
        stream
            .write_all(b"gone")
            .expect("a silent cut tells the sender nothing");
        let error = stream.read_exact(&mut word).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
        assert!(stream.take_error().unwrap().is_none());
    }
    client.revert_clean("d");
    for stream in &mut streams {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream
            .read_exact(&mut word)
            .expect("retransmitted after the cut");
        assert_eq!(&word, b"gone");
    }
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn everyone_spares_own_prefixes_and_loopback() {
    let (site, _agent, client) = under(
        &["!10.1.0.0/16", "fd01::/64", "192.0.2.0/24"],
        Direction::Both,
    );
    for (from, to) in [
        (&site.node, PEER),
        (&site.node, PEER_6),
        (&site.peer, NODE_AT_PEER),
        (&site.node, "127.0.0.1"),
        (&site.node, "::1"),
        (&site.node, NODE), // own address: goes by loopback
    ] {
        assert_eq!(tcp(from, to), Reach::Answered, "tcp to {to}");
    }
    for (from, to) in [
        (&site.node, OPERATOR),
        (&site.node, OPERATOR_6),
        (&site.operator, NODE),
        (&site.operator, PEER),
        (&site.peer, OPERATOR_6),
    ] {
        assert_eq!(tcp(from, to), Reach::Silent, "tcp to {to}");
    }
    client.revert_clean("d");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn the_management_path_stays_open_and_nothing_wider() {
    let (site, _agent, client) = under(&["!192.0.2.0/24"], Direction::Both);
    client.status().expect("operator to the agent's port");
    client.renew("d").unwrap();
    // A new connection too, and over IPv6.
    let six = Client::at(&site.operator, site.pki.client("conductor"), "fd09::1");
    six.status().expect("a new connection over IPv6");
    for to in [NODE, "fd09::1"] {
        assert_eq!(
            tcp(&site.operator, to),
            Reach::Silent,
            "another port of the node"
        );
        assert_eq!(udp(&site.operator, to), Reach::Silent);
    }
    assert_eq!(
        tcp(&site.node, OPERATOR),
        Reach::Silent,
        "another port of the operator"
    );
    assert!(
        !ping6(&site.operator, "fd09::1"),
        "ICMPv6 echo is not neighbour discovery"
    );
    // The agent's port is open to the operator alone.
    assert_eq!(tcp_from(&site.peer, NODE_AT_PEER, PORT), Reach::Silent);
    // The port number on the other side opens nothing.
    Echo::start(&site.operator, PORT);
    assert_eq!(tcp_from(&site.node, OPERATOR, PORT), Reach::Silent);
    client.revert_clean("d");
    assert!(ping6(&site.operator, "fd09::1"), "afterwards");
    assert_eq!(
        tcp_from(&site.node, OPERATOR, PORT),
        Reach::Answered,
        "afterwards"
    );
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn neighbour_discovery_survives_a_cut_longer_than_its_reachable_time() {
    let (site, _agent, _client) = {
        let (site, agent, client) = Site::with_agent();
        for (namespace, device) in [(&site.operator, "uplink"), (&site.node, "toop")] {
            let neigh = format!("net/ipv6/neigh/{device}");
            namespace.sysctl(&format!("{neigh}/base_reachable_time_ms"), "300");
            namespace.sysctl(&format!("{neigh}/delay_first_probe_time"), "1");
            namespace.sysctl(&format!("{neigh}/retrans_time_ms"), "200");
        }
        (site, agent, client)
    };
    let six = Client::at(&site.operator, site.pki.client("conductor"), "fd09::1");
    six.wait_until_up();
    six.cut(
        "d",
        &plan(
            30_000,
            vec![step(0, 0, LONG, cut(&["!192.0.2.0/24"], Direction::Both))],
        ),
    );
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        six.renew("d").expect("the agent stays reachable over IPv6");
        std::thread::sleep(Duration::from_millis(200));
    }
    // TCP itself confirms a neighbour that it hears from; an entry that is gone must come back too.
    site.operator.ip("-6 neigh flush dev uplink");
    site.node.ip("-6 neigh flush dev toop");
    let again = Client::at(&site.operator, site.pki.client("conductor"), "fd09::1");
    again.status().expect("and for new connections");
    six.revert_clean("d");
}

#[test]
#[ignore = "needs root: network namespaces, nftables and the nft program"]
fn foreign_tables_stay_as_they_are() {
    let site = Site::new();
    for line in [
        "add table inet foreign",
        "add set inet foreign peers4 { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }",
        "add chain inet foreign prerouting { type filter hook prerouting priority -450; }",
        "add rule inet foreign prerouting ip saddr @peers4 accept",
        "add table ip cell",
        "add chain ip cell output { type filter hook output priority 0; }",
        "add rule ip cell output tcp dport 9 drop",
        "add table netdev foreign",
        "add chain netdev foreign out { type filter hook egress device toop priority 0; }",
        "add rule netdev foreign out tcp dport 11 drop",
    ] {
        site.node.command("nft", line);
    }
    let before = site.node.foreign_tables();
    assert!(before.contains("dport 11"), "{before}");
    let _agent = site.start_agent();
    let client = site.client();
    let plan = plan(
        30_000,
        vec![step(0, 0, LONG, cut(&[PEER], Direction::Both))],
    );
    client.arm("d", &plan).unwrap();
    assert_eq!(site.node.foreign_tables(), before, "armed");
    assert_eq!(site.node.our_tables(), 2);
    client.fire_in("d", Duration::from_millis(100)).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(site.node.foreign_tables(), before, "firing");
    client.revert_clean("d");
    assert_eq!(site.node.foreign_tables(), before, "reverted");
    assert_eq!(site.node.our_tables(), 0);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn an_armed_drill_touches_no_packet() {
    let (site, _agent, client) = Site::with_agent();
    Echo::start(&site.peer, ECHO);
    let plan = plan(
        30_000,
        vec![step(0, 0, LONG, cut(&["!192.0.2.0/24"], Direction::Both))],
    );
    client.arm("d", &plan).unwrap();
    for from in [&site.node, &site.operator] {
        assert_eq!(tcp(from, PEER), Reach::Answered);
        assert_eq!(udp(from, PEER_6), Reach::Answered);
    }
    let rules = site.node.command("nft", "list ruleset");
    assert!(
        rules.contains("cellwall_d_0_0") && !rules.contains("chain"),
        "{rules}"
    );
    client.revert_clean("d");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn renewal_leaves_no_instant_without_the_fault() {
    let (site, _agent, client) = Site::with_agent();
    let cut = cut(&[PEER, PEER_6], Direction::Both);
    client.cut("d", &plan(30_000, vec![step(0, 0, LONG, cut)]));
    let port = 4445;
    let receiver = site
        .node
        .run(move || UdpSocket::bind(("::", port)).unwrap());
    receiver.set_nonblocking(true).unwrap();
    let flood = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let sent = flood.clone();
    site.peer.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        std::thread::spawn(move || {
            while std::sync::Arc::strong_count(&sent) > 1 {
                let _ = socket.send_to(b"word", (NODE_AT_PEER, port));
                sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
    });
    for _ in 0..300 {
        client.renew("d").unwrap();
    }
    let sent = flood.load(std::sync::atomic::Ordering::Relaxed);
    assert!(sent > 3_000, "only {sent} packets over 300 renewals");
    assert!(
        receiver.recv(&mut [0; 10]).is_err(),
        "a packet slipped through a renewal"
    );
    client.revert_clean("d");
    std::thread::sleep(Duration::from_millis(100));
    assert!(
        receiver.recv(&mut [0; 10]).is_ok(),
        "the flood does arrive without the cut"
    );
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn steps_begin_and_end_at_their_times() {
    let (site, _agent, client) = Site::with_agent();
    Echo::start(&site.peer, ECHO);
    let four = step(0, 0, 1_000, cut(&[PEER], Direction::Both));
    let six = step(1, 1_500, 1_000, cut(&[PEER_6], Direction::Both));
    client.arm("d", &plan(30_000, vec![four, six])).unwrap();
    let begun = Instant::now() + Duration::from_millis(200);
    client.fire_in("d", Duration::from_millis(200)).unwrap();
    let at = |millis| {
        let until = begun + Duration::from_millis(millis);
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        let patience = Duration::from_millis(120);
        let ask = |to| UdpPath::open(&site.node, to, ECHO).ask(patience) == Reach::Answered;
        (ask(PEER), ask(PEER_6))
    };
    assert_eq!(at(100), (false, true), "the first step");
    assert_eq!(at(1_100), (true, true), "between the steps");
    assert_eq!(at(1_600), (true, false), "the second step");
    assert_eq!(at(2_600), (true, true), "after both");
    let status = client.status().unwrap();
    assert_eq!(
        (status.state(), status.residue),
        (wire::State::Reverted, vec![])
    );
}
