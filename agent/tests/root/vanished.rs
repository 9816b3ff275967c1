//! Devices and network namespaces that go away under a fault, and a way back walked in another one.

use scenarios::change::{Change, Instead};

use crate::support::*;

const FOUR: &str = "10.20.0.0/24";
const SIX: &str = "fd20::/64";

/// Of all three mechanisms at once.
fn changes() -> [Change; 5] {
    [
        make::firewall(&[FOUR, SIX]),
        make::route(FOUR, Some(Instead::Blackhole)),
        make::route(SIX, None),
        make::slow("up0"),
        make::slow_towards("up1", &[FOUR]),
    ]
}

/// A host whose changes are in force.
fn alone(changes: &[Change], lasts: &str) -> (Host, Changing) {
    let host = with_routes();
    let mut changing = host.change("d", changes, lasts);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    (host, changing)
}

fn with_routes() -> Host {
    let host = Host::with_ways();
    host.ip(&format!("route add {FOUR} via 10.1.0.2"));
    host.ip(&format!("-6 route add {SIX} via fd01::2"));
    host
}

/// It ends by its time; its exit code, and what it tells.
fn ends(mut changing: Changing, wanted: i32) -> String {
    let (code, text) = changing.ends();
    assert_eq!(code, Some(wanted), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Routes and qdiscs; the kernel's own multicast routes come in any order.
fn sorted(host: &Host) -> Vec<String> {
    let all = host.routes() + &host.qdiscs();
    let mut lines: Vec<String> = all.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A host that never had a fault, when a device goes.
fn without(device: &str) -> Vec<String> {
    let host = with_routes();
    host.ip(&format!("link del {device}"));
    sorted(&host)
}

#[test]
#[ignore = "needs root: network namespace, nftables"]
fn a_device_that_goes_takes_its_part_and_the_rest_ends() {
    for killed in [false, true] {
        let lasts = if killed { "1h" } else { "2s" };
        let (host, mut changing) = alone(&changes(), lasts);
        host.ip("link del up0");
        if killed {
            changing.crash();
            host.closes("d");
            let journal = std::fs::read_to_string(host.state().join("journal/d.journal")).unwrap();
            assert!(
                journal.contains("the way of the route to 10.20.0.0/24"),
                "{journal}"
            );
        } else {
            let text = ends(changing, 0);
            for told in [
                "drifted: the way of the route to 10.20.0.0/24 metric 0 in table 254 is gone",
                "drifted: the way of the route to fd20::/64 metric 1024 in table 254 is gone",
                "up0 was gone, and our qdisc with it",
                "drifted: device up0, on which the cut hung, is gone",
                "drifted: device end1, on which the cut hung, is gone",
            ] {
                assert!(text.contains(told), "{text}");
            }
        }
        assert_eq!(sorted(&host), without("up0"));
        assert_eq!(host.command("nft", "list ruleset"), "");
        host.revert_clean();
    }
}

#[test]
#[ignore = "needs root: network namespace, nftables"]
fn another_device_under_the_name_is_left_alone() {
    let (host, changing) = alone(&changes(), "3s");
    host.ip("link del up0");
    host.ip("tuntap add mode tap name up0");
    host.ip("link set up0 addrgenmode none");
    host.ip("link set up0 up");
    host.ip("addr add 10.1.0.1/24 dev up0");
    host.ip("route replace 10.20.0.0/24 via 10.1.0.2");
    host.tc("qdisc add dev up0 root handle c5a0: pfifo limit 9");
    let theirs = host.tc("-d qdisc show dev up0");
    let text = ends(changing, 4);
    assert!(
        text.contains("qdisc pfifo c5a0:"),
        "nobody knows whose that is: {text}"
    );
    assert_eq!(host.tc("-d qdisc show dev up0"), theirs);
    let now = host.routes_to(FOUR, 254);
    assert!(
        now.len() == 1 && now[0].contains("via 10.1.0.2 dev up0"),
        "{now:?}"
    );
    assert!(
        text.contains("drifted: another route to 10.20.0.0/24"),
        "{text}"
    );
    assert_eq!(host.command("nft", "list ruleset"), "");
}

/// The number of a device is what counts.
#[test]
#[ignore = "needs root: network namespace, nftables"]
fn a_device_that_gets_another_name_loses_our_qdisc_too() {
    let host = with_routes();
    host.tc("qdisc add dev up1 root handle 1: pfifo limit 7");
    let before = host.tc("-d qdisc show");
    let all = [make::slow("up0"), make::slow_towards("up1", &[FOUR])];
    let mut changing = host.change("d", &all, "2s");
    assert!(changing.says("in force"), "{:?}", changing.ends());
    for name in ["up0", "up1"] {
        host.ip(&format!("link set {name} down"));
        host.ip(&format!("link set {name} name other{name}"));
        host.ip(&format!("link set other{name} up"));
    }
    ends(changing, 0);
    assert_eq!(host.tc("-d qdisc show").replace("other", ""), before);
}
/// A host, and beside it a namespace with the same devices where the fault is to be; what of the two
/// is to be compared.
fn host() -> Host {
    let host = Host::with_ways();
    host.add_inner();
    host.ip(&format!("-n {INNER} route add {FOUR} via 10.1.0.2"));
    host.ip(&format!("-n {INNER} -6 route add {SIX} via fd01::2"));
    // By this it is seen that the namespace is gone.
    host.ip(&format!(
        "link add bridge type veth peer name other netns {INNER}"
    ));
    let index = |show: &str| show.split(':').next().unwrap().to_owned();
    let inner = host.ip(&format!("-n {INNER} -o link show dev up0"));
    assert_eq!(index(&host.ip("-o link show dev up0")), index(&inner));
    host
}

fn is_gone(host: &Host) -> bool {
    !host.succeeds("ip", "link show dev bridge")
}

fn in_force(host: &Host, lasts: &str) -> Changing {
    let mut changing = host.change_in(&WITHIN, "d", &changes(), lasts, &[]);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    until("all of it is in force", || {
        let seen = host.inner();
        seen.contains("proto 199") && seen.contains("tbf c5a0:") && !seen.contains(SIX)
    });
    changing
}

#[test]
#[ignore = "needs root: network and mount namespaces, nftables"]
fn a_fault_ends_in_a_namespace_that_only_its_agent_is_in() {
    let host = host();
    let (here, inner) = (host.whole_network(), host.inner());
    for lost in [false, true] {
        let mut changing = in_force(&host, "2s");
        if lost {
            host.ip(&format!("netns del {INNER}"));
        }
        let (code, text) = changing.ends();
        assert_eq!(code, Some(0), "{text}");
        for word in ["panicked", "drifted", "gone"] {
            assert!(!text.contains(word), "{text}");
        }
        if !lost {
            assert_eq!(
                (host.whole_network(), host.inner()),
                (here.clone(), inner.clone())
            );
            std::fs::remove_file(host.state().join("journal/d.journal")).unwrap();
        }
    }
    until("the namespace is gone", || is_gone(&host));
    host.revert_clean();
}

#[test]
#[ignore = "needs root: network and mount namespaces, nftables"]
fn the_guardian_ends_it_there_as_well() {
    let host = host();
    let mut changing = in_force(&host, "1h");
    host.ip(&format!("netns del {INNER}"));
    changing.crash();
    host.closes("d");
    until("the namespace is gone", || is_gone(&host));
    let journal = std::fs::read_to_string(host.state().join("journal/d.journal")).unwrap();
    assert!(journal.contains("\"residue\":[]"), "{journal}");
    host.revert_clean();
}

fn kill_both(mut changing: Changing) {
    changing.crash_with_guardian();
}

#[test]
#[ignore = "needs root: network and mount namespaces, nftables"]
fn nothing_is_put_into_another_namespace_when_that_of_the_fault_is_gone() {
    let host = host();
    let changing = in_force(&host, "1h");
    host.ip(&format!("netns del {INNER}"));
    kill_both(changing);
    until("the namespace is gone", || is_gone(&host));
    let here = host.whole_network();
    let told = host.revert_clean();
    assert_eq!(host.whole_network(), here, "{told}");
    let gone = "left as it is: cannot put the routes back: the network namespace of that is gone";
    assert!(told.contains(gone), "{told}");
    host.revert_clean();
    assert_eq!(host.whole_network(), here);
}

#[test]
#[ignore = "needs root: network and mount namespaces, nftables"]
fn a_revert_in_the_wrong_namespace_says_where_the_right_one_is() {
    let host = host();
    let before = (host.whole_network(), host.inner());
    let changing = in_force(&host, "1h");
    kill_both(changing);
    let during = host.inner();
    let output = host.revert_all();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(
        told.contains("in another network namespace, /run/netns/inner"),
        "{told}"
    );
    assert_eq!(
        (host.whole_network(), host.inner()),
        (before.0.clone(), during)
    );
    let output = host.revert_all_in(&WITHIN);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!((host.whole_network(), host.inner()), before);
}

/// A process that is in it holds it as well as a mount, and so does one that only has it open.
#[test]
#[ignore = "needs root: network and mount namespaces, nftables"]
fn a_namespace_without_a_name_is_there_as_long_as_a_process_holds_it() {
    let inside = [&WITHIN[..], &["sleep", "600"]].concat();
    let open = ["sh", "-c", "exec 9</run/netns/inner; exec sleep 600"];
    for (holder, place) in [(&inside[..], "task/PID/ns/net"), (&open, "fd/9")] {
        let host = host();
        let words: Vec<String> = holder.iter().copied().map(str::to_owned).collect();
        let mut sleeper = host.run(|| {
            let mut command = std::process::Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).args(words);
            command.spawn().unwrap()
        });
        until("it sleeps there", || {
            let words = agent::kernel::procfs::command_line(sleeper.id());
            words.first().is_some_and(|word| word == "sleep")
        });
        let changing = in_force(&host, "1h");
        host.ip(&format!("netns del {INNER}"));
        kill_both(changing);
        let told = text(&host.revert_all());
        let pid = sleeper.id().to_string();
        let place = format!("/proc/{pid}/{}", place.replace("PID", &pid));
        assert!(told.contains(&place), "{told}");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        until("the namespace is gone", || is_gone(&host));
        host.revert_clean();
    }
}

/// What it tells of devices that come and go while everything is cut.
fn told_of(meanwhile: impl FnOnce(&Host)) -> String {
    let host = Host::with_ways();
    host.add_inner();
    host.ip("link add pod0 type veth peer name eth9 netns inner");
    let mut changing = host.change("d", &[make::firewall(&[FOUR])], "1500ms");
    assert!(changing.says("in force"), "{:?}", changing.ends());
    meanwhile(&host);
    ends(changing, 0)
}

#[test]
#[ignore = "needs root: network namespace, nftables"]
fn a_device_of_the_host_that_was_made_anew_is_told() {
    let text = told_of(|host| {
        host.ip("link del up1");
        host.ip("tuntap add dev up1 mode tun");
    });
    let told = "drifted: device up1, on which the cut hung, was made anew meanwhile";
    assert!(text.contains(told), "{text}");
}

#[test]
#[ignore = "needs root: network namespace, nftables"]
fn a_pod_that_ends_takes_its_device_along_and_that_is_no_drift() {
    let text = told_of(|host| {
        host.ip("link del pod0");
    });
    assert!(
        !text.contains("pod0") && !text.contains("drifted"),
        "{text}"
    );
}
