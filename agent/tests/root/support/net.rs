//! Two ways out of a host, and its routes, queueing disciplines and tables as their own tools tell them.

use std::net::UdpSocket;
use std::process::Command;

use super::disk::{Host, text, until};

/// The name of [`Host::add_inner`]'s namespace, and how to get there.
pub const INNER: &str = "inner";
pub const WITHIN: [&str; 2] = ["nsenter", "--net=/run/netns/inner"];

impl Host {
    /// With `up0` (10.1.0.1/24, fd01::1/64) and `up1` (10.2.0.1/24, fd02::1/64), at rest: nothing that
    /// the kernel does by itself will alter a route any more. Each of them ends in a device of the same
    /// namespace that has no address, so what leaves is lost.
    pub fn with_ways() -> Self {
        let host = Self::new();
        host.make_ways("");
        host
    }

    /// The same two in a namespace that `ip -n` knows, when that is what stands before each command.
    fn make_ways(&self, within: &str) {
        let ip = |words: &str| self.ip(&format!("{within} {words}"));
        for (number, way) in [(1, "up0"), (2, "up1")] {
            ip(&format!("link add {way} type veth peer name end{number}"));
            for device in [way, &format!("end{number}")] {
                ip(&format!("link set {device} addrgenmode none"));
                ip(&format!("link set {device} up"));
            }
            ip(&format!("addr add 10.{number}.0.1/24 dev {way}"));
            ip(&format!("addr add fd0{number}::1/64 dev {way} nodad"));
        }
        until("the devices are up", || {
            ip("link show type veth").matches("state UP").count() == 4
                && !ip("route").contains("linkdown")
        });
    }

    /// A namespace beside this one, which is held by its mount and by who is in it: its two ways have the
    /// same names, numbers and addresses as those of [`Self::with_ways`].
    pub fn add_inner(&self) {
        self.command("mount", "-t tmpfs none /run");
        self.ip(&format!("netns add {INNER}"));
        self.make_ways(&format!("-n {INNER}"));
    }

    /// The routes and qdiscs of that.
    pub fn inner(&self) -> String {
        let ip = |words: &str| self.ip(&format!("-n {INNER} {words}"));
        let routes = ip("-4 -d route show table all") + &ip("-6 -d route show table all");
        routes + &self.tc(&format!("-n {INNER} -d qdisc show"))
    }

    pub fn ip(&self, arguments: &str) -> String {
        self.command("ip", arguments)
    }

    pub fn tc(&self, arguments: &str) -> String {
        self.command("tc", arguments)
    }

    /// Whether a program succeeds, and what it says on both streams.
    pub fn tries(&self, program: &'static str, arguments: &str) -> (bool, String) {
        let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        let output = self.run(move || Command::new(program).args(words).output().unwrap());
        (output.status.success(), text(&output))
    }

    /// All routes of all tables.
    pub fn routes(&self) -> String {
        let (four, six) = ("-4 -d route show table all", "-6 -d route show table all");
        self.ip(four) + &self.ip(six)
    }

    /// The routes to exactly this prefix, a line each; `ip` is asked with all details.
    pub fn routes_to(&self, prefix: &str, table: u32) -> Vec<String> {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        let show = self.ip(&format!(
            "{family} -d -o route show table {table} exact {prefix}"
        ));
        show.lines().map(str::to_owned).collect()
    }

    /// The qdiscs of all devices, and classes and filters below them.
    pub fn qdiscs(&self) -> String {
        let mut all = self.tc("-d qdisc show");
        for line in self.ip("-o link show").lines() {
            let name = line.split([':', '@']).nth(1).unwrap_or_default().trim();
            for (what, place) in [("class", ""), ("filter", ""), ("filter", "ingress")] {
                // It fails at a device that can have none.
                let words = format!("-d {what} show dev {name} {place}");
                all += &format!("{words}: {}", self.tries("tc", &words).1);
            }
        }
        all
    }

    /// Links, addresses, rules, routes, qdiscs and nft tables.
    pub fn whole_network(&self) -> String {
        let rest = [
            "-d addr show",
            "-4 rule show",
            "-6 rule show",
            "nexthop show",
        ];
        let rest: String = rest.map(|what| self.ip(what)).concat();
        rest + &self.routes() + &self.qdiscs() + &self.command("nft", "list ruleset")
    }

    /// Sends so many datagrams of 1000 bytes to an address behind `device`, whoever is there.
    pub fn send(&self, device: &str, to: &'static str, count: usize) {
        self.ip(&format!(
            "neigh replace {to} lladdr 02:00:00:00:00:01 dev {device} nud permanent"
        ));
        self.run(move || {
            let any = if to.contains(':') {
                "[::]:0"
            } else {
                "0.0.0.0:0"
            };
            let socket = UdpSocket::bind(any).unwrap();
            for _ in 0..count {
                // What a qdisc drops may be told to the sender (ENOBUFS).
                let _ = socket.send_to(&[0; 1_000], (to, 9));
            }
        });
        self.ip(&format!("neigh del {to} dev {device}"));
    }
}
