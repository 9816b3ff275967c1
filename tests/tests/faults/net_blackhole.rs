//! `net.blackhole`: silence in both directions, IPv4 and IPv6, and then everything is back.

use proof::drill::{LONG, assert_says, cli, start};
use proof::lab::Lab;
use proof::traffic::connects;

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn bites_reverts_and_reverts_again() {
    let lab = Lab::up("net-blackhole", &[]);
    let paths = [
        ("users", "198.51.100.10", 80),
        ("users", "2001:db8:1::10", 80),
        // From a host of the target to the world, and to the database in its own cloud.
        ("front-1.gd-aliyun", "203.0.113.20", 80),
        ("front-1.gd-aliyun", "198.51.100.40", 5432),
        // The second side: survivors lose what has no agent in the lost cloud.
        ("front-1.gd-tencent", "198.51.100.40", 5432),
    ];
    let spared = [
        ("users", "198.51.100.74", 80),
        ("front-1.gd-aws", "203.0.113.20", 80),
        // A cell keeps its own inside.
        ("front-1.gd-aliyun", "10.1.0.13", 8081),
        ("operator", "198.51.100.11", 7443),
    ];
    let open = |(node, address, port): &(&str, &str, u16)| connects(&lab, node, address, *port);
    assert!(
        paths.iter().chain(&spared).all(open),
        "all paths are open before"
    );

    let running = start(&lab, "black-hole-cloud", &LONG);
    running.until_fired();
    for path in &paths {
        assert!(!open(path), "cut: {path:?}");
    }
    for path in &spared {
        assert!(open(path), "spared: {path:?}");
    }
    // The management path is one address and one port, not a hole for everything else.
    assert!(
        !connects(&lab, "operator", "198.51.100.11", 8080),
        "the operator's probes are cut too"
    );

    let drill = running.drill_id();
    for time in ["once", "again"] {
        let reverted = cli(&["revert", &drill, "--lab", &lab.name]);
        assert_says(&reverted, 0, &["clean"]);
        assert!(
            paths.iter().chain(&spared).all(open),
            "all paths are open after reverting {time}"
        );
    }
    let _ = running.finish();
}
