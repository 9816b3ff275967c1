//! The agent's process and its certificates.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::{Namespace, PORT};

/// A certificate authority of one test.
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    ca: String,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test ca");
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            ca,
        }
    }

    /// Certificate and key in PEM.
    fn issue(&self, common_name: &str, dns: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![dns.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// What a client with this common name presents.
    pub fn client(&self, common_name: &str) -> ClientTlsConfig {
        let (certificate, key) = self.issue(common_name, common_name);
        self.anonymous()
            .identity(Identity::from_pem(certificate, key))
    }

    /// Trusts the agent, presents nothing.
    pub fn anonymous(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .domain_name(wire::agent_tls_name("a", "n1"))
    }

    /// Trusts this authority, presents a certificate of another one.
    pub fn foreign_client(&self) -> ClientTlsConfig {
        let (certificate, key) = Pki::new().issue("conductor", "conductor");
        self.anonymous()
            .identity(Identity::from_pem(certificate, key))
    }
}

/// How an agent is started.
pub struct Way<'a> {
    /// The program, of this build or of another one.
    pub program: &'a Path,
    pub state: &'a Path,
    /// Where certificates and policy are.
    pub files: &'a Path,
    pub port: u16,
    /// A program that executes its arguments, and its own arguments.
    pub around: &'a [String],
}

impl<'a> Way<'a> {
    pub fn usual(state: &'a Path) -> Self {
        Self {
            program: Path::new(env!("CARGO_BIN_EXE_cellwall-agent")),
            state,
            files: state,
            port: PORT,
            around: &[],
        }
    }
}

/// A running cellwall-agent of cell `a`, node `n1`; killed when the test ends.
pub struct AgentProcess {
    pub child: Child,
    pub state: PathBuf,
}

impl AgentProcess {
    pub fn start(node: &Namespace, pki: &Pki, state: &Path) -> Self {
        Self::start_as(&Way::usual(state), node, pki)
    }

    pub fn start_as(way: &Way<'_>, node: &Namespace, pki: &Pki) -> Self {
        let (certificate, key) = pki.issue("a-n1", &wire::agent_tls_name("a", "n1"));
        let file = |name: &str, text: &str| {
            let path = way.files.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let policy = way.files.join("policy.yaml");
        if !policy.exists() {
            file(
                "policy.yaml",
                "allow: [firewall]\nlongest: 10m\nprotected: { cidrs: [192.0.2.0/24] }\n\
                 clients: [conductor, second]\n",
            );
        }
        // It dies with the namespace's thread, so also with a test program that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.args(way.around);
        command.arg(way.program);
        command.args(["run", "--cell", "a", "--node", "n1", "--listen"]);
        command.arg(format!("[::]:{}", way.port));
        command
            .arg("--state-dir")
            .arg(way.state)
            .arg("--policy")
            .arg(policy);
        command.arg("--ca").arg(file("ca.pem", &pki.ca));
        command
            .arg("--certificate")
            .arg(file("agent.pem", &certificate));
        command.arg("--key").arg(file("agent.key", &key));
        let child = node.run(move || command.spawn().unwrap());
        Self {
            child,
            state: way.state.to_owned(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Kills it as a crash would and waits until it is gone.
    pub fn crash(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    /// Waits for its end by itself or by the guardian's hand.
    pub fn wait(&mut self, patience: Duration) -> std::process::ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < patience, "the agent still lives");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn journal(&self, drill: &str) -> String {
        std::fs::read_to_string(self.state.join(format!("journal/{drill}.journal"))).unwrap()
    }

    /// Waits until the drill's journal is closed, and gives back its last line.
    pub fn closed(&self, drill: &str, patience: Duration) -> String {
        let begun = Instant::now();
        loop {
            let journal = self.journal(drill);
            if let Some(last) = journal
                .lines()
                .last()
                .filter(|line| line.contains("\"closed\""))
            {
                return last.to_owned();
            }
            assert!(begun.elapsed() < patience, "still open: {journal}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        let _ = self.child.kill(); // its guardian then ends by itself
        let _ = self.child.wait();
    }
}

/// The guardian of an agent: the only one of its children that is called so.
pub fn guardian_of(agent: u32) -> Pid {
    let path = format!("/proc/{agent}/task/{agent}/children");
    let children = std::fs::read_to_string(path).unwrap();
    let is_guardian = |pid: &&str| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split('\0').nth(1) == Some("guardian")
    };
    let guardians: Vec<&str> = children.split_whitespace().filter(is_guardian).collect();
    assert_eq!(guardians.len(), 1, "{guardians:?}");
    Pid::from_raw(guardians[0].parse().unwrap())
}

/// A stopped process. It goes on when the test is done with it or fails, and also when the whole test
/// program is killed: then a waiting shell reads the end of its pipe.
pub struct Stopped {
    waker: Child,
}

impl Stopped {
    pub fn stop(pid: Pid) -> Self {
        let waker = Command::new("sh")
            .args(["-c", "read _; kill -CONT \"$0\""])
            .arg(pid.to_string())
            .process_group(0) // Ctrl-C is not for it
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stopped = Self { waker };
        kill(pid, Signal::SIGSTOP).unwrap();
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.waker.stdin.take());
        let _ = self.waker.wait();
    }
}
