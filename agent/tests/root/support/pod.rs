//! A pod behind a bridge of the node, and BPF programs that lead its packets past the node's nftables.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use agent::kernel::bpf::{self, Instruction, TCX_INGRESS, instruction};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{AgentProcess, Client, Namespace, PEER, Site};

const POD: &str = "10.244.0.2";

/// A network namespace with a process in it, as a container has.
pub struct Pod {
    pub namespace: Namespace,
    process: Child,
}

impl Pod {
    pub fn start(namespace: Namespace) -> Self {
        let process = asleep(&namespace);
        Self { namespace, process }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends its process; the namespace goes with this.
    pub fn end(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process that only is there; it ends with the namespace's thread at the latest.
pub fn asleep(namespace: &Namespace) -> Child {
    let mut sleep = Command::new("setpriv");
    sleep.args(["--pdeathsig", "KILL", "--", "sleep", "600"]);
    namespace.run(move || sleep.spawn().unwrap())
}

/// Control groups as kubelets make them, below one of this test's own; empty when it is dropped.
pub struct Groups {
    root: PathBuf,
}

impl Groups {
    pub fn new() -> Self {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mut mounts = mounts.lines().map(|line| line.split(' '));
        let unified = mounts.find_map(|mut words| {
            let place = words.nth(1)?;
            (words.next() == Some("cgroup2")).then_some(place)
        });
        let name = format!("cellwall-test-{}", std::process::id());
        let root = Path::new(unified.expect("no cgroup2 is mounted")).join(name);
        std::fs::create_dir(&root).unwrap();
        Self { root }
    }

    /// Makes a process one of this pod of this node.
    pub fn put(&self, node: &str, uid: &str, pid: u32) {
        let group = self.root.join(format!("{node}/kubepods/pod{uid}"));
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        remove(&self.root);
    }
}

/// Ends what is left in a group of ours and in those below it, and removes them.
fn remove(group: &Path) {
    let below = std::fs::read_dir(group).into_iter().flatten().flatten();
    below
        .filter(|entry| entry.path().is_dir())
        .for_each(|entry| remove(&entry.path()));
    let left = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in left.lines().filter_map(|pid| pid.parse().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    for _ in 0..100 {
        if std::fs::remove_dir(group).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The site with a default gateway (the peer) for the node and a pod on its bridge `cni0`.
pub struct PodSite {
    pub site: Site,
    pub pod: Pod,
}

impl PodSite {
    pub fn new() -> Self {
        let site = Site::new();
        site.node.ip("route add default via 10.1.0.2");
        site.node.ip("-6 route add default via fd01::2");
        site.node.ip("link add cni0 type bridge");
        site.node.ip("link set cni0 up");
        site.node.address("cni0", &["10.244.0.1/24", "fd44::1/64"]);
        let namespace = Namespace::new();
        site.node.link("vethpod", &namespace, "eth0");
        site.node.ip("link set vethpod master cni0");
        namespace.address("eth0", &["10.244.0.2/24", "fd44::2/64"]);
        namespace.ip("route add default via 10.244.0.1");
        namespace.ip("-6 route add default via fd44::1");
        Self {
            site,
            pod: Pod::start(namespace),
        }
    }

    /// The policy file's last line, and an agent and its client.
    pub fn with_agent(policy: &str) -> (Self, AgentProcess, Client) {
        let site = Self::new();
        let text = "allow: [firewall]\nlongest: 10m\nclients: [conductor]\n".to_owned() + policy;
        std::fs::write(site.site.state.path().join("policy.yaml"), text).unwrap();
        let agent = site.site.start_agent();
        let client = site.site.client();
        (site, agent, client)
    }

    /// Leads the pod's IPv4 packets past the node's network stack, both ways, until the links are
    /// closed; takes IPv6 from the pod, which has no program.
    pub fn bypass(&self) -> Vec<OwnedFd> {
        let (node, pod) = (&self.site.node, &self.pod.namespace);
        pod.ip("-6 route delete default");
        // The pod's frames never see the bridge, so they carry the gateway's own address.
        let show = self.site.peer.ip("-o link show dev uplink");
        let (_, mac) = show.split_once("link/ether ").unwrap();
        let mac = mac.split_whitespace().next().unwrap();
        pod.ip(&format!(
            "neigh replace 10.244.0.1 lladdr {mac} dev eth0 nud permanent"
        ));
        let (uplink, veth) = (index(node, "topeer"), index(node, "vethpod"));
        let inward = redirect(POD, veth, 155); // bpf_redirect_peer
        let outward = redirect(PEER, uplink, 23); // bpf_redirect
        node.run(move || {
            [(inward, uplink), (outward, veth)]
                .map(|(program, device)| {
                    let program = bpf::load(&program).unwrap();
                    bpf::attach(&program, device, TCX_INGRESS).unwrap()
                })
                .into()
        })
    }
}

fn index(namespace: &Namespace, device: &str) -> u32 {
    let show = namespace.ip(&format!("-o link show dev {device}"));
    show.split(':').next().unwrap().trim().parse().unwrap()
}

/// Hands IPv4 packets for one address to a device by this helper; leaves all others alone.
fn redirect(address: &str, device: u32, helper: i32) -> Vec<Instruction> {
    let address: std::net::Ipv4Addr = address.parse().unwrap();
    vec![
        instruction(0xbf, 0x16, 0, 0),   // r6 = r1: packet loads want it there
        instruction(0x28, 0, 0, 12),     // r0 = ethertype
        instruction(0x55, 0, 6, 0x0800), // not IPv4: leave
        instruction(0x20, 0, 0, 30),     // r0 = destination
        instruction(0x55, 0, 4, u32::from(address).cast_signed()), // another one: leave
        instruction(0xb7, 0x01, 0, device.cast_signed()), // r1 = device
        instruction(0xb7, 0x02, 0, 0),   // r2 = no flags
        instruction(0x85, 0, 0, helper),
        instruction(0x95, 0, 0, 0),
        instruction(0xb7, 0, 0, -1), // TCX_NEXT
        instruction(0x95, 0, 0, 0),
    ]
}
