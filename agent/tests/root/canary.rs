//! The canary at Arm: what it proves, what it refuses by name, and which way a cut then takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use scenarios::change::Direction;

use crate::support::*;

fn world(direction: Direction) -> scenarios::plan::Plan {
    let cut = cut(&[PEER, PEER_6], direction);
    plan(30_000, vec![step(0, 0, 60_000, cut)])
}

fn both() -> scenarios::plan::Plan {
    world(Direction::Both)
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_pod_is_proven_while_its_other_flows_go_on() {
    let (here, _agent, client) = PodSite::with_agent("");
    let pod = &here.pod.namespace;
    Echo::start(&here.site.peer, ECHO);
    assert_eq!(udp(pod, PEER), Reach::Answered);
    assert!(ping6(pod, PEER_6));
    let (stop, flows) = (Arc::new(AtomicBool::new(false)), [PEER, PEER_6]);
    let flows = flows.map(|to| {
        let (path, stop) = (UdpPath::open(pod, to, ECHO), stop.clone());
        std::thread::spawn(move || {
            let (mut asked, mut lost) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                asked += 1;
                lost += usize::from(path.ask(Duration::from_millis(30)) != Reach::Answered);
                std::thread::sleep(Duration::from_millis(2));
            }
            (asked, lost)
        })
    });
    let begun = Instant::now();
    let reply = client.arm("d", &both()).unwrap();
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    for flow in flows {
        let (asked, lost) = flow.join().unwrap();
        assert!(asked > 20 && lost == 0, "{lost} of {asked} were lost");
    }
    println!("arm with canaries took {took:?}");
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    let ways = reply.ways.join("; ");
    assert!(ways.starts_with("host table: the host, pod "), "{ways}");
    assert!(!ways.contains("pod namespace"), "{ways}");
    assert!(reply.changes[0].summary.contains(&ways), "{reply:?}");
    assert_eq!(udp(pod, PEER), Reach::Answered, "armed, not cut");
    client.fire_in("d", Duration::from_millis(200)).unwrap();
    std::thread::sleep(Duration::from_millis(260));
    assert_eq!(udp(pod, PEER), Reach::Silent);
    assert_eq!(udp(pod, PEER_6), Reach::Silent);
    assert_eq!(pod.our_tables(), 0, "the host's tables do it");
    client.revert_clean("d");
    assert_eq!(udp(pod, PEER), Reach::Answered);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_path_past_netfilter_is_refused_by_name() {
    let (here, agent, client) = PodSite::with_agent("pod_namespaces: false\n");
    let pod = &here.pod.namespace;
    Echo::start(&here.site.peer, ECHO);
    let links = here.bypass();
    assert_eq!(udp(pod, PEER), Reach::Answered, "past the node's stack");
    let refused = words(client.arm("d", &both()));
    for word in [
        "FailedPrecondition",
        "pod without a name (netns ",
        "(IPv4) on node n1.a",
        "its canary was still answered with the cut of ingress in force",
        "does not pass this node's nftables (a BPF redirect?)",
        "nothing was altered",
    ] {
        assert!(refused.contains(word), "no `{word}` in {refused}");
    }
    assert_eq!(here.site.node.our_tables() + pod.our_tables(), 0);
    assert!(agent.journal("d").contains("\"closed\""));
    // A redirected packet skips the egress hook of the uplink too; the canary knows each by itself.
    let refused = words(client.arm("e", &world(Direction::Egress)));
    assert!(refused.contains("cut of egress in force"), "{refused}");
    drop(links);
    here.pod.namespace.ip("neigh flush dev eth0 nud permanent");
    client.arm("f", &both()).unwrap();
    client.revert_clean("f");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_path_past_netfilter_is_cut_in_the_pods_own_namespace() {
    let (here, mut agent, client) = PodSite::with_agent("");
    let (node, pod) = (&here.site.node, &here.pod.namespace);
    Echo::start(&here.site.peer, ECHO);
    let _links = here.bypass();
    let reply = client.arm("d", &both()).unwrap();
    let ways = reply.ways.join("; ");
    assert!(ways.contains("pod namespace: pod without a name"), "{ways}");
    assert_eq!(udp(pod, PEER), Reach::Answered, "armed, not cut");
    let told = client.status().unwrap().datapath.unwrap();
    assert_eq!(told.pods.len(), 1, "{told:?}");
    assert!(
        told.pods[0].proven && told.pods[0].way == "pod namespace",
        "{told:?}"
    );
    client.fire_in("d", Duration::from_millis(200)).unwrap();
    std::thread::sleep(Duration::from_millis(260));
    assert_eq!(udp(pod, PEER), Reach::Silent);
    client.renew("d").unwrap();
    assert_eq!((node.our_tables(), pod.our_tables()), (2, 2));
    client.revert_clean("d");
    assert_eq!((node.our_tables(), pod.our_tables()), (0, 0));
    assert_eq!(udp(pod, PEER), Reach::Answered);
    // The agent dies: the kernel ends the pod's cut as it ends the host's.
    client.cut("e", &both());
    assert_eq!(udp(pod, PEER), Reach::Silent);
    agent.crash();
    assert_eq!((node.our_tables(), pod.our_tables()), (0, 0));
    assert_eq!(udp(pod, PEER), Reach::Answered);
    let closed = agent.closed("e", Duration::from_secs(5));
    assert!(closed.contains("\"residue\":[]"), "{closed}");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn an_agent_that_is_killed_while_its_canary_flies_leaves_nothing() {
    let (here, mut agent, client) = PodSite::with_agent("");
    let (node, pod) = (&here.site.node, &here.pod.namespace);
    Echo::start(&here.site.peer, ECHO);
    let _links = here.bypass();
    for (drill, place) in [("d", node), ("e", pod)] {
        let arming = client.clone();
        let arm = std::thread::spawn(move || arming.arm(drill, &both()));
        let begun = Instant::now();
        while place.our_tables() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(3), "no canary flew");
        }
        agent.crash();
        assert!(arm.join().unwrap().is_err(), "it was armed already");
        assert_eq!((node.our_tables(), pod.our_tables()), (0, 0), "{drill}");
        assert_eq!(udp(pod, PEER), Reach::Answered);
        let closed = agent.closed(drill, Duration::from_secs(5));
        assert!(closed.contains("\"residue\":[]"), "{closed}");
        assert!(!agent.journal(drill).contains("\"fired\""));
        agent = here.site.start_agent();
        client.wait_until_up();
    }
    client.arm("f", &both()).unwrap();
    client.revert_clean("f");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_pod_that_ends_during_its_cut_leaves_nothing() {
    let (here, agent, client) = PodSite::with_agent("");
    let links = here.bypass();
    client.cut("d", &both());
    here.site.node.ip("link delete vethpod");
    drop(links);
    here.pod.end();
    client.renew("d").unwrap();
    client.revert_clean("d");
    assert!(agent.closed("d", Duration::ZERO).contains("\"residue\":[]"));
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_table_of_ours_in_a_pod_is_residue() {
    let (here, _agent, client) = PodSite::with_agent("");
    let pod = &here.pod.namespace;
    pod.command("nft", "add table inet cellwall_stray");
    let residue = client.revert("d").unwrap().residue.join("; ");
    assert!(
        residue.contains("nftables table inet cellwall_stray in pod"),
        "{residue}"
    );
    let refused = words(client.arm("d", &both()));
    assert!(refused.contains("cellwall_stray"), "{refused}");
    pod.command("nft", "delete table inet cellwall_stray");
    client.arm("d", &both()).unwrap();
    client.revert_clean("d");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_path_that_nobody_answers_cannot_be_proven() {
    let (here, _agent, client) = PodSite::with_agent("");
    let pod = &here.pod.namespace;
    pod.command("nft", "add table ip deaf");
    pod.command(
        "nft",
        "add chain ip deaf in { type filter hook input priority 0 ; }",
    );
    pod.command("nft", "add rule ip deaf in icmp type echo-reply drop");
    let refused = words(client.arm("d", &both()));
    for word in [
        "pod without a name",
        "(IPv4)",
        "cannot be proven",
        PEER,
        OPERATOR,
    ] {
        assert!(refused.contains(word), "no `{word}` in {refused}");
    }
    assert!(!refused.contains("the host"), "{refused}");
    assert!(!refused.contains("(IPv6)"), "{refused}");
    pod.command("nft", "delete table ip deaf");
    // A gateway that does not answer is no obstacle as long as an operator does.
    let peer = &here.site.peer;
    peer.command("nft", "add table inet mute");
    peer.command(
        "nft",
        "add chain inet mute in { type filter hook input priority 0 ; }",
    );
    peer.command("nft", "add rule inet mute in icmp type echo-request drop");
    client.arm("e", &both()).unwrap();
    client.revert_clean("e");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn foreign_tables_are_the_same_through_a_whole_drill() {
    let (here, _agent, client) = PodSite::with_agent("");
    let node = &here.site.node;
    for words in [
        "add table ip kube-proxy",
        "add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat ; }",
        "add chain ip kube-proxy masquerading { type nat hook postrouting priority srcnat ; }",
        "add set ip kube-proxy cluster-ips { type ipv4_addr ; elements = { 10.96.0.1, 10.96.0.10 } ; }",
        "add rule ip kube-proxy nat-prerouting ip daddr @cluster-ips counter dnat to 10.244.0.2",
        "add rule ip kube-proxy masquerading ip saddr 10.244.0.0/16 oifname topeer masquerade",
        "add table ip6 kube-proxy",
    ] {
        node.command("nft", words);
    }
    let before = node.foreign_tables();
    assert!(before.contains("masquerade"), "{before}");
    client.arm("d", &both()).unwrap();
    assert_eq!(node.foreign_tables(), before, "armed");
    client.fire_in("d", Duration::from_millis(200)).unwrap();
    std::thread::sleep(Duration::from_millis(260));
    assert_eq!(udp(&here.pod.namespace, PEER), Reach::Silent);
    assert_eq!(node.foreign_tables(), before, "fired");
    client.revert_clean("d");
    assert_eq!(node.foreign_tables(), before, "reverted");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_node_reports_its_datapath() {
    let (here, _agent, client) = PodSite::with_agent("");
    let told = client.status().unwrap().datapath.unwrap();
    let names: Vec<&str> = told.abilities.iter().map(|a| a.name.as_str()).collect();
    let all = [
        "table owner",
        "set timeouts",
        "timeout renewal",
        "netdev egress fwd",
        "tcx",
        "guardian cgroup",
        "guardian oom protection",
    ];
    assert_eq!(names, all);
    let missing = &told.abilities[5].missing;
    assert!(missing.contains("--guardian-cgroup"), "{missing}");
    for ability in &told.abilities[..5] {
        assert_eq!(ability.missing, "", "{}", ability.name);
    }
    assert_eq!((told.cni.as_str(), told.error.as_str()), ("bridge", ""));
    assert_eq!(
        told.pods.len(),
        1,
        "neither the operator nor the gateway: {told:?}"
    );
    assert!(
        told.pods[0].way == "host table" && !told.pods[0].proven,
        "{told:?}"
    );
    let plan = client.plan(&both()).unwrap();
    assert_eq!(plan.datapath.unwrap().pods.len(), 1);
    let armed = client.arm("d", &both()).unwrap().datapath.unwrap();
    assert!(armed.pods[0].proven, "{armed:?}");
    client.revert_clean("d");
    assert_eq!(
        here.pod.namespace.our_tables() + here.site.node.our_tables(),
        0
    );
}
