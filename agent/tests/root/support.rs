//! A node with an agent between an operator and a peer, each in a network namespace of its own.

mod agent;
mod client;
mod deaths;
mod disk;
mod groups;
pub mod make;
mod net;
mod pod;
mod traffic;

use std::process::Command;
use std::sync::mpsc;

pub use agent::{AgentProcess, Pki, Stopped, Way, guardian_of};
pub use client::{Client, PORT, boottime, cut, cut_of_the_conductor, others, plan, step, words};
pub use deaths::{die, first_seed};
pub use disk::{Changing, Host, text, until};
pub use groups::{Group, Sleeper, state_of};
pub use net::{INNER, WITHIN};
pub use pod::{Groups, Pod, PodSite, asleep};
pub use traffic::{ECHO, Echo, Reach, UdpPath, ping6, tcp, tcp_from, udp};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace held by one thread; it is gone when the thread and what it started are.
pub struct Namespace {
    jobs: mpsc::Sender<Job>,
    tid: i32,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            queue.into_iter().for_each(|job| job());
        });
        let namespace = Self {
            jobs,
            tid: told.recv().unwrap(),
        };
        namespace.ip("link set lo up");
        // Else a router sends no neighbour solicitation until its link-local address is checked.
        for key in ["all/accept_dad", "default/accept_dad"] {
            namespace.sysctl(&format!("net/ipv6/conf/{key}"), "0");
        }
        namespace
    }

    /// Runs something inside; what it starts or opens stays inside.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.jobs
            .send(Box::new(move || drop(tell.send(job()))))
            .unwrap();
        told.recv().expect("a job in a namespace panicked")
    }

    pub fn ip(&self, arguments: &str) -> String {
        self.command("ip", arguments)
    }

    pub fn command(&self, program: &'static str, arguments: &str) -> String {
        let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        let output = self.run(move || Command::new(program).args(words).output().unwrap());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A veth pair between this and another namespace: (name here, name there).
    pub fn link(&self, here: &str, other: &Self, there: &str) {
        let netns = other.tid;
        self.ip(&format!(
            "link add {here} type veth peer name {there} netns {netns}"
        ));
        for (namespace, name) in [(self, here), (other, there)] {
            namespace.ip(&format!("link set dev {name} up"));
        }
    }

    pub fn address(&self, device: &str, addresses: &[&str]) {
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            self.ip(&format!("addr add {address} dev {device} {nodad}"));
        }
    }

    pub fn sysctl(&self, key: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/{key}"), value.to_owned());
        self.run(move || std::fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}")));
    }

    /// Every nftables table but ours, as nft prints it.
    pub fn foreign_tables(&self) -> String {
        let tables = self.command("nft", "list tables");
        let foreign = tables.lines().filter(|line| !line.contains("cellwall_"));
        foreign
            .map(|line| self.command("nft", &format!("-a list {line}")))
            .collect()
    }

    pub fn our_tables(&self) -> usize {
        self.command("nft", "list tables")
            .matches("cellwall_")
            .count()
    }
}

pub const OPERATOR: &str = "10.9.0.2";
pub const OPERATOR_6: &str = "fd09::2";
pub const NODE: &str = "10.9.0.1";
pub const NODE_AT_PEER: &str = "10.1.0.1";
pub const NODE_AT_PEER_6: &str = "fd01::1";
pub const PEER: &str = "10.1.0.2";
pub const PEER_6: &str = "fd01::2";

/// operator (10.9.0.2) -- node (router, with the agent) -- peer (10.1.0.2); IPv6 beside it.
pub struct Site {
    pub operator: Namespace,
    pub node: Namespace,
    pub peer: Namespace,
    pub pki: Pki,
    pub state: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        let (operator, node, peer) = (Namespace::new(), Namespace::new(), Namespace::new());
        operator.link("uplink", &node, "toop");
        node.link("topeer", &peer, "uplink");
        operator.address("uplink", &["10.9.0.2/24", "fd09::2/64"]);
        node.address("toop", &["10.9.0.1/24", "fd09::1/64"]);
        node.address("topeer", &["10.1.0.1/24", "fd01::1/64"]);
        peer.address("uplink", &["10.1.0.2/24", "fd01::2/64"]);
        for (namespace, v4, v6) in [
            (&operator, "10.9.0.1", "fd09::1"),
            (&peer, "10.1.0.1", "fd01::1"),
        ] {
            namespace.ip(&format!("route add default via {v4}"));
            namespace.ip(&format!("-6 route add default via {v6}"));
        }
        node.sysctl("net/ipv4/ip_forward", "1");
        node.sysctl("net/ipv6/conf/all/forwarding", "1");
        Self {
            operator,
            node,
            peer,
            pki: Pki::new(),
            state: tempfile::tempdir().unwrap(),
        }
    }

    /// The site with its agent up and a client at the operator.
    pub fn with_agent() -> (Self, AgentProcess, Client) {
        let site = Self::new();
        let agent = site.start_agent();
        let client = site.client();
        (site, agent, client)
    }

    pub fn start_agent(&self) -> AgentProcess {
        AgentProcess::start(&self.node, &self.pki, self.state.path())
    }

    pub fn client(&self) -> Client {
        Client::new(&self.operator, self.pki.client("conductor"))
    }
}
