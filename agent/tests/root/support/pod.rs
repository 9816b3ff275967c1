//! A pod behind a bridge of the node, and BPF programs that lead its packets past the node's nftables.

use std::os::fd::OwnedFd;
use std::process::{Child, Command};

use agent::kernel::bpf::{self, Instruction, TCX_INGRESS, instruction};

use super::{AgentProcess, Client, Namespace, PEER, Site};

const POD: &str = "10.244.0.2";

/// A network namespace with a process in it, as a container has.
pub struct Pod {
    pub namespace: Namespace,
    process: Child,
}

impl Pod {
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
        let mut sleep = Command::new("setpriv");
        sleep.args(["--pdeathsig", "KILL", "--", "sleep", "600"]);
        let process = namespace.run(move || sleep.spawn().unwrap());
        Self {
            site,
            pod: Pod { namespace, process },
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
