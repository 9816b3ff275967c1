//! Who may call, and what is refused.

use std::time::Duration;

use scenarios::change::Direction;
use wire::{PROTOCOL, State};

use crate::support::*;

fn simple() -> scenarios::plan::Plan {
    plan(
        5_000,
        vec![step(0, 0, 5_000, cut(&[PEER], Direction::Both))],
    )
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn status_tells_who_the_agent_is() {
    let (_site, agent, client) = Site::with_agent();
    let status = client.status().unwrap();
    assert_eq!((status.cell.as_str(), status.node.as_str()), ("a", "n1"));
    assert_eq!(status.pid, agent.pid());
    assert_eq!(status.state(), State::Idle);
    assert!(status.policy && status.residue.is_empty(), "{status:?}");
    let skew = boottime().abs_diff(status.boottime_ns);
    assert!(skew < 1_000_000_000, "{skew}");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn nobody_gets_in_without_a_certificate_of_the_one_authority() {
    let (site, _agent, client) = Site::with_agent();
    for (who, tls) in [
        ("nobody", site.pki.anonymous()),
        ("a stranger", site.pki.foreign_client()),
    ] {
        let stranger = Client::at(&site.operator, tls, NODE);
        let refused = words(stranger.status());
        // TLS 1.3 lets a client find out with its first word; how tonic names that varies.
        let cut_off = ["Unavailable", "Unknown", "Cancelled"];
        assert!(
            cut_off.iter().any(|code| refused.starts_with(code)),
            "{refused}"
        );
        assert!(words(stranger.revert("d")).len() > 5, "{who}");
    }
    client.status().expect("the right one still gets in");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_certificate_with_another_name_may_not_even_look() {
    let (site, _agent, client) = Site::with_agent();
    let other = Client::at(&site.operator, site.pki.client("somebody"), NODE);
    for refused in [
        words(other.status()),
        words(other.plan(&simple())),
        words(other.arm_as("somebody", "d", &simple())),
        words(other.revert("d")),
        words(other.halt("mischief")),
        words(other.resume()),
    ] {
        assert!(refused.starts_with("PermissionDenied"), "{refused}");
        assert!(refused.contains("somebody"), "{refused}");
    }
    assert_eq!(client.status().unwrap().state(), State::Idle);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn another_protocol_version_is_refused_on_every_call() {
    let (_site, _agent, client) = Site::with_agent();
    let protocol = PROTOCOL + 1;
    let refusals = client.call(move |mut agent| async move {
        let drill = "d".to_owned();
        let arm = wire::ArmRequest {
            protocol,
            ..Default::default()
        };
        let fire = wire::FireRequest {
            protocol,
            drill: drill.clone(),
            at_boottime_ns: 0,
        };
        let renew = wire::RenewRequest {
            protocol,
            drill: drill.clone(),
        };
        let revert = wire::RevertRequest { protocol, drill };
        let halt = wire::HaltRequest {
            protocol,
            reason: String::new(),
        };
        let plan = wire::PlanRequest {
            protocol,
            plan: Vec::new(),
        };
        [
            words(agent.status(wire::StatusRequest { protocol }).await),
            words(agent.plan(plan).await),
            words(agent.arm(arm).await),
            words(agent.fire(fire).await),
            words(agent.renew(renew).await),
            words(agent.revert(revert).await),
            words(agent.halt(halt).await),
            words(agent.resume(wire::ResumeRequest { protocol }).await),
            words(agent.watch(wire::WatchRequest { protocol }).await.map(drop)),
        ]
    });
    for refused in refusals {
        assert!(refused.starts_with("FailedPrecondition"), "{refused}");
        assert!(
            refused.contains("protocol 2, this agent speaks 1"),
            "{refused}"
        );
    }
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn one_drill_at_a_time_and_only_its_conductor_drives_it() {
    let (site, _agent, client) = Site::with_agent();
    let second = Client::at(&site.operator, site.pki.client("second"), NODE);
    client.arm("first", &simple()).unwrap();
    let refused = words(second.arm_as("second", "other", &simple()));
    assert!(
        refused.contains("drill first of conductor conductor"),
        "{refused}"
    );
    assert!(
        words(client.arm("first", &simple())).contains("drill first"),
        "armed twice"
    );
    for refused in [
        words(second.renew("first")),
        words(second.fire_in("first", Duration::from_millis(300))),
    ] {
        assert!(refused.starts_with("PermissionDenied"), "{refused}");
    }
    let refused = words(second.revert("other"));
    assert!(refused.contains("held by drill first"), "{refused}");
    assert_eq!(client.status().unwrap().state(), State::Armed);
    second.revert_clean("first"); // ending a fault is everyone's right
    let refused = words(client.arm("first", &simple()));
    assert!(refused.contains("used once"), "{refused}");
    second.arm_as("second", "other", &simple()).unwrap();
    second.revert_clean("other");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn what_does_not_fit_together_is_not_armed() {
    let (site, _agent, client) = Site::with_agent();
    let refused = words(client.arm_as("second", "d", &simple()));
    assert!(
        refused.starts_with("PermissionDenied") && refused.contains("second"),
        "{refused}"
    );
    for drill in ["", "../d", "A", "-a", "a_b", &"a".repeat(64)] {
        let refused = words(client.arm(drill, &simple()));
        assert!(refused.contains("not a word"), "{drill}: {refused}");
    }
    let refused = words(client.call(|mut agent| async move {
        let plan = serde_json::to_vec(&simple()).unwrap();
        let claim = wire::Claim {
            conductor: "conductor".into(),
            ..Default::default()
        };
        let request = wire::ArmRequest {
            protocol: PROTOCOL,
            drill: "d".into(),
            plan,
            plan_sha256: vec![0; 32],
            claim: Some(claim),
        };
        agent.arm(request).await
    }));
    assert!(refused.contains("SHA-256"), "{refused}");
    // All refusals at once, by Plan as by Arm; and nothing was touched.
    let mut bad = simple();
    bad.lease_ms = Some(1);
    bad.operator.clear();
    bad.steps
        .push(step(1, 0, 1_000_000, cut(&["192.0.2.7"], Direction::Both)));
    bad.steps.push(others(step(
        2,
        0,
        1_000,
        cut(&["198.51.100.1"], Direction::Both),
    )));
    let refused = words(client.arm("d", &bad));
    let planned = client.plan(&bad).unwrap().refusals.join("; ");
    for text in [refused, planned] {
        for word in [
            "lease",
            "operator",
            "longest",
            "192.0.2.0/24",
            "cell a is a target",
            "198.51.100.1",
        ] {
            assert!(text.contains(word), "no `{word}` in {text}");
        }
    }
    assert_eq!(site.node.our_tables(), 0);
    assert_eq!(client.status().unwrap().state(), State::Idle);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_plan_says_how_each_change_ends_and_alters_nothing() {
    let (site, _agent, client) = Site::with_agent();
    let reply = client.plan(&simple()).unwrap();
    assert!(reply.refusals.is_empty(), "{reply:?}");
    assert_eq!(reply.changes.len(), 1);
    assert_eq!(reply.changes[0].kind, "firewall");
    assert!(reply.changes[0].summary.contains("1 IPv4"), "{reply:?}");
    assert_eq!(
        reply.changes[0].ends_by,
        ["timer", "lease", "guardian", "gate", "owner", "journal"]
    );
    assert_eq!(site.node.our_tables(), 0);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn the_instant_must_be_near_but_not_too_near() {
    let (_site, _agent, client) = Site::with_agent();
    client.arm("d", &simple()).unwrap();
    for ahead in [
        Duration::ZERO,
        Duration::from_millis(40),
        Duration::from_secs(11),
    ] {
        let refused = words(client.fire_in("d", ahead));
        assert!(
            refused.starts_with("OutOfRange") && refused.contains("stays armed"),
            "{refused}"
        );
    }
    assert_eq!(client.status().unwrap().state(), State::Armed);
    let refused = words(client.fire_in("other", Duration::from_millis(300)));
    assert!(refused.contains("held by drill d"), "{refused}");
    client.fire_in("d", Duration::from_millis(300)).unwrap();
    let refused = words(client.fire_in("d", Duration::from_millis(300)));
    assert!(refused.contains("firing"), "fired twice: {refused}");
    client.revert_clean("d");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn without_a_policy_only_looking_is_allowed() {
    let site = Site::new();
    let policy = site.state.path().join("policy.yaml");
    std::fs::write(
        &policy,
        "allow: [firewall]\nlongest: soon\nclients: [conductor]\n",
    )
    .unwrap();
    let _agent = site.start_agent();
    let client = site.client();
    let status = client.status().unwrap();
    assert!(
        !status.policy && status.policy_error.contains("soon"),
        "{status:?}"
    );
    let planned = client.plan(&simple()).unwrap();
    assert!(planned.refusals[0].contains("soon"), "{planned:?}");
    for refused in [
        words(client.arm("d", &simple())),
        words(client.fire_in("d", Duration::from_millis(300))),
        words(client.renew("d")),
        words(client.revert("d")),
    ] {
        assert!(
            refused.contains("policy") && refused.contains("soon"),
            "{refused}"
        );
    }
    // The file is read anew; and when it breaks during a drill, the drill can still be ended.
    std::fs::write(
        &policy,
        "allow: [firewall]\nlongest: 1m\nclients: [conductor]\n",
    )
    .unwrap();
    client.arm("d", &simple()).unwrap();
    std::fs::write(&policy, "nonsense").unwrap();
    client.renew("d").unwrap();
    client.revert_clean("d");
    assert!(words(client.arm("e", &simple())).contains("policy"));
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_policy_that_does_not_allow_firewalls_does_not_get_one() {
    let site = Site::new();
    let policy = site.state.path().join("policy.yaml");
    std::fs::write(policy, "allow: []\nlongest: 1m\nclients: [conductor]\n").unwrap();
    let _agent = site.start_agent();
    let refused = words(site.client().arm("d", &simple()));
    assert!(refused.contains("does not allow `firewall`"), "{refused}");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn watchers_see_every_change_of_state() {
    let (_site, _agent, client) = Site::with_agent();
    let seen = client.call(|mut agent| async move {
        let request = wire::WatchRequest { protocol: PROTOCOL };
        let mut events = agent.watch(request).await.unwrap().into_inner();
        let mut seen = vec![events.message().await.unwrap().unwrap().state()];
        let plan = serde_json::to_vec(&simple()).unwrap();
        let claim = wire::Claim {
            conductor: "conductor".into(),
            ..Default::default()
        };
        let plan_sha256 = <sha2::Sha256 as sha2::Digest>::digest(&plan).to_vec();
        let drill = "d".to_owned();
        let arm = wire::ArmRequest {
            protocol: PROTOCOL,
            drill,
            plan,
            plan_sha256,
            claim: Some(claim),
        };
        agent.arm(arm).await.unwrap();
        let revert = wire::RevertRequest {
            protocol: PROTOCOL,
            drill: "d".into(),
        };
        agent.revert(revert).await.unwrap();
        for _ in 0..3 {
            seen.push(events.message().await.unwrap().unwrap().state());
        }
        seen
    });
    assert_eq!(
        seen,
        [State::Idle, State::Armed, State::Reverting, State::Reverted]
    );
}
