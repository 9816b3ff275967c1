//! Links, routes, rules and tables: those to alter, and foreign ones that must stay.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, unshare};

use crate::program;

/// The peer at the other end, which is the default gateway and answers echo requests.
pub const OPERATOR: &str = "10.9.0.2";
/// The way to the peer.
pub const UPLINK: &str = "up0";
/// A second one, for what is altered by device.
pub const SIDE: &str = "side0";
/// Somebody else's, with their own queueing discipline on it.
const FOREIGN: &str = "foreign0";
pub const DEVICES: &[&str] = &[UPLINK, SIDE, FOREIGN];

/// IPv6 addresses are usable at once, and nobody advertises routes.
const SYSCTLS: &[(&str, &str)] = &[
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv4/ip_forward", "1"),
];

const PEER: &str = "
link set lo up
addr add 10.9.0.2/24 dev up0
addr add 10.9.0.3/24 dev up0
-6 addr add fd09::2/64 dev up0 nodad
-6 addr add fd09::3/64 dev up0 nodad
addr add 10.8.0.2/24 dev side0
link set up0 up
link set side0 up
";

const HERE: &str = "
link set lo up
addr add 10.9.0.1/24 dev up0
-6 addr add fd09::1/64 dev up0 nodad
addr add 10.8.0.1/24 dev side0
link add foreign0 address 02:00:00:00:00:07 type ifb
link set up0 up
link set side0 txqueuelen 0 up
link set foreign0 up
route add default via 10.9.0.2 metric 30
-6 route add default via fd09::2 metric 30
route add 10.50.0.0/16 via 10.9.0.2 metric 77 mtu 1400 proto static src 10.9.0.1
route add 10.50.0.0/16 via 10.9.0.3 metric 99 proto static
route add 10.51.0.0/16 via 10.9.0.2 proto 44
route add 10.52.0.0/16 dev side0 scope link metric 5 initcwnd 20
route add 10.53.0.0/16 proto static nexthop via 10.9.0.2 weight 1 nexthop via 10.9.0.3 weight 3
-6 route add fd50::/48 via fd09::2 metric 55 proto static mtu 1300
-6 route add fd51::/48 via fd09::2 metric 56 proto static
route add 10.60.0.0/16 via 10.9.0.3 table 100 metric 7
route add blackhole 10.61.0.0/16 table 100
route add 10.99.0.0/16 via 10.9.0.3 proto 186
rule add from 10.200.0.0/16 lookup 100 priority 1000
rule add fwmark 0x2a lookup 101 priority 1001
-6 rule add from fd99::/48 lookup 100 priority 1000
";

const QDISCS: &str = "
qdisc add dev foreign0 root handle 7: htb default 10
class add dev foreign0 parent 7: classid 7:10 htb rate 10mbit ceil 20mbit
class add dev foreign0 parent 7: classid 7:20 htb rate 1mbit
filter add dev foreign0 parent 7: protocol ip prio 1 u32 match ip dst 10.0.0.0/8 flowid 7:20
";

const NFT: &str = "
table inet foreign {
  set some { type ipv4_addr; flags interval; elements = { 203.0.113.0/24, 198.51.100.7 } }
  chain in { type filter hook input priority 0; policy accept;
    ct state established,related accept
    ip saddr @some drop
  }
}
table ip cellwallish { chain c { return; }; }
table netdev foreign { chain e { type filter hook egress device \"foreign0\" priority 5; accept; }; }
";

/// Makes all of it; the answer keeps the peer's namespace alive.
pub fn make() -> Result<File, String> {
    sysctls()?;
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|cause| format!("a namespace: {cause}"))?;
        sysctls()?;
        File::open("/proc/thread-self/ns/net").map_err(|cause| cause.to_string())
    });
    let peer = made.join().map_err(|_| "the peer's thread panicked")??;
    let me = std::process::id();
    let there = format!("/proc/{me}/fd/{}", peer.as_raw_fd());
    // Addresses are fixed, so that two boots of one machine are alike.
    for (number, device) in [(8, SIDE), (9, UPLINK)] {
        let address = |end: u8| format!("address 02:00:00:00:{end:02}:{number:02}");
        let (here, peers) = (address(1), address(2));
        let add = format!(
            "link add {device} {here} type veth peer name {device} {peers} netns {there}\n"
        );
        program::run("ip", &["-batch", "-"], &add)?;
    }
    let entered = peer.try_clone().map_err(|cause| cause.to_string())?;
    let configured = std::thread::spawn(move || {
        nix::sched::setns(&entered, CloneFlags::CLONE_NEWNET).map_err(|cause| cause.to_string())?;
        batch(PEER)
    });
    configured
        .join()
        .map_err(|_| "the peer's thread panicked")??;
    batch(HERE)?;
    program::run("tc", &["-batch", "-"], QDISCS)?;
    program::run("nft", &["-f", "-"], NFT)?;
    Ok(peer)
}

/// In a batch the family stands in front of the whole, so each is a batch of its own.
fn batch(text: &str) -> Result<(), String> {
    let mut steps = text.trim().lines().peekable();
    while let Some(first) = steps.next() {
        let six = |line: &str| line.starts_with("-6 ");
        let mut together = format!("{}\n", first.trim_start_matches("-6 "));
        while let Some(next) = steps.next_if(|next| six(next) == six(first)) {
            together += &format!("{}\n", next.trim_start_matches("-6 "));
        }
        let family = if six(first) { "-6" } else { "-4" };
        program::run("ip", &[family, "-batch", "-"], &together)?;
    }
    Ok(())
}

fn sysctls() -> Result<(), String> {
    for (key, value) in SYSCTLS {
        let path = format!("/proc/sys/net/{key}");
        std::fs::write(&path, value).map_err(|cause| format!("{path}: {cause}"))?;
    }
    Ok(())
}
