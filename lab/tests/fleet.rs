//! The fleet of a lab: who reaches whom, what `exec` and `enter` do, and that agents come back.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use support::{Inventory, Met, TestRoot, eventually, kill, pid};

/// What comes of an attempt to connect from a host of the lab `default`.
fn meet(root: &TestRoot, from: &str, address: &str, port: u16) -> Met {
    root.connect(
        "default",
        from,
        SocketAddr::new(address.parse().unwrap(), port),
    )
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn users_reach_every_cell_and_the_operator_every_agent() {
    let root = TestRoot::new("reach");
    let report = root.up(&[]);
    let cells = report["labs"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 3);
    for cell in cells {
        for address in cell["addresses"].as_array().unwrap() {
            let met = meet(&root, "users", address.as_str().unwrap(), 80);
            assert_eq!(met, Met::Listener, "{address}");
        }
        for node in cell["nodes"].as_array().unwrap() {
            let agent: SocketAddr = node["agent"].as_str().unwrap().parse().unwrap();
            assert_eq!(
                root.connect("default", "operator", agent),
                Met::Listener,
                "{agent}"
            );
            let v6 = node["addresses"][1].as_str().unwrap();
            assert!(v6.contains(':'));
            assert_eq!(meet(&root, "operator", v6, 9), Met::Host, "{v6}");
        }
    }
    for address in [
        "203.0.113.20",
        "203.0.113.21",
        "2001:db8:ffff::20",
        "2001:db8:ffff::21",
    ] {
        assert_eq!(
            meet(&root, "users", address, 80),
            Met::Listener,
            "{address}"
        );
        assert_eq!(
            meet(&root, "operator", address, 80),
            Met::Listener,
            "{address}"
        );
    }
    // Every cloud has its database, without an agent.
    for address in [
        "198.51.100.40",
        "198.51.100.104",
        "198.51.100.168",
        "2001:db8:3::40",
    ] {
        assert_eq!(
            meet(&root, "front-1.gd-tencent", address, 5432),
            Met::Listener,
            "{address}"
        );
        assert_eq!(
            meet(&root, "operator", address, 7443),
            Met::Host,
            "{address}"
        );
    }
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn cells_meet_by_public_addresses_only_and_the_host_meets_none() {
    let root = TestRoot::new("apart");
    let interfaces = || std::fs::read_dir("/sys/class/net").unwrap().count();
    let before = interfaces();
    root.up(&["--cells", "2"]);
    assert_eq!(
        interfaces(),
        before,
        "the lab shows in the host's own network namespace"
    );
    assert_eq!(
        meet(&root, "front-1.gd-aliyun", "198.51.100.75", 9),
        Met::Host
    );
    assert_eq!(
        meet(&root, "front-1.gd-aliyun", "2001:db8:2::11", 9),
        Met::Host
    );
    for inside in ["10.1.0.14", "fd00:0:1::14"] {
        assert_eq!(
            meet(&root, "front-1.gd-aliyun", inside, 8082),
            Met::Listener,
            "{inside}"
        );
        for stranger in [
            "front-1.gd-tencent",
            "users",
            "operator",
            "managed-db.aliyun",
        ] {
            let met = meet(&root, stranger, inside, 8082);
            assert_eq!(met, Met::Nothing, "{stranger} reaches {inside}");
        }
    }
    // Asking by a connection from the host would prove nothing: it may stand behind a proxy that
    // answers for every address.
    let tables = [
        "/proc/net/fib_trie",
        "/proc/net/route",
        "/proc/net/if_inet6",
    ];
    for table in tables.map(|table| std::fs::read_to_string(table).unwrap()) {
        for ours in ["198.51.100.", "203.0.113.", "20010db8", "fd0000000001"] {
            assert!(
                !table.contains(ours),
                "{ours} is known to the host: {table}"
            );
        }
    }
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn exec_hands_on_the_exit_code_and_knows_every_host() {
    let root = TestRoot::new("exec");
    let nobody = root.run(&["exec", "users", "--", "true"]);
    assert_eq!(nobody.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no lab is up"));
    root.up(&["--cells", "1"]);
    let hosts = [
        "users",
        "operator",
        "reference-1",
        "reference-2",
        "dns",
        "router.aliyun",
        "managed-db.aliyun",
        "managed-db.gd-aliyun",
        "front-1.gd-aliyun",
    ];
    for host in hosts {
        assert!(root.on(host, "true"), "{host}");
    }
    let code = |command: &[&str]| {
        let all = [&["exec", "users", "--"], command].concat();
        root.run(&all).status.code()
    };
    assert_eq!(code(&["sh", "-c", "exit 42"]), Some(42));
    assert_eq!(code(&["/no/such/program"]), Some(127));
    assert_eq!(code(&["/etc/passwd"]), Some(126));
    let unknown = root.run(&["exec", "front-9.gd-aliyun", "--", "true"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("front-2.gd-aliyun"));
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn enter_has_no_capability_and_cannot_get_one() {
    let root = TestRoot::new("enter");
    root.up(&["--cells", "1"]);
    let status = root.ok(&["enter", "--", "cat", "/proc/self/status"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            status.contains(&format!("{set}:\t0000000000000000")),
            "{status}"
        );
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let addresses = root.ok(&["enter", "--", "ip", "address"]);
    assert!(addresses.contains("203.0.113.10") && addresses.contains("2001:db8:ffff::10"));
    let alter = root.run(&["enter", "--", "ip", "link", "set", "eth0", "down"]);
    assert!(!alter.status.success());
    // The same can be done with the capabilities that `exec` keeps, so it is they that matter.
    assert!(root.on("operator", "ip link set eth0 mtu 1400"));
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn a_killed_agent_comes_back_and_status_knows_its_host_pid() {
    let root = TestRoot::new("agent");
    root.up(&["--cells", "1"]);
    let agent = || {
        let labs = root.labs();
        let nodes = labs[0]["cells"][0]["nodes"].as_array().unwrap().clone();
        let node = nodes
            .into_iter()
            .find(|node| node["name"] == "front-2")
            .unwrap();
        node["agent_pid"].clone()
    };
    let first = pid(&agent());
    let command = std::fs::read_to_string(format!("/proc/{first}/cmdline")).unwrap();
    assert!(
        command.contains("cellwall-agent") && command.contains("front-2"),
        "{command}"
    );
    kill(first);
    eventually("the agent is restarted", Duration::from_secs(3), || {
        agent().as_i64().is_some_and(|now| now as i32 != first)
    });
    let second = pid(&agent());
    let command = std::fs::read_to_string(format!("/proc/{second}/cmdline")).unwrap();
    assert!(
        command.contains("cellwall-agent") && command.contains("front-2"),
        "{command}"
    );
    let agent = "198.51.100.12:7443".parse().unwrap();
    eventually("it answers", Duration::from_secs(3), || {
        root.connect("default", "operator", agent) == Met::Listener
    });
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn two_labs_are_up_at_once_and_do_not_meet() {
    let root = TestRoot::new("two");
    let before = Inventory::take(&root.path);
    root.up(&["--name", "one", "--cells", "1"]);
    root.up(&["--name", "two", "--cells", "2"]);
    assert_eq!(root.labs().len(), 2);
    let again = root.run(&["up", "--name", "one"]);
    assert_eq!(again.status.code(), Some(64));
    let which = root.run(&["exec", "users", "--", "true"]);
    assert_eq!(which.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&which.stderr).contains("one, two"));
    let from = |lab: &str, address: &str| {
        root.connect(lab, "users", format!("{address}:80").parse().unwrap())
    };
    assert_eq!(from("one", "198.51.100.10"), Met::Listener);
    assert_eq!(from("two", "198.51.100.10"), Met::Listener);
    // Only the second lab has a second cell.
    assert_eq!(from("one", "198.51.100.74"), Met::Nothing);
    assert_eq!(from("two", "198.51.100.74"), Met::Listener);
    root.ok(&["down", "--name", "one"]);
    assert_eq!(
        from("two", "198.51.100.10"),
        Met::Listener,
        "one lab's end hurt the other"
    );
    root.ok(&["down", "--name", "two"]);
    assert_eq!(before, Inventory::take(&root.path));
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn a_users_fleet_that_no_lab_can_build_is_answered_with_what_one_can() {
    let root = TestRoot::new("refused");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/tests/fleet.yaml");
    let output = root.run(&["up", "--fleet", file]);
    assert_eq!(output.status.code(), Some(64));
    let errors = String::from_utf8_lossy(&output.stderr);
    for word in ["aliyun", "/26", "at most one", "front-2", "203.0.113.0/24"] {
        assert!(errors.contains(word), "{word}: {errors}");
    }
    assert_eq!(std::fs::read_dir(&root.path).unwrap().count(), 0);
}
