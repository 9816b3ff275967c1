//! Drills that nobody can end by silence, and cuts of the conductor itself, if the policy lets them.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use scenarios::change::{Change, Direction};
use scenarios::plan::Plan;
use wire::State;

use crate::support::*;

const MS: u64 = 1_000_000;

/// A plan of one step with no lease.
fn leaseless(duration_ms: u64, change: Change) -> Plan {
    Plan {
        lease_ms: None,
        ..plan(1_000, vec![step(0, 0, duration_ms, change)])
    }
}

fn peer() -> Change {
    cut(&[PEER, PEER_6], Direction::Both)
}

/// A site whose agent allows both, and a path that answers.
fn bold() -> (Site, AgentProcess, Client, UdpPath) {
    let site = Site::new();
    let policy = "allow: [firewall]\nlongest: 10m\nclients: [conductor]\n\
                  no_lease: true\ncut_management: true\n";
    std::fs::write(site.state.path().join("policy.yaml"), policy).unwrap();
    let agent = site.start_agent();
    let client = site.client();
    Echo::start(&site.peer, ECHO);
    let path = UdpPath::open(&site.node, PEER, ECHO);
    (site, agent, client, path)
}

/// Waits until traffic flows; the answer is when, in ns of CLOCK_BOOTTIME.
fn back(path: &UdpPath) -> u64 {
    let begun = Instant::now();
    while path.ask(Duration::from_millis(15)) != Reach::Answered {
        assert!(begun.elapsed() < Duration::from_secs(20), "no traffic");
    }
    boottime()
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_policy_that_does_not_say_so_allows_neither() {
    let (site, _agent, client) = Site::with_agent();
    let refused = words(client.arm("d", &leaseless(1_000, peer())));
    assert!(refused.contains("`no_lease: true`"), "{refused}");
    let cut = plan(1_000, vec![step(0, 0, 1_000, cut_of_the_conductor())]);
    let refused = words(client.arm("d", &cut));
    assert!(refused.contains("`cut_management: true`"), "{refused}");
    assert_eq!(site.node.our_tables(), 0);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn without_a_lease_it_lasts_to_its_deadline_and_no_longer() {
    let (site, agent, client, path) = bold();
    let planned = client.plan(&leaseless(3_000, peer())).unwrap();
    assert_eq!(
        planned.changes[0].ends_by,
        ["timer", "guardian", "gate", "owner", "journal"]
    );
    client.arm("d", &leaseless(3_000, peer())).unwrap();
    let fired = boottime() + 200 * MS;
    client.fire_in("d", Duration::from_millis(200)).unwrap();
    let status = client.status().unwrap();
    assert_eq!((status.lease_left_ms, status.state()), (0, State::Firing));
    // Longer than the lease of any drill of these tests that is not renewed; nobody renews it.
    std::thread::sleep(Duration::from_millis(2_200));
    assert_eq!(path.ask(Duration::from_millis(150)), Reach::Silent);
    let back = back(&path);
    assert!(
        back >= fired + 2_900 * MS,
        "{} ms early",
        (fired + 3_000 * MS - back) / MS
    );
    assert!(
        agent
            .closed("d", Duration::from_secs(5))
            .contains("\"cause\":\"deadline\"")
    );
    assert_eq!(site.node.our_tables(), 0);
    let reply = client.revert("d").unwrap();
    assert_eq!(reply.cause, "deadline");
    assert!(reply.ended_boottime_ns >= fired + 3_000 * MS);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn without_a_lease_the_gate_of_a_hung_agent_closes_with_its_step() {
    let (site, mut agent, client, path) = bold();
    client.cut("d", &leaseless(2_000, peer()));
    agent.signal(Signal::SIGSTOP);
    assert_eq!(path.ask(Duration::from_millis(150)), Reach::Silent);
    back(&path);
    assert!(!agent.wait(Duration::from_secs(20)).success());
    assert!(
        agent
            .closed("d", Duration::from_secs(5))
            .contains("hung past the deadline")
    );
    assert_eq!(site.node.our_tables(), 0);
}

fn reaches_the_agent(site: &Site) -> bool {
    let agent = format!("{NODE}:{PORT}").parse().unwrap();
    let patience = Duration::from_millis(500);
    let connect = move || TcpStream::connect_timeout(&agent, patience).is_ok();
    site.operator.run(connect)
}

/// When the drill ended by the agent's own word, asked as soon as it can be asked again.
fn ended(client: &Client) -> (u64, String) {
    let begun = Instant::now();
    loop {
        if let Ok(status) = client.status()
            && status.state() == State::Reverted
        {
            let reply = client.revert("d").unwrap();
            assert_eq!(reply.ended_boottime_ns / MS, status.since_boottime_ns / MS);
            return (reply.ended_boottime_ns, reply.cause);
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "never reached");
    }
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_cut_of_the_conductor_ends_at_the_deadline_or_at_the_lease() {
    let (site, _agent, client, path) = bold();
    let everything = || step(0, 0, 3_000, cut_of_the_conductor());
    for (plan, ms, cause) in [
        (leaseless(3_000, cut_of_the_conductor()), 3_000, "deadline"),
        (plan(1_500, vec![everything()]), 500, "lease"),
    ] {
        assert_eq!(path.ask(Duration::from_millis(300)), Reach::Answered);
        assert!(reaches_the_agent(&site));
        client.arm("d", &plan).unwrap();
        let fired = boottime() + 200 * MS;
        client.fire_in("d", Duration::from_millis(200)).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(path.ask(Duration::from_millis(150)), Reach::Silent);
        assert!(
            !reaches_the_agent(&site),
            "{cause}: nobody reaches the agent"
        );
        let (at, why) = ended(&client);
        assert_eq!(why, cause);
        assert!(at >= fired + ms * MS, "{cause}: too early");
        assert!(at < fired + ms * MS + 10_000 * MS, "{cause}: far too late");
        assert_eq!(path.ask(Duration::from_millis(300)), Reach::Answered);
        assert_eq!(site.node.our_tables(), 0);
        std::fs::remove_file(site.state.path().join("journal/d.journal")).unwrap();
    }
}
