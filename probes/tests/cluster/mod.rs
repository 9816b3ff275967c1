//! A real etcd and kube-apiserver in a network namespace of their own, for one test.
#![allow(dead_code)] // each test binary uses some of it

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SERVER: &str = "10.99.0.1";

/// The folder with `etcd` and `kube-apiserver`: `KUBEBUILDER_ASSETS`, else our own cache.
pub fn controlplane() -> PathBuf {
    if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") {
        return assets.into();
    }
    let cache = std::env::var_os("CELLWALL_CACHE").unwrap_or_else(|| "/var/cache/cellwall".into());
    PathBuf::from(cache).join("controlplane/current")
}

/// Runs a test on this thread and its children, with a loopback that nobody else sees.
pub fn in_a_network_of_its_own(test: impl Future<Output = ()>) {
    // Of this thread alone: the machine's own network is not touched.
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (root)");
    for arguments in [
        vec!["link", "set", "lo", "up"],
        vec!["addr", "add", "10.99.0.1/32", "dev", "lo"],
    ] {
        assert!(
            Command::new("ip")
                .args(&arguments)
                .status()
                .expect("ip")
                .success(),
            "{arguments:?}"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// One control plane; ends with the test, however that ends.
pub struct Cluster {
    folder: tempfile::TempDir,
    etcd: Child,
    apiserver: Child,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in [&mut self.apiserver, &mut self.etcd] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Cluster {
    /// Starts both and waits until the API server is ready.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("cellwall-probes-")
            .tempdir()
            .unwrap();
        let at = folder.path();
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(at.join("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(at.join("sa.pub"), key.public_key_pem()).unwrap();
        std::fs::write(
            at.join("tokens.csv"),
            "secret,admin,admin,\"system:masters\"\nplain,nobody,nobody\nnarrow,writer,writer\n",
        )
        .unwrap();
        let data = at.join("etcd").display().to_string();
        // Its own addresses are the defaults of every etcd, 127.0.0.1:2379 and 2380.
        let durable = [
            "--data-dir",
            &data,
            "--unsafe-no-fsync",
            "--log-level",
            "warn",
        ];
        let etcd = program(at, "etcd", &durable);
        let apiserver = apiserver(at);
        let mut cluster = Self {
            folder,
            etcd,
            apiserver,
        };
        cluster.ready().await;
        std::fs::write(cluster.kubeconfig(), KUBECONFIG).unwrap();
        std::fs::write(cluster.folder.path().join("other.crt"), foreign_ca()).unwrap();
        cluster
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Registers a node as a kubelet would.
    pub fn add_node(&self, name: &str, address: &str) {
        let node = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{{\"name\":\"{name}\"}},\"status\":\
             {{\"addresses\":[{{\"type\":\"InternalIP\",\"address\":\"{address}\"}}]}}}}"
        );
        let status = self.ask("POST", "/api/v1/nodes", &node);
        assert_eq!(status, "201", "{node}");
    }

    /// The status of an answer to the admin; by curl, which is not ours.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let url = format!("https://{SERVER}:6443{path}");
        let mut curl = Command::new("curl");
        curl.args(["-sk", "-X", method, "-o", "/dev/null", "-w", "%{http_code}"]);
        curl.args(["-H", "Authorization: Bearer secret"]);
        if !body.is_empty() {
            let kind = match method {
                "PATCH" => "Content-Type: application/merge-patch+json",
                _ => "Content-Type: application/json",
            };
            curl.args(["-H", kind, "--data", body]);
        }
        let output = curl.arg(url).output().expect("curl");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn stop_etcd(&self) {
        signal(&self.etcd, Signal::SIGSTOP);
    }

    pub fn continue_etcd(&self) {
        signal(&self.etcd, Signal::SIGCONT);
    }

    pub fn kill_apiserver(&mut self) {
        self.apiserver.kill().unwrap();
        self.apiserver.wait().unwrap();
    }

    pub fn start_apiserver(&mut self) {
        self.apiserver = apiserver(self.folder.path());
    }

    /// Seconds of CPU that both have used.
    pub fn cpu(&self) -> f64 {
        [&self.etcd, &self.apiserver].map(cpu).iter().sum()
    }

    async fn ready(&mut self) {
        let until = Instant::now() + Duration::from_secs(300);
        let certificate = self.folder.path().join("certs/apiserver.crt");
        loop {
            if let Some(status) = self.apiserver.try_wait().unwrap() {
                panic!(
                    "kube-apiserver ended: {status}\n{}",
                    log(self.folder.path(), "kube-apiserver")
                );
            }
            // Readiness is anyone's to ask; curl is not ours, so its word is independent.
            let curl = [
                "-sk",
                "-m",
                "1",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "https://10.99.0.1:6443/readyz",
            ];
            let answer = Command::new("curl").args(curl).output().expect("curl");
            if answer.stdout == b"200" && certificate.exists() {
                return;
            }
            assert!(
                Instant::now() < until,
                "not ready:\n{}",
                log(self.folder.path(), "kube-apiserver")
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
clusters:
- { name: here, cluster: { server: 'https://10.99.0.1:6443', certificate-authority: certs/apiserver.crt } }
- { name: insecure, cluster: { server: 'https://10.99.0.1:6443', insecure-skip-tls-verify: true } }
- { name: gone, cluster: { server: 'https://10.99.0.1:6444', insecure-skip-tls-verify: true } }
- { name: foreign, cluster: { server: 'https://10.99.0.1:6443', certificate-authority: other.crt } }
users:
- { name: admin, user: { token: secret } }
- { name: wrong, user: { token: guessed } }
- { name: nobody, user: { token: plain } }
- { name: writer, user: { token: narrow } }
contexts:
- { name: here, context: { cluster: here, user: admin } }
- { name: gone, context: { cluster: gone, user: admin } }
- { name: wrong-token, context: { cluster: insecure, user: wrong } }
- { name: wrong-ca, context: { cluster: foreign, user: admin } }
- { name: nobody, context: { cluster: here, user: nobody } }
- { name: writer, context: { cluster: here, user: writer } }
";

fn foreign_ca() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec![SERVER.to_owned()]).unwrap();
    parameters.self_signed(&key).unwrap().pem()
}

fn apiserver(at: &Path) -> Child {
    let file = |name: &str| at.join(name).display().to_string();
    program(
        at,
        "kube-apiserver",
        &[
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=10.99.0.1",
            "--advertise-address=10.99.0.1",
            "--secure-port=6443",
            &format!("--cert-dir={}", file("certs")),
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            &format!("--service-account-key-file={}", file("sa.pub")),
            &format!("--service-account-signing-key-file={}", file("sa.key")),
            &format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC",
        ],
    )
}

/// The kernel kills it should this test die without a word.
fn program(at: &Path, name: &str, arguments: &[&str]) -> Child {
    let binary = controlplane().join(name);
    assert!(
        binary.exists(),
        "{} is missing; set KUBEBUILDER_ASSETS or build the control plane",
        binary.display()
    );
    let log = std::fs::File::create(at.join(format!("{name}.log"))).unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("setpriv")
}

fn log(at: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(at.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// utime and stime of proc_pid_stat(5), in ticks of 10 ms.
fn cpu(child: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
