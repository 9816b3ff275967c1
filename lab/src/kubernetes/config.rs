//! The configuration files of a worker's programs, as text.

use std::fs;
use std::path::PathBuf;

use super::worker::{SOCKET, Worker};
use crate::error::{Error, Result};

pub const SHOP_IMAGE: &str = "cellwall.dev/shop:lab";
pub const PAUSE_IMAGE: &str = "cellwall.dev/pause:lab";

/// Writes them all into the worker's directory.
pub fn write(worker: &Worker) -> Result<()> {
    for (name, text) in [
        ("containerd.toml", containerd(worker)),
        ("kubelet.yaml", kubelet(worker)),
        ("kube-proxy.yaml", kube_proxy(worker)),
        ("masquerade.nft", masquerade(worker)),
        ("cni/10-pods.conflist", cni(worker)),
        // Pods that ask outside of their cell have a resolver of their own to name.
        ("resolv.conf", String::new()),
    ] {
        let path = worker.file(name);
        let directory: PathBuf = path.parent().unwrap_or(&worker.directory).to_path_buf();
        fs::create_dir_all(&directory).map_err(Error::file("make", &directory))?;
        fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

/// `restrict_oom_score_adj`: without it runc dies where nothing may lower oom_score_adj (a root
/// without CAP_SYS_RESOURCE).
fn containerd(worker: &Worker) -> String {
    let root = worker.file("containerd").display().to_string();
    let runc = worker.unpacked.join("usr/sbin/runc").display().to_string();
    let plugins = worker.unpacked.join("usr/lib/cni").display().to_string();
    let networks = worker.file("cni").display().to_string();
    format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        SystemdCgroup = false
"#
    )
}

/// `failCgroupV1: false`: 1.36 refuses cgroup v1 by default.
fn kubelet(worker: &Worker) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\n\
         kind: KubeletConfiguration\n\
         address: {address}\n\
         authentication: {{ anonymous: {{ enabled: true }}, webhook: {{ enabled: false }} }}\n\
         authorization: {{ mode: AlwaysAllow }}\n\
         failCgroupV1: false\n\
         cgroupDriver: cgroupfs\n\
         cgroupRoot: /{cgroup}\n\
         enforceNodeAllocatable: [pods]\n\
         containerRuntimeEndpoint: unix://{SOCKET}\n\
         failSwapOn: false\n\
         localStorageCapacityIsolation: false\n\
         makeIPTablesUtilChains: false\n\
         clusterDNS: [\"{dns}\"]\n\
         clusterDomain: cluster.local\n\
         resolvConf: {resolver}\n\
         podLogsDir: {logs}\n\
         volumePluginDir: {plugins}\n\
         evictionHard: {{ memory.available: 50Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, \
         imagefs.available: 1% }}\n\
         imageGCHighThresholdPercent: 100\n\
         nodeStatusUpdateFrequency: 4s\n\
         maxPods: 60\n",
        address = worker.inside[0],
        cgroup = worker.cgroup(),
        dns = worker.dns,
        resolver = worker.file("resolv.conf").display(),
        logs = worker.file("pod-logs").display(),
        plugins = worker.file("volume-plugins").display(),
    )
}

/// All conntrack values 0: kube-proxy leaves the kernel's alone.
fn kube_proxy(worker: &Worker) -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
         kind: KubeProxyConfiguration\n\
         mode: nftables\n\
         hostnameOverride: {}\n\
         clusterCIDR: \"{},{}\"\n\
         clientConnection: {{ kubeconfig: {} }}\n\
         conntrack: {{ maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s \
         }}\n",
        worker.namespace,
        worker.pods[0],
        worker.pods[1],
        worker.file("kubeconfig").display(),
    )
}

/// Pods have inside addresses, which are routed nowhere: what they send out of their cell leaves
/// with their node's address. The CNI plugin's own masquerade needs the iptables program.
fn masquerade(worker: &Worker) -> String {
    let rule = |family: &str, index: usize| {
        format!(
            "    {family} saddr {} {family} daddr != {} oifname \"eth0\" masquerade\n",
            worker.pods[index], worker.cell[index]
        )
    };
    format!(
        "table inet lab {{\n  chain out {{\n    type nat hook postrouting priority srcnat;\n{}{}  \
         }}\n}}\n",
        rule("ip", 0),
        rule("ip6", 1)
    )
}

fn cni(worker: &Worker) -> String {
    let range = |index: usize| serde_json::json!([{ "subnet": worker.pods[index].to_string() }]);
    let bridge = serde_json::json!({
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": true,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "dataDir": "/var/lib/cni/networks",
            "ranges": [range(0), range(1)],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        },
    });
    let list = serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [bridge],
    });
    format!("{list:#}\n")
}
