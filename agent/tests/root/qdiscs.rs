//! Queueing disciplines of ours in the place of whatever was there, which is back however it ends.

use scenarios::change::{Netem, Shape};

use crate::support::*;

/// Devices and what stands there before: the kernel's own defaults, and what others have set.
const DEVICES: [(&str, &[&str]); 8] = [
    ("up0", &[]),
    ("up1", &["qdisc add dev up1 root handle 1: pfifo limit 77"]),
    ("tap0", &[]),
    ("taps", &[]),
    ("idle", &[]),
    (
        "tap1",
        &["qdisc add dev tap1 root handle 2: bfifo limit 9000"],
    ),
    (
        "tap2",
        &[
            "qdisc add dev tap2 root handle 3: tbf rate 3mbit burst 9k limit 90k peakrate 4mbit mtu 2000",
        ],
    ),
    (
        "tap3",
        &[
            "qdisc add dev tap3 root tbf rate 50gbit burst 2mb latency 7ms",
            "qdisc add dev tap3 clsact",
            "filter add dev tap3 ingress protocol ip u32 match ip dst 10.7.0.1 \
             action mirred egress mirror dev up0",
        ],
    ),
];

fn host() -> Host {
    let host = Host::with_ways();
    for name in ["tap0", "tap1", "tap2", "tap3", "taps", "idle"] {
        let queues = if name == "taps" { "multi_queue" } else { "" };
        host.ip(&format!("tuntap add mode tap {queues} name {name}"));
        host.ip(&format!("link set {name} addrgenmode none"));
        if name != "idle" {
            host.ip(&format!("link set {name} up"));
        }
    }
    for words in DEVICES.iter().flat_map(|(_, made)| *made) {
        host.tc(words);
    }
    let seen = host.qdiscs();
    for what in [
        "noqueue 0: dev up0",
        "pfifo_fast 0: dev tap0",
        "mq 0: dev taps",
    ] {
        assert!(seen.contains(what), "{what}: {seen}");
    }
    host
}

fn towards(netem: Option<Netem>) -> Shape {
    Shape::Towards {
        peers: vec![
            "10.1.0.0/29".parse().unwrap(),
            "fd01::/120".parse().unwrap(),
        ],
        rate_bps: 1_000_000,
        netem,
    }
}

/// What `tc` must tell of each shape; the first is a line of its own in all of them.
fn shapes() -> [(Shape, &'static [&'static str]); 3] {
    [
        (
            make::tbf(8_000_000, 10_240, 50_000),
            &["tbf c5a0: root", "rate 8Mbit burst 10Kb", "lat 50ms"],
        ),
        (
            make::tbf(100_000_000_000, 1_024_000, 1_000),
            &["tbf c5a0: root", "rate 100Gbit", "lat 1ms"],
        ),
        (
            towards(None),
            &[
                "htb c5a0: root",
                "class htb c5a0:1 root",
                "rate 1Mbit ceil 1Mbit",
                "match 0a010000/fffffff8 at 16",
                "match fd010000/ffffffff at 24",
                "match 00000000/ffffff00 at 36",
            ],
        ),
    ]
}

fn bites(host: &Host, device: &str, words: &[&str]) -> bool {
    let all = ["qdisc", "class", "filter"].map(|what| format!("-d {what} show dev {device}"));
    let seen = all.map(|words| host.tc(&words)).concat();
    words.iter().all(|word| seen.contains(word))
}

/// A drill of one shape on every device, in force.
fn in_force(host: &Host, drill: &str, lasts: &str, number: usize) -> Changing {
    let (shape, words) = &shapes()[number];
    let changes = DEVICES.map(|(device, _)| make::qdisc(device, shape));
    let mut changing = host.change(drill, &changes, lasts);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    until("all of it is in force", || {
        DEVICES.iter().all(|(device, _)| bites(host, device, words))
    });
    changing
}

