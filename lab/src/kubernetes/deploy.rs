//! `deploy`: gives a cell its manifests and waits until everything in them runs.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// For the API server to be ready for the first manifest, and then for all pods together.
const LIMIT: Duration = Duration::from_secs(100);
const PAUSE: Duration = Duration::from_millis(300);
/// `NAMESPACE KIND/NAME`.
const WORKLOADS: [[&str; 2]; 4] = [
    ["kube-system", "deployment/coredns"],
    ["shop", "deployment/pricing"],
    ["shop", "deployment/front"],
    ["shop", "statefulset/store"],
];

/// Runs as the operator of one cell, with the cell's own kubectl.
pub fn run(kubectl: &Path, kubeconfig: &Path, manifests: &Path) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let ask = |arguments: &[&str]| until(deadline, kubectl, kubeconfig, arguments);
    let manifests = manifests.display().to_string();
    ask(&["get", "--raw", "/readyz"])?;
    ask(&["apply", "--server-side", "--filename", &manifests])?;
    for [namespace, workload] in WORKLOADS {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = format!("--timeout={}s", left.as_secs().max(1));
        ask(&[
            "--namespace",
            namespace,
            "rollout",
            "status",
            workload,
            &limit,
        ])?;
    }
    Ok(())
}

/// Again and again: a control plane that comes up refuses for many reasons.
fn until(deadline: Instant, kubectl: &Path, kubeconfig: &Path, arguments: &[&str]) -> Result<()> {
    loop {
        // What kubectl keeps goes beside the kubeconfig, which goes with the lab.
        let home = kubeconfig.parent().unwrap_or(Path::new("/"));
        let output: Output = Command::new(kubectl)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(arguments)
            .env("HOME", home)
            .env_remove("KUBECACHEDIR")
            .stdin(Stdio::null())
            .output()
            .map_err(Error::kernel(format!("run {}", kubectl.display())))?;
        if output.status.success() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Start(format!(
                "`kubectl {}` still fails after {} s: {}{}",
                arguments.join(" "),
                LIMIT.as_secs(),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )));
        }
        std::thread::sleep(PAUSE);
    }
}
