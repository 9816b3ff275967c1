//! The agent's program: its drill of one node, its start, its `revert --all`, and what they say.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};

use crate::trace;
use crate::world::Place;

/// The agent's exit code when something is left.
pub const RESIDUE: i32 = 4;
const PORT: u16 = 7443;
const PATIENCE: Duration = Duration::from_secs(20);
/// Of each program's output, in a report.
const LINES_TOLD: usize = 12;

pub struct Programs {
    pub agent: PathBuf,
    desk: PathBuf,
    state: PathBuf,
}

impl Programs {
    /// Writes the certificates and the policy that a restart needs.
    pub fn new(agent: &Path, place: &Place) -> Result<Self, String> {
        let programs = Self {
            agent: agent.to_owned(),
            desk: place.desk(),
            state: place.state(),
        };
        programs
            .write_papers()
            .map_err(|cause| format!("the agent's papers: {cause}"))?;
        Ok(programs)
    }

    fn write_papers(&self) -> Result<(), Box<dyn std::error::Error>> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let mut own = CertificateParams::new(vec![wire::agent_tls_name("here", "here")])?;
        own.distinguished_name = DistinguishedName::new();
        own.distinguished_name.push(DnType::CommonName, "here");
        let key = KeyPair::generate()?;
        let certificate = own.signed_by(&key, &issuer)?.pem();
        fs::write(self.desk.join("ca.pem"), authority)?;
        fs::write(self.desk.join("agent.pem"), certificate)?;
        fs::write(self.desk.join("agent.key"), key.serialize_pem())?;
        let policy = "allow: []\nlongest: 1m\nclients: [nobody]\n";
        fs::write(self.desk.join("policy.yaml"), policy)?;
        Ok(())
    }

    /// Appends the words of a drill of this node alone to a command that names the program.
    pub fn change(
        &self,
        command: &mut Command,
        changes: &Path,
        duration: Duration,
        operator: &str,
    ) {
        command.args(["change", "--drill", "crash", "--lease", "10s"]);
        command
            .args(["--operator", operator, "--state-dir"])
            .arg(&self.state);
        command
            .arg("--duration")
            .arg(format!("{}ms", duration.as_millis()));
        command.arg(changes).stdin(Stdio::null());
        self.heard(command, "drill");
    }

    /// What it says goes into files: a pipe could fill up and hold it.
    fn heard(&self, command: &mut Command, name: &str) {
        for (kind, out) in [("out", true), ("err", false)] {
            let file = File::create(self.desk.join(format!("{name}.{kind}")));
            let file = file.map_or_else(|_| Stdio::null(), Stdio::from);
            match out {
                true => command.stdout(file),
                false => command.stderr(file),
            };
        }
    }

    /// Whether the drill has written a line that begins so.
    pub fn has_said(&self, word: &str) -> bool {
        let said = fs::read_to_string(self.desk.join("drill.out")).unwrap_or_default();
        said.lines().any(|line| line.starts_with(word))
    }

    /// The last lines of all programs.
    pub fn said(&self) -> Vec<String> {
        let mut told = Vec::new();
        for name in [
            "drill.out",
            "drill.err",
            "restart.err",
            "revert.out",
            "revert.err",
        ] {
            let text = fs::read(self.desk.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(LINES_TOLD)..];
            told.extend(last.iter().map(|line| format!("{name}: {line}")));
        }
        told
    }
}

/// Starts the real agent, waits until it serves, and asks it to end.
pub fn restart(programs: &Programs) -> Result<(), String> {
    let desk = |name: &str| programs.desk.join(name);
    let mut command = Command::new(&programs.agent);
    command.args(["run", "--cell", "here", "--node", "here", "--listen"]);
    command.arg(format!("127.0.0.1:{PORT}"));
    command.arg("--state-dir").arg(&programs.state);
    command.arg("--policy").arg(desk("policy.yaml"));
    command.arg("--ca").arg(desk("ca.pem"));
    command.arg("--certificate").arg(desk("agent.pem"));
    command.arg("--key").arg(desk("agent.key"));
    command.stdin(Stdio::null());
    programs.heard(&mut command, "restart");
    let mut child = command
        .spawn()
        .map_err(|cause| format!("cannot start the agent: {cause}"))?;
    let serves = until_it_serves(&mut child);
    if serves.is_ok() {
        let _ = kill(trace::pid(child.id()), Signal::SIGTERM);
    } else {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|cause| cause.to_string())?;
    serves?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("the restarted agent ended with {status}")),
    }
}

fn until_it_serves(child: &mut Child) -> Result<(), String> {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", PORT)).is_err() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!(
                "the restarted agent ended with {status} before it served"
            ));
        }
        if begun.elapsed() > PATIENCE {
            return Err("the restarted agent does not serve".to_owned());
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(())
}

/// Runs the offline way back to its end.
pub fn revert(programs: &Programs) -> Result<(), String> {
    let mut command = Command::new(&programs.agent);
    command
        .args(["revert", "--all", "--state-dir"])
        .arg(&programs.state);
    command.stdin(Stdio::null());
    programs.heard(&mut command, "revert");
    let status = command
        .status()
        .map_err(|cause| format!("cannot run revert --all: {cause}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("revert --all ended with {status}")),
    }
}