#[test]
#[ignore = "needs root: network namespace"]
fn each_shape_is_there_and_what_was_before_is_back_with_its_time() {
    let host = host();
    let before = host.qdiscs();
    for number in 0..shapes().len() {
        let mut changing = in_force(&host, &format!("d{number}"), "3s", number);
        let (code, text) = changing.ends();
        assert_eq!(host.qdiscs(), before, "{text}");
        assert_eq!((code, text.contains("drifted")), (Some(0), false), "{text}");
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn a_killed_agent_leaves_it_to_the_guardian() {
    let host = host();
    let before = host.qdiscs();
    for number in 0..shapes().len() {
        let drill = format!("d{number}");
        in_force(&host, &drill, "1h", number).crash();
        host.closes(&drill);
        assert_eq!(host.qdiscs(), before);
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn when_both_are_killed_revert_puts_them_back() {
    let host = host();
    let before = host.qdiscs();
    for number in 0..shapes().len() {
        let mut changing = in_force(&host, &format!("d{number}"), "1h", number);
        changing.crash_with_guardian();
        assert_ne!(host.qdiscs(), before, "nobody is left to end it");
        let told = host.revert_clean();
        assert_eq!(host.qdiscs(), before, "{told}");
        assert!(!told.contains("drifted"), "{told}");
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn forty_eight_random_deaths_leave_nothing() {
    let host = host();
    let before = host.qdiscs();
    let (first, mut bit) = (first_seed(), 0);
    for seed in first..first + 48 {
        let (device, _) = DEVICES[seed as usize % DEVICES.len()];
        let (shape, words) = &shapes()[seed as usize / DEVICES.len() % 3];
        let bites = || bites(&host, device, words);
        bit += u32::from(die(&host, make::qdisc(device, shape), seed, bites));
        assert_eq!(host.qdiscs(), before, "seed {seed}, {device} {shape:?}");
    }
    println!("48 deaths, seeds from {first}: {bit} with the change in force");
    assert!(bit > 3, "the deaths came at other moments: {bit}");
}

/// Of the first line of statistics that has this word.
fn count(host: &Host, what: &str, word: &str) -> u32 {
    let told = host.tc(&format!("-s {what}"));
    let words: Vec<&str> = told.split([' ', ',', '(']).collect();
    let at = words.iter().position(|seen| *seen == word).unwrap();
    let number = if word == "pkt" { at - 1 } else { at + 1 };
    words[number].parse().unwrap()
}

#[test]
#[ignore = "needs root: network namespace"]
fn a_bucket_that_is_empty_drops_what_comes() {
    let host = host();
    let slow = make::qdisc("up0", &make::tbf(8_000, 2_000, 1_000));
    let mut changing = host.change("d", &[slow], "1h");
    assert!(changing.says("in force"), "{:?}", changing.ends());
    // 42 bytes of headers each: one goes at once, one may wait, the next ones are too many.
    host.send("up0", "10.1.0.2", 30);
    let dropped = count(&host, "qdisc show dev up0 root", "dropped");
    assert!(dropped > 10, "{dropped}");
    changing.crash();
    host.closes("d");
}

#[test]
#[ignore = "needs root: network namespace"]
fn only_what_goes_to_the_peers_is_held_back() {
    let host = host();
    let mut changing = host.change("d", &[make::qdisc("up0", &towards(None))], "1h");
    assert!(changing.says("in force"), "{:?}", changing.ends());
    for (to, count) in [
        ("10.1.0.2", 5),
        ("fd01::2", 4),
        ("10.1.0.9", 3),
        ("fd01::1:2", 3),
    ] {
        host.send("up0", to, count);
    }
    let class = "class show dev up0 classid c5a0:1";
    until("all of it has left", || count(&host, class, "pkt") >= 9);
    assert_eq!(count(&host, class, "pkt"), 9, "and nothing else");
    assert!(count(&host, "qdisc show dev up0 root", "pkt") >= 15);
    changing.crash();
    host.closes("d");
}

/// A class and a filter that somebody puts below ours, or another rate for it.
const INTRUSIONS: [(&str, &str); 4] = [
    (
        "class add dev up0 parent c5a0: classid c5a0:7 htb rate 5mbit",
        "class c5a0:7",
    ),
    (
        "filter add dev up0 parent c5a0: protocol ip prio 1 u32 match ip dst 10.1.0.40/32 \
         classid c5a0:1",
        "filter u32 of priority 1",
    ),
    (
        "class change dev up0 parent c5a0: classid c5a0:1 htb rate 9mbit",
        "our class has changed",
    ),
    (
        "qdisc add dev up0 parent c5a0:1 handle 77: pfifo limit 5",
        "qdisc pfifo 77:",
    ),
];

#[test]
#[ignore = "needs root: network namespace"]
fn what_others_put_below_ours_stays_and_the_fault_ends() {
    let host = host();
    for (number, (intrusion, word)) in INTRUSIONS.into_iter().enumerate() {
        let drill = format!("d{number}");
        let before = host.qdiscs();
        let mut changing = host.change(&drill, &[make::qdisc("up0", &towards(None))], "1h");
        assert!(changing.says("in force"), "{:?}", changing.ends());
        host.tc(intrusion);
        changing.crash_with_guardian();
        let told = text(&host.revert_all());
        assert!(told.contains("drifted") && told.contains(word), "{told}");
        let filters = host.tc("filter show dev up0 parent c5a0:");
        assert!(!filters.contains("0a010000/fffffff8"), "{filters}");
        assert!(
            host.tc("qdisc show dev up0").contains("htb c5a0:"),
            "{told}"
        );
        assert_eq!(
            filters.contains("0a010028/ffffffff"),
            number == 1,
            "{filters}"
        );
        // Whoever has put it there takes all of it away.
        host.tc("qdisc del dev up0 root");
        assert_eq!(host.qdiscs(), before, "{told}");
        host.revert_clean();
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn what_others_put_below_a_bucket_goes_with_it_and_is_told() {
    let host = host();
    host.ip("link set up0 txqueuelen 0");
    let before = host.qdiscs();
    let slow = make::qdisc("up0", &make::tbf(8_000_000, 10_240, 50_000));
    let mut changing = host.change("d", &[slow], "1s");
    assert!(changing.says("in force"), "{:?}", changing.ends());
    host.tc("qdisc replace dev up0 parent c5a0:1 handle 77: pfifo limit 9");
    let (code, text) = changing.ends();
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("drifted") && text.contains("qdisc 77: below it"),
        "{text}"
    );
    assert_eq!(host.qdiscs(), before, "{text}");
    assert!(!host.ip("link show up0").contains("qlen"), "{text}");
}

#[test]
#[ignore = "needs root: network namespace"]
fn a_device_with_another_name_gets_its_queue_length_back() {
    let host = host();
    host.ip("link set up0 txqueuelen 0");
    let slow = make::qdisc("up0", &make::tbf(8_000_000, 10_240, 50_000));
    let mut changing = host.change("d", &[slow], "1h");
    assert!(changing.says("in force"), "{:?}", changing.ends());
    for words in ["up0 down", "up0 name other0", "other0 up"] {
        host.ip(&format!("link set {words}"));
    }
    changing.crash_with_guardian();
    host.revert_clean();
    let seen = host.ip("link show other0");
    assert!(!seen.contains("qlen"), "{seen}");
}

/// Refused, with words; nothing is altered.
fn refused(host: &Host, device: &str, shape: &Shape, word: &str) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let before = host.qdiscs();
    let changing = &mut host.change(
        &format!("r{number}"),
        &[make::qdisc(device, shape)],
        "300ms",
    );
    let (code, text) = changing.ends();
    assert_eq!(host.qdiscs(), before, "{text}");
    assert_eq!(code, Some(70), "{text}");
    assert!(
        text.contains(word) && text.contains("nothing was altered"),
        "{text}"
    );
    assert!(!text.contains("armed"), "{text}");
}

#[test]
#[ignore = "needs root: network namespace"]
fn what_could_not_be_put_back_exactly_is_refused() {
    let host = host();
    let [(slow, _), ..] = shapes();
    let foreign: [(&[&str], &str); 5] = [
        (
            &[
                "qdisc add dev up0 root handle 7: htb default 3",
                "class add dev up0 parent 7: classid 7:3 htb rate 9mbit",
            ],
            "up0 has qdisc htb 7: of another owner",
        ),
        (
            &["qdisc add dev up0 root handle 7: pfifo_fast"],
            "qdisc pfifo_fast 7:",
        ),
        (
            &["qdisc add dev up0 root stab overhead 10 linklayer atm mtu 2048 pfifo limit 5"],
            "it has a table of sizes",
        ),
        (
            &["qdisc add dev up0 root est 1s 4s pfifo limit 5"],
            "it has a measurement of its rate",
        ),
        (
            &[
                "qdisc add dev up0 root handle 7: tbf rate 3mbit burst 9k limit 90k",
                "qdisc add dev up0 parent 7:1 handle 70: pfifo limit 3",
            ],
            "it has qdisc 70: below it",
        ),
    ];
    for (made, word) in foreign {
        for words in made {
            host.tc(words);
        }
        refused(&host, "up0", &slow, word);
        host.tc("qdisc del dev up0 root");
    }
}

#[test]
#[ignore = "needs root: network namespace"]
fn what_is_not_there_or_was_not_said_is_refused() {
    let host = host();
    let [(slow, _), ..] = shapes();
    refused(&host, "up7", &slow, "there is no device up7");
    let nobody = Shape::Towards {
        peers: Vec::new(),
        rate_bps: 1_000_000,
        netem: None,
    };
    refused(&host, "up0", &nobody, "no peer is named");
    host.tc("qdisc add dev up0 root handle c5a0: pfifo limit 3");
    refused(&host, "up0", &slow, "up0 has one of ours already");
}

#[test]
#[ignore = "needs root: network namespace, a kernel without netem"]
fn a_kernel_says_so_at_arm_needs_no_netem() {
    let host = host();
    let (has_it, _) = host.tries("tc", "qdisc add dev lo root netem delay 1ms");
    assert!(!has_it, "this kernel has netem");
    let slow = Netem {
        delay_us: 50_000,
        ..Netem::default()
    };
    for shape in [Shape::Netem(slow.clone()), towards(Some(slow))] {
        refused(&host, "up0", &shape, "this kernel cannot do it");
    }
}
