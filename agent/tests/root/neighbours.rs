//! Others who own, alter and delete parts of the same network while a fault is in force.

use scenarios::change::{Change, Instead};

use crate::support::*;

const FOUR: &str = "10.20.0.0/24";
const SIX: &str = "fd20::/64";

fn towards(device: &str) -> Change {
    make::slow_towards(device, &[FOUR])
}

/// Of all three mechanisms at once.
fn all() -> [Change; 5] {
    [
        make::firewall(&["10.20.0.0/16", SIX]),
        make::route(FOUR, Some(Instead::Blackhole)),
        make::route(SIX, None),
        make::slow("up0"),
        towards("up1"),
    ]
}

fn host() -> Host {
    let host = Host::with_ways();
    host.ip(&format!("route add {FOUR} via 10.1.0.2"));
    host.ip(&format!("-6 route add {SIX} via fd01::2"));
    host
}

fn in_force(host: &Host, drill: &str, changes: &[Change], lasts: &str) -> Changing {
    let mut changing = host.change(drill, changes, lasts);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    changing
}

/// It ends by its time; its exit code, and what it tells.
fn ends(mut changing: Changing, wanted: i32) -> String {
    let (code, text) = changing.ends();
    assert_eq!(code, Some(wanted), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Everything that others may have in a network, most of it as near to ours as it can be.
fn settle_others(host: &Host) {
    for words in [
        "nexthop add id 9 via 10.2.0.2 dev up1",
        "rule add pref 100 from 10.20.0.0/24 lookup 1234 proto 42",
        "rule add pref 101 fwmark 0x7/0xf prohibit",
        "-6 rule add pref 100 to fd20::/64 lookup 1234",
        "route add 10.20.0.0/24 via 10.2.0.2 table 1234 proto 42",
        "route add 10.20.0.0/25 via 10.2.0.2 proto 42",
        "route add blackhole 10.20.0.0/16 proto 198",
        "route add 10.30.0.0/24 nhid 9",
        "-6 route add fd20::/48 via fd02::2 proto 42",
        "-6 route add fd20::/64 via fd02::2 table 1234",
        "-6 route add unreachable fd21::/64",
        "tuntap add mode tap name theirs",
        "link set theirs addrgenmode none",
        "link set theirs up",
    ] {
        host.ip(words);
    }
    for words in [
        "qdisc add dev theirs root handle c5a1: htb default 2",
        "class add dev theirs parent c5a1: classid c5a1:2 htb rate 9mbit",
        "filter add dev theirs parent c5a1: protocol ip u32 match ip dst 10.20.0.0/24 flowid c5a1:2",
        "qdisc add dev up0 clsact",
        "filter add dev up0 egress protocol ip u32 match ip dst 10.20.0.1 \
         action mirred egress mirror dev theirs",
        "qdisc add dev up1 root handle 1: pfifo limit 7",
    ] {
        host.tc(words);
    }
    for words in [
        "add table inet theirs",
        "add chain inet theirs in { type filter hook prerouting priority -450 ; policy accept ; }",
        "add set inet theirs peers4 { type ipv4_addr ; flags interval ; }",
        "add element inet theirs peers4 { 10.20.0.0/24 }",
        "add rule inet theirs in ip saddr @peers4 accept",
        "add table netdev theirs",
        "add chain netdev theirs out { type filter hook egress device up0 priority 0 ; }",
        "add rule netdev theirs out ip daddr 10.20.0.0/24 accept",
        "add table ip cellwallet",
    ] {
        host.command("nft", words);
    }
}

/// What of a network no change of [`all`] is about.
fn others(host: &Host) -> String {
    let rules = host.ip("-4 rule show") + &host.ip("-6 rule show") + &host.ip("nexthop show");
    let routes = host.routes();
    let mut theirs = routes.lines().filter(|line| !line.contains("proto 199"));
    let tables = ["inet theirs", "netdev theirs", "ip cellwallet"];
    let tables = tables.map(|table| host.command("nft", &format!("-a list table {table}")));
    let shapes =
        ["qdisc", "class", "filter"].map(|what| host.tc(&format!("-d {what} show dev theirs")));
    let egress = host.tc("-d filter show dev up0 egress");
    let kept: Vec<&str> = theirs
        .by_ref()
        .filter(|line| {
            !line.contains("10.20.0.0/24 via 10.1.0.2") && !line.contains("fd20::/64 via fd01::2")
        })
        .collect();
    rules + &kept.join("\n") + &tables.concat() + &shapes.concat() + &egress
}

#[test]
#[ignore = "needs root: network namespace, nftables"]
fn what_others_own_is_the_same_during_and_after() {
    let host = host();
    settle_others(&host);
    let (before, theirs) = (host.whole_network(), others(&host));
    for way in ["deadline", "guardian", "revert"] {
        let lasts = if way == "deadline" { "2s" } else { "1h" };
        let mut changing = in_force(&host, way, &all(), lasts);
        until("all of it is in force", || {
            let seen = host.whole_network();
            let ours = ["proto 199", "tbf c5a0:", "htb c5a0:1", "cellwall_"];
            ours.iter().all(|word| seen.contains(word)) && host.routes_to(SIX, 254).is_empty()
        });
        assert_eq!(others(&host), theirs, "during, {way}");
        match way {
            "deadline" => assert!(!ends(changing, 0).contains("drifted")),
            "guardian" => {
                changing.crash();
                host.closes(way);
            }
            _ => {
                changing.crash_with_guardian();
                host.revert_clean();
            }
        }
        assert_eq!(host.whole_network(), before, "{way}");
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn a_route_of_others_in_the_same_place_stays_and_is_told() {
    let cases = [
        (FOUR, None, "route add 10.20.0.0/24 via 10.2.0.9 proto 42"),
        (
            FOUR,
            Some(Instead::Blackhole),
            "route replace 10.20.0.0/24 via 10.2.0.9",
        ),
        (
            FOUR,
            Some(Instead::Prohibit),
            "route append 10.20.0.0/24 via 10.2.0.9",
        ),
        (
            FOUR,
            Some(Instead::Via([10, 1, 0, 7].into())),
            "route change 10.20.0.0/24 via 10.1.0.9",
        ),
        (SIX, None, "-6 route add fd20::/64 via fd02::9"),
        (
            SIX,
            Some(Instead::Unreachable),
            "-6 route replace fd20::/64 via fd02::9",
        ),
        (
            SIX,
            Some(Instead::Via("fd01::7".parse().unwrap())),
            "-6 route append fd20::/64 via fd02::9",
        ),
    ];
    for (to, instead, words) in cases {
        let host = host();
        let changing = in_force(&host, "d", &[make::route(to, instead)], "2s");
        host.ip(words);
        let text = ends(changing, 0);
        let now = host.routes_to(to, 254);
        let told = format!("drifted: another route to {to}");
        assert!(text.contains(&told), "{words}: {text}");
        assert!(
            now.len() == 1 && now[0].contains("0.9 ") | now[0].contains("::9 "),
            "{now:?}"
        );
        assert!(!now[0].contains("199"), "{now:?}");
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn a_route_that_others_put_back_or_took_away_is_as_before_and_told() {
    for (instead, words, told) in [
        (
            None,
            "route add 10.20.0.0/24 via 10.1.0.2",
            "was put back early",
        ),
        (
            Some(Instead::Blackhole),
            "route replace 10.20.0.0/24 via 10.1.0.2",
            "was put back early",
        ),
        (
            Some(Instead::Blackhole),
            "route del blackhole 10.20.0.0/24",
            "of ours was taken away early",
        ),
    ] {
        let host = host();
        let before = host.routes();
        let changing = in_force(&host, "d", &[make::route(FOUR, instead)], "2s");
        host.ip(words);
        let text = ends(changing, 0);
        assert!(
            text.contains(told) && !text.contains("drifted"),
            "{words}: {text}"
        );
        assert_eq!(host.routes(), before, "{words}");
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn a_qdisc_that_others_put_in_the_place_of_ours_stays_and_is_told() {
    for first in ["", "qdisc add dev up0 root handle 1: pfifo limit 7"] {
        for ours in [make::slow("up0"), towards("up0")] {
            for words in [
                "replace dev up0 root handle 7: pfifo limit 9",
                "del dev up0 root",
            ] {
                let host = host();
                if !first.is_empty() {
                    host.tc(first);
                }
                let before = host.tc("-d qdisc show dev up0");
                let changing = in_force(&host, "d", std::slice::from_ref(&ours), "2s");
                host.tc(&format!("qdisc {words}"));
                let theirs = host.qdiscs();
                let text = ends(changing, 0);
                assert_eq!(host.qdiscs(), theirs, "{text}");
                assert!(text.contains("instead of ours"), "{text}");
                let same = host.tc("-d qdisc show dev up0") == before;
                let told = "drifted: up0 has another qdisc than was captured";
                assert_eq!(text.contains(told), !same, "{first} {words}: {text}");
            }
        }
    }
}

/// `tc qdisc replace` without a handle alters ours in place, so it has our handle with others' numbers.
#[test]
#[ignore = "needs root: network namespace"]
fn a_qdisc_of_ours_that_others_have_altered_stays_and_is_residue() {
    for first in ["", "qdisc add dev up0 root handle 1: pfifo limit 7"] {
        let host = host();
        if !first.is_empty() {
            host.tc(first);
        }
        let changing = in_force(&host, "d", &[make::slow("up0")], "2s");
        host.tc("qdisc replace dev up0 root tbf rate 3mbit burst 9k latency 9ms");
        let theirs = host.qdiscs();
        assert!(theirs.contains("qdisc tbf c5a0: dev up0 root"), "{theirs}");
        let text = ends(changing, 4);
        assert_eq!(host.qdiscs(), theirs);
        assert!(text.contains("qdisc tbf c5a0: on device"), "{text}");
        assert!(
            text.contains("our qdisc of up0 was altered early"),
            "{text}"
        );
        let told = "drifted: somebody else has altered our qdisc of up0, and it stays so";
        assert!(text.contains(told), "{text}");
        assert_eq!(
            host.revert_all().status.code(),
            Some(4),
            "still to be decided"
        );
        assert_eq!(host.qdiscs(), theirs);
        host.tc("qdisc replace dev up0 root handle 1: tbf rate 3mbit burst 9k latency 9ms");
        host.revert_clean();
    }
}
