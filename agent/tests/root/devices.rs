//! Which devices a cut of egress holds, and that a later one is named at the end.

use std::time::Duration;

use scenarios::change::Direction;
use wire::{Event, PROTOCOL, State, WatchRequest};

use crate::support::*;

/// The devices of the intent in the journal.
fn pinned(agent: &AgentProcess) -> Vec<String> {
    let journal = agent.journal("d");
    let intent = journal.lines().find(|line| line.contains("\"devices\":"));
    let (_, list) = intent.unwrap().split_once("\"devices\":[").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    let names = list
        .split(',')
        .map(|name| name.trim_matches('"').to_owned());
    names.collect()
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn devices_are_pinned_not_labels_of_their_addresses() {
    let (site, agent, client) = Site::with_agent();
    Echo::start(&site.peer, ECHO);
    site.node
        .ip("addr add 10.1.0.9/24 dev topeer label topeer:1");
    site.node.ip("tuntap add dev tun0 mode tun"); // has no link-layer address
    let cut = cut(&[PEER], Direction::Both);
    client.cut("d", &plan(30_000, vec![step(0, 0, 60_000, cut)]));
    assert_eq!(pinned(&agent), ["toop", "topeer", "tun0"]);
    assert_eq!(udp(&site.node, PEER), Reach::Silent);
    client.revert_clean("d");
}

/// Runs a drill of two steps (0-300 ms, 600-900 ms) and `during` so late in it; what the REVERTED
/// event says.
fn reverted(after_ms: u64, during: impl FnOnce(&Namespace, &Client)) -> Event {
    let (site, _agent, client) = Site::with_agent();
    let steps = [(0, 0), (1, 600)].map(|(id, at_ms)| {
        let cut = cut(&[PEER], Direction::Both);
        step(id, at_ms, 300, cut)
    });
    client.arm("d", &plan(5_000, steps.into())).unwrap();
    let mut events = client.call(|mut agent| async move {
        let request = WatchRequest { protocol: PROTOCOL };
        agent.watch(request).await.unwrap().into_inner()
    });
    client.fire_in("d", Duration::from_millis(200)).unwrap();
    std::thread::sleep(Duration::from_millis(200 + after_ms));
    during(&site.node, &client);
    client.call(|_| async move {
        loop {
            let event = events.message().await.unwrap().expect("no end was told");
            if event.state() == State::Reverted {
                return event;
            }
        }
    })
}

const GAP: &str = "device late appeared after arm: its egress was not cut";

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_device_that_appears_after_arm_is_a_gap_and_no_cause() {
    let event = reverted(700, |node, _| {
        node.ip("tuntap add dev late mode tun");
    });
    assert_eq!(event.cause, "deadline");
    assert_eq!(event.gaps, [GAP]);
    assert_eq!(event.residue, [""; 0]);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_device_that_came_and_went_is_seen_by_a_renewal() {
    let event = reverted(650, |node, client| {
        node.ip("tuntap add dev late mode tun");
        client.renew("d").unwrap();
        node.ip("link delete dev late");
    });
    assert_eq!(event.gaps, [GAP]);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_device_that_went_after_its_step_is_seen_at_the_end_of_the_step() {
    let event = reverted(100, |node, _| {
        node.ip("tuntap add dev late mode tun");
        std::thread::sleep(Duration::from_millis(300));
        node.ip("link delete dev late");
    });
    assert_eq!(event.gaps, [GAP]);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_device_between_the_steps_is_no_gap() {
    let event = reverted(370, |node, _| {
        node.ip("tuntap add dev late mode tun");
        node.ip("link delete dev late");
    });
    assert_eq!(event.gaps, [""; 0]);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn no_device_no_gap() {
    let event = reverted(650, |_, client| {
        client.renew("d").unwrap();
    });
    assert_eq!((event.cause.as_str(), event.gaps), ("deadline", vec![]));
}
