//! Who may call, and what is refused.

use std::time::Duration;

use scenarios::change::Direction;

use crate::support::*;

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn status_tells_who_the_agent_is() {
    let (_site, agent, client) = Site::with_agent();
    let status = client.status().unwrap();
    assert_eq!((status.cell.as_str(), status.node.as_str()), ("a", "n1"));
    assert_eq!(status.pid, agent.pid());
    assert_eq!(status.state(), wire::State::Idle);
    assert!(status.policy && status.residue.is_empty(), "{status:?}");
    let skew = boottime().abs_diff(status.boottime_ns);
    assert!(skew < 1_000_000_000, "{skew}");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_cut_is_armed_fired_and_reverted() {
    let (site, _agent, client) = Site::with_agent();
    let plan = plan(
        5_000,
        vec![step(0, 0, 30_000, cut(&[PEER, PEER_6], Direction::Both))],
    );
    let armed = client.arm("d1", &plan).unwrap();
    assert_eq!(armed.changes.len(), 1);
    println!("{:?}", site.node.command("nft", "list ruleset"));
    client.fire_in("d1", Duration::from_millis(200)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    println!("{}", site.node.command("nft", "-a list ruleset"));
    println!("{:?}", client.renew("d1"));
    println!("{}", site.node.command("nft", "list ruleset"));
    client.revert_clean("d1");
    assert_eq!(site.node.our_tables(), 0);
}
