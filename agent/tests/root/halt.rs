//! The halt: by a file or by a call it ends what is held, refuses what comes, and outlives the agent.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use scenarios::change::Direction;
use wire::State;

use crate::support::*;

fn simple() -> scenarios::plan::Plan {
    let cut = cut(&[PEER, PEER_6], Direction::Both);
    plan(30_000, vec![step(0, 0, 60_000, cut)])
}

/// A site whose peer answers, with the cut in force.
fn firing() -> (Site, AgentProcess, Client, UdpPath) {
    let (site, agent, client) = Site::with_agent();
    Echo::start(&site.peer, ECHO);
    let path = UdpPath::open(&site.node, PEER, ECHO);
    client.cut("d", &simple());
    assert_eq!(
        path.ask(Duration::from_millis(150)),
        Reach::Silent,
        "the cut bites"
    );
    (site, agent, client, path)
}

fn wait_for_traffic(path: &UdpPath) {
    let begun = Instant::now();
    while path.ask(Duration::from_millis(15)) != Reach::Answered {
        // Far below the lease and the deadline, which would end it as well.
        assert!(begun.elapsed() < Duration::from_secs(10), "no traffic");
    }
}

/// Every way in is shut, and says why and how it opens again.
fn assert_halted(client: &Client, reason: &str) {
    let status = client.status().unwrap();
    assert!(status.halted, "{status:?}");
    assert!(status.halt_reason.contains(reason), "{status:?}");
    let planned = client.plan(&simple()).unwrap().refusals.join("; ");
    for refusal in [planned, words(client.arm("e", &simple()))] {
        for word in [reason, "/halt is there", "cellwall resume"] {
            assert!(refusal.contains(word), "{word} is not in {refusal}");
        }
    }
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_file_ends_what_is_held_and_refuses_what_comes() {
    let (site, agent, client, path) = firing();
    let file = site.state.path().join("halt");
    std::fs::write(&file, "change freeze").unwrap();
    wait_for_traffic(&path);
    assert!(
        agent
            .closed("d", Duration::from_secs(5))
            .contains("\"cause\":\"halt\""),
        "by the agent itself"
    );
    assert_eq!(site.node.our_tables(), 0);
    assert_eq!(client.status().unwrap().state(), State::Reverted);
    assert_halted(&client, "change freeze");
    assert!(!site.state.path().join("journal/e.journal").exists());
    std::fs::remove_file(&file).unwrap();
    assert!(!client.status().unwrap().halted);
    client.arm("e", &simple()).unwrap();
    client.revert_clean("e");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn an_armed_drill_is_not_fired_any_more() {
    let (site, agent, client) = Site::with_agent();
    client.arm("d", &simple()).unwrap();
    std::fs::write(site.state.path().join("halt"), "").unwrap();
    // At once, before the agent's own look at the file.
    let refused = words(client.fire_in("d", Duration::from_millis(200)));
    assert!(refused.contains("is over (halt)"), "{refused}");
    assert!(agent.closed("d", Duration::from_secs(5)).contains("halt"));
    assert_eq!(site.node.our_tables(), 0);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_call_halts_over_restarts_until_another_resumes() {
    let (site, mut agent, client, path) = firing();
    let second = Client::at(&site.operator, site.pki.client("second"), NODE);
    let halted = second.halt("wrong cloud").unwrap();
    assert_eq!(halted.drill, "d");
    assert!(halted.verified && halted.residue.is_empty(), "{halted:?}");
    assert_eq!(halted.not_durable, "");
    assert_eq!(path.ask(Duration::from_millis(300)), Reach::Answered);
    assert_halted(&client, "wrong cloud");
    let again = client.halt("another word").unwrap();
    assert_eq!(again.drill, "", "nothing was held");
    agent.crash();
    let _agent = site.start_agent();
    client.wait_until_up();
    assert_halted(&client, "wrong cloud");
    let resumed = client.resume().unwrap();
    assert!(resumed.was_halted && resumed.reason == "wrong cloud");
    assert!(!site.state.path().join("halt").exists());
    assert!(!client.resume().unwrap().was_halted, "twice is no error");
    client.arm("e", &simple()).unwrap();
    client.revert_clean("e");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_hung_agent_is_killed_by_its_guardian() {
    let (site, mut agent, _client, path) = firing();
    agent.signal(Signal::SIGSTOP);
    assert_eq!(
        path.ask(Duration::from_millis(150)),
        Reach::Silent,
        "a stopped agent keeps its tables"
    );
    std::fs::write(site.state.path().join("halt"), "now").unwrap();
    assert!(!agent.wait(Duration::from_secs(10)).success());
    wait_for_traffic(&path);
    let last = agent.closed("d", Duration::from_secs(5));
    assert!(last.contains("hung past a halt"), "{last}");
    assert_eq!(site.node.our_tables(), 0);
}
