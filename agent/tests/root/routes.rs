//! Routes of every make, withdrawn or led elsewhere, and back to the last byte however it ends.

use std::net::IpAddr;

use scenarios::change::{Change, Instead, RouteChange};

use crate::support::*;

/// All routes to one destination, made by `ip` with these words.
struct Case {
    to: &'static str,
    table: u32,
    made: &'static [&'static str],
    /// Of what stands in the place of the first.
    metric: u32,
}

const fn main(to: &'static str, made: &'static [&'static str], metric: u32) -> Case {
    Case {
        to,
        table: 254,
        made,
        metric,
    }
}

/// The networks of the devices are made with their addresses, and are the first to be withdrawn: what
/// goes through them must come back all the same.
const CASES: [Case; 23] = [
    main("10.2.0.0/24", &[], 0),
    main("fd02::/64", &[], 256),
    main("10.20.0.0/24", &["route add 10.20.0.0/24 via 10.2.0.2"], 0),
    main(
        "10.21.0.0/24",
        &[
            "route add 10.21.0.0/24 via 10.1.0.2 metric 10",
            "route add 10.21.0.0/24 via 10.2.0.2 metric 20 proto static",
            "route add 10.21.0.0/24 tos 0x10 via 10.2.0.3 metric 10",
        ],
        10,
    ),
    main(
        "10.22.0.0/24",
        &["route add 10.22.0.0/24 metric 5 nexthop via 10.1.0.2 weight 3 nexthop via 10.2.0.2"],
        5,
    ),
    main(
        "10.23.0.0/24",
        &[
            "route add 10.23.0.0/24 via 172.16.0.1 dev up0 onlink src 10.1.0.1 metric 7 \
           proto static mtu lock 1300 advmss 1200 initcwnd 11 congctl reno",
        ],
        7,
    ),
    Case {
        to: "10.24.0.0/24",
        table: 1234,
        made: &["route add 10.24.0.0/24 via 10.2.0.2 table 1234"],
        metric: 0,
    },
    main(
        "0.0.0.0/0",
        &["route add default via 10.1.0.2 proto dhcp metric 100"],
        100,
    ),
    main(
        "10.25.0.0/24",
        &[
            "nexthop add id 7 via 10.1.0.2 dev up0",
            "nexthop add id 8 via 10.2.0.2 dev up1",
            "nexthop add id 10 group 7,3/8",
            "route add 10.25.0.0/24 nhid 10",
            "route add 10.25.0.0/24 nhid 8 metric 9",
        ],
        0,
    ),
    main(
        "10.26.0.0/24",
        &["route add 10.26.0.0/24 via inet6 fd01::5 dev up0"],
        0,
    ),
    main(
        "10.27.0.0/24",
        &["route add 10.27.0.0/24 encap ip id 5 dst 10.1.0.9 dev up0"],
        0,
    ),
    main(
        "10.28.0.7/32",
        &["route add 10.28.0.7 dev up1 scope link"],
        0,
    ),
    main("fd20::/64", &["-6 route add fd20::/64 via fd02::2"], 1024),
    main(
        "fd21::/64",
        &[
            "-6 route add fd21::/64 via fd01::2 metric 10",
            "-6 route add fd21::/64 dev up1 metric 20 proto static",
        ],
        10,
    ),
    main(
        "fd22::/64",
        &["-6 route add fd22::/64 metric 5 nexthop via fd01::2 weight 3 nexthop via fd02::2"],
        5,
    ),
    main(
        "fd23::/64",
        &[
            "-6 route add fd23::/64 via fd99::7 dev up0 onlink src fd01::1 metric 7 proto static \
           mtu 1300 advmss 1200",
        ],
        7,
    ),
    Case {
        to: "fd24::/64",
        table: 1234,
        made: &["-6 route add fd24::/64 via fd02::2 table 1234"],
        metric: 1024,
    },
    main(
        "::/0",
        &["-6 route add default via fd01::2 pref high metric 100"],
        100,
    ),
    main(
        "fd25::/64",
        &[
            "nexthop add id 17 via fd01::2 dev up0",
            "nexthop add id 18 via fd02::2 dev up1",
            "nexthop add id 20 group 17/18,2",
            "-6 route add fd25::/64 nhid 20",
        ],
        1024,
    ),
    main(
        "fd26::/64",
        &["-6 route add fd26::/64 via fe80::5 dev up0"],
        1024,
    ),
    main(
        "fd27::/64",
        &["-6 route add fd27::/64 encap seg6 mode encap segs fd01::a,fd01::b dev up0"],
        1024,
    ),
    main(
        "fd28::/64",
        &["-6 route add fd28::/64 from fd01::/64 via fd01::2"],
        1024,
    ),
    main("fd29::7/128", &["-6 route add fd29::7 dev up1"], 1024),
];

impl Case {
    fn is_six(&self) -> bool {
        self.to.contains(':')
    }

    /// What may stand in its place; the last is none.
    fn instead(&self, number: usize) -> Option<Instead> {
        let hop: IpAddr = if self.is_six() { "fd01::7" } else { "10.1.0.7" }
            .parse()
            .unwrap();
        [
            Instead::Blackhole,
            Instead::Unreachable,
            Instead::Prohibit,
            Instead::Via(hop),
        ]
        .get(number % WAYS_OUT)
        .copied()
    }

    fn change(&self, number: usize) -> Change {
        Change::Route(RouteChange {
            destination: self.to.parse().unwrap(),
            table: self.table,
            instead: self.instead(number),
        })
    }

    /// Whether exactly what was asked for is there.
    fn bites(&self, host: &Host, number: usize) -> bool {
        let lines = host.routes_to(self.to, self.table);
        let Some(instead) = self.instead(number) else {
            return lines.is_empty();
        };
        let kind = match instead {
            Instead::Blackhole => "blackhole ".to_owned(),
            Instead::Unreachable => "unreachable ".to_owned(),
            Instead::Prohibit => "prohibit ".to_owned(),
            Instead::Via(hop) => format!(" via {hop} dev up0 "),
        };
        let metric = match self.metric {
            0 => String::new(),
            metric => format!(" metric {metric} "),
        };
        let all = [&kind, " proto 199 ", &metric];
        lines.len() == 1 && all.iter().all(|part| lines[0].contains(*part))
    }
}

/// Four kinds of replacement, and withdrawal.
const WAYS_OUT: usize = 5;

fn changes(number: impl Fn(usize) -> usize) -> Vec<Change> {
    let all = CASES.iter().enumerate();
    all.map(|(index, case)| case.change(number(index)))
        .collect()
}

/// Two ways out, and all the routes.
fn host() -> Host {
    let host = Host::with_ways();
    for words in CASES.iter().flat_map(|case| case.made) {
        host.ip(words);
    }
    host
}

/// A drill of one act on every destination, in force.
fn in_force(host: &Host, drill: &str, lasts: &str, number: impl Fn(usize) -> usize) -> Changing {
    let mut changing = host.change(drill, &changes(&number), lasts);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    until("all of it is in force", || {
        let all = CASES.iter().enumerate();
        all.clone()
            .all(|(index, case)| case.bites(host, number(index)))
    });
    changing
}

#[test]
#[ignore = "needs root: network namespace"]
fn each_route_is_gone_or_led_elsewhere_and_back_with_its_time() {
    let host = host();
    let before = host.routes();
    for number in 0..WAYS_OUT {
        let mut changing = in_force(&host, &format!("d{number}"), "3s", |_| number);
        let (code, text) = changing.ends();
        assert_eq!(host.routes(), before, "{number}: {text}");
        assert_eq!((code, text.contains("drifted")), (Some(0), false), "{text}");
    }
}

/// What a program is told differs by what stands there.
#[test]
#[ignore = "needs root: network namespace"]
fn a_program_sees_what_was_asked_for() {
    let told = [
        "Invalid argument",
        "No route to host",
        "Permission denied",
        "via 10.1.0.7 dev up0",
        "via 10.1.0.2 dev up0", // the default route
    ];
    let host = host();
    let case = &CASES[2];
    assert!(host.ip("route get 10.20.0.9").contains("via 10.2.0.2"));
    for (number, words) in told.iter().enumerate() {
        let drill = format!("d{number}");
        let mut changing = host.change(&drill, &[case.change(number)], "60s");
        assert!(changing.says("in force"), "{:?}", changing.ends());
        let (_, seen) = host.tries("ip", "route get 10.20.0.9");
        assert!(seen.contains(words), "{seen}");
        changing.crash();
        host.closes(&drill);
        assert!(host.ip("route get 10.20.0.9").contains("via 10.2.0.2"));
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn a_killed_agent_leaves_it_to_the_guardian() {
    let host = host();
    let before = host.routes();
    for shift in [0, 3] {
        let drill = format!("d{shift}");
        in_force(&host, &drill, "1h", |index| index + shift).crash();
        host.closes(&drill);
        assert_eq!(host.routes(), before);
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn when_both_are_killed_revert_puts_them_back() {
    let host = host();
    let before = host.routes();
    for shift in [1, 4] {
        let drill = format!("d{shift}");
        let mut changing = in_force(&host, &drill, "1h", |index| index + shift);
        changing.crash_with_guardian();
        assert_ne!(host.routes(), before, "nobody is left to end it");
        let told = host.revert_clean();
        assert_eq!(host.routes(), before, "{told}");
        assert!(!told.contains("drifted"), "{told}");
        host.revert_clean();
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn forty_eight_random_deaths_leave_nothing() {
    let host = host();
    let before = host.routes();
    let (first, mut bit) = (first_seed(), 0);
    for seed in first..first + 48 {
        let number = seed as usize / CASES.len();
        let case = &CASES[seed as usize % CASES.len()];
        let bites = || case.bites(&host, number);
        bit += u32::from(die(&host, case.change(number), seed, bites));
        let now = host.routes();
        assert_eq!(now, before, "seed {seed}, {} {number}", case.to);
    }
    println!("48 deaths, seeds from {first}: {bit} with the change in force");
    assert!(bit > 3, "the deaths came at other moments: {bit}");
}

/// Refused, with words; nothing is altered.
fn refused(host: &Host, to: &str, instead: Option<Instead>, word: &str) {
    let before = host.routes();
    let drill = format!("r{}", word.len());
    let (code, text) = host
        .change(&drill, &[make::route(to, instead)], "300ms")
        .ends();
    assert_eq!(code, Some(70), "{text}");
    assert!(
        text.contains(word) && text.contains("nothing was altered"),
        "{text}"
    );
    assert!(!text.contains("armed"), "{text}");
    assert_eq!(but_for_clocks(&host.routes()), but_for_clocks(&before));
}

/// How long a route still lasts is another second by second.
fn but_for_clocks(routes: &str) -> String {
    let is_clock = |word: &&str| {
        word.strip_suffix("sec")
            .is_some_and(|n| n.parse::<u32>().is_ok())
    };
    let words = routes.split(' ').filter(|word| !is_clock(word));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
#[ignore = "needs root: network namespace"]
fn what_could_not_be_put_back_exactly_is_refused() {
    let host = host();
    let several = "in an order that could not be put back";
    for (to, words) in [
        (
            "10.40.0.0/24",
            [
                "route add 10.40.0.0/24 via 10.1.0.2",
                "route append 10.40.0.0/24 via 10.2.0.2",
            ],
        ),
        (
            "10.41.0.0/24",
            [
                "route add 10.41.0.0/24 via 10.1.0.2",
                "route prepend blackhole 10.41.0.0/24",
            ],
        ),
        (
            "fd40::/64",
            [
                "-6 route add fd40::/64 dev up0",
                "-6 route append fd40::/64 dev up1",
            ],
        ),
        (
            "fd41::/64",
            [
                "-6 route add fd41::/64 via fd01::2",
                "-6 route append blackhole fd41::/64",
            ],
        ),
    ] {
        words.iter().for_each(|words| drop(host.ip(words)));
        refused(&host, to, Some(Instead::Prohibit), several);
    }
    host.ip("-6 route add fd42::/64 via fd01::2 expires 600");
    refused(&host, "fd42::/64", None, "ends by itself");
    host.ip("route add blackhole 10.43.0.0/24");
    refused(&host, "10.43.0.0/24", None, "there is no such route");
    let six = Instead::Via("fd01::7".parse().unwrap());
    refused(&host, "10.20.0.0/24", Some(six), "is of another family");
    host.ip("route add 10.44.0.0/24 via 10.1.0.2 metric 7");
    host.ip("route add prohibit 10.44.0.0/24 metric 8 proto 199");
    refused(&host, "10.44.0.0/24", None, "of ours already");
}

#[test]
#[ignore = "needs root: network namespace"]
fn a_route_is_owed_while_its_next_hop_is_out_of_reach() {
    let obstacles = [
        (
            "10.20.0.0/24",
            "rule add to 10.2.0.2 blackhole",
            "rule del to 10.2.0.2 blackhole",
        ),
        (
            "10.20.0.0/24",
            "route del 10.2.0.0/24 dev up1",
            "route add 10.2.0.0/24 dev up1 proto kernel scope link src 10.2.0.1",
        ),
        (
            "fd20::/64",
            "-6 route del fd02::/64 dev up1",
            "-6 route add fd02::/64 dev up1 proto kernel metric 256",
        ),
    ];
    for ((to, obstacle, back), instead) in obstacles
        .into_iter()
        .flat_map(|obstacle| [(obstacle, None), (obstacle, Some(Instead::Blackhole))])
    {
        let host = host();
        let changed = Change::Route(RouteChange {
            destination: to.parse().unwrap(),
            table: 254,
            instead,
        });
        let mut changing = host.change("d", &[changed], "1h");
        assert!(changing.says("in force"), "{:?}", changing.ends());
        host.ip(obstacle);
        changing.crash_with_guardian();
        let output = host.revert_all();
        let told = text(&output);
        assert_eq!(output.status.code(), Some(4), "{obstacle}: {told}");
        let left = host.routes_to(to, 254);
        assert!(left.is_empty(), "ours is not left in its place: {left:?}");
        host.ip(back);
        let told = host.revert_clean();
        assert!(!told.contains("drifted"), "{told}");
        assert_eq!(host.routes_to(to, 254).len(), 1, "{told}");
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn a_route_with_a_leg_that_is_down_is_owed_until_it_is_up() {
    for (to, add) in [
        (
            "10.60.0.0/24",
            "route add 10.60.0.0/24 nexthop via 10.1.0.2 dev up0 nexthop via 10.2.0.2 dev up1",
        ),
        (
            "fd60::/64",
            "-6 route add fd60::/64 nexthop via fe80::2 dev up0 nexthop via fe80::2 dev up1",
        ),
    ] {
        let host = Host::with_ways();
        host.ip(add);
        let before = host.routes_to(to, 254);
        let mut changing = host.change("d", &[make::route(to, None)], "1h");
        assert!(changing.says("in force"), "{:?}", changing.ends());
        host.ip("link set up1 down");
        changing.crash_with_guardian();
        let output = host.revert_all();
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
        host.ip("link set up1 up");
        until("the device is up", || {
            !host.ip("route").contains("linkdown")
        });
        let told = host.revert_clean();
        assert!(!told.contains("drifted"), "{told}");
        assert_eq!(host.routes_to(to, 254), before, "{told}");
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn a_route_with_a_leg_that_is_no_more_is_told_and_not_owed() {
    let host = Host::with_ways();
    let hops = "nexthop via 10.1.0.2 dev up0 nexthop via 10.2.0.2 dev up1";
    host.ip(&format!("route add 10.60.0.0/24 {hops}"));
    let mut changing = host.change("d", &[make::route("10.60.0.0/24", None)], "1h");
    assert!(changing.says("in force"), "{:?}", changing.ends());
    host.ip("link del up1");
    changing.crash_with_guardian();
    let told = host.revert_clean();
    assert!(
        told.contains("drifted") && told.contains("10.60.0.0/24"),
        "{told}"
    );
}
