//! Pods of this node that no cut of it reaches, told from those of other nodes on the same machine.

use scenarios::change::Direction;
use wire::PodPath;

use crate::support::*;

const BRIDGED: &str = "0d1ffbb5-0a9a-4c7e-8f6e-000000000001";
const APART: &str = "0d1ffbb5-0a9a-4c7e-8f6e-000000000002";
const ELSEWHERE: &str = "0d1ffbb5-0a9a-4c7e-8f6e-000000000003";
const HOST_NETWORK: &str = "0d1ffbb5-0a9a-4c7e-8f6e-000000000004";

/// The pods whose control groups the test made, as an Arm reports them: it always looks anew.
fn armed(client: &Client, drill: &str) -> Vec<PodPath> {
    let cut = cut(&[PEER, PEER_6], Direction::Both);
    let plan = plan(30_000, vec![step(0, 0, 60_000, cut)]);
    let told = client.arm(drill, &plan).unwrap().datapath.unwrap();
    assert_eq!(told.error, "");
    client.revert_clean(drill);
    told.pods
}

#[test]
#[ignore = "needs root: network namespaces, nftables and control groups"]
fn a_pod_without_a_link_to_the_node_is_not_cut() {
    let (here, _agent, client) = PodSite::with_agent("");
    let groups = Groups::new();
    let (apart, elsewhere) = (Pod::start(Namespace::new()), Pod::start(Namespace::new()));
    groups.put("n1", BRIDGED, here.pod.pid());
    groups.put("n1", APART, apart.pid());
    groups.put("n2", ELSEWHERE, elsewhere.pid());
    let pods = armed(&client, "d");
    let [bridged, not_cut] = &pods[..] else {
        panic!("{pods:?}");
    };
    assert!(bridged.pod.contains(BRIDGED), "{pods:?}");
    assert!(
        bridged.proven && bridged.way == "host table" && bridged.not_cut.is_empty(),
        "{pods:?}"
    );
    assert!(not_cut.pod.contains(APART), "{pods:?}");
    assert!(!not_cut.proven && not_cut.way.is_empty(), "{pods:?}");
    assert!(
        not_cut.not_cut.contains("no link to a device of this node"),
        "{pods:?}"
    );
}

#[test]
#[ignore = "needs root: network namespaces, nftables and control groups"]
fn a_node_none_of_whose_pods_has_a_link_knows_them_by_its_own_namespace() {
    let (here, _agent, client) = PodSite::with_agent("");
    let groups = Groups::new();
    let elsewhere = Pod::start(Namespace::new());
    groups.put("n1", BRIDGED, here.pod.pid());
    groups.put("n2", ELSEWHERE, elsewhere.pid());
    here.site.node.ip("link delete vethpod");
    let mut proxy = asleep(&here.site.node);
    groups.put("n1", HOST_NETWORK, proxy.id());
    let pods = armed(&client, "d");
    proxy.kill().unwrap();
    proxy.wait().unwrap();
    let [not_cut] = &pods[..] else {
        panic!("the host's own namespace is covered, the other is not ours: {pods:?}");
    };
    assert!(not_cut.pod.contains(BRIDGED), "{pods:?}");
    assert!(!not_cut.not_cut.is_empty(), "{pods:?}");
}
