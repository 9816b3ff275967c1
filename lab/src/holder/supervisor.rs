//! Starts the processes of the lab, reaps them, and starts them again when they die.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::namespaces::Namespaces;
use super::{Announcer, HostProc};
use crate::error::{Error, Result};
use crate::layout::{Layout, Role, Service};
use crate::state::Record;

/// How long a dead process stays away, as `RestartSec` of systemd.
const RESTART_AFTER: Duration = Duration::from_millis(200);
/// How much of a log an error shows, in lines.
const LOG_SHOWN: usize = 12;

/// The processes of the lab. It is the first process of its PID namespace, so every orphan in
/// there is its child as well and must be reaped.
pub struct Supervisor<'a> {
    layout: &'a Layout,
    namespaces: &'a Namespaces,
    host_proc: &'a HostProc,
    children: Signal,
    /// Index of the service by the pid in the lab's own PID namespace.
    running: HashMap<i32, usize>,
    /// Host pids of the running agents by index of the service.
    agents: BTreeMap<usize, i32>,
    /// Services whose time to start again has come.
    due: mpsc::UnboundedReceiver<usize>,
    restart: mpsc::UnboundedSender<usize>,
}

impl<'a> Supervisor<'a> {
    pub fn new(
        layout: &'a Layout,
        namespaces: &'a Namespaces,
        host_proc: &'a HostProc,
    ) -> Result<Supervisor<'a>> {
        let children =
            signal(SignalKind::child()).map_err(Error::kernel("listen for ended children"))?;
        let (restart, due) = mpsc::unbounded_channel();
        let (running, agents) = (HashMap::new(), BTreeMap::new());
        Ok(Supervisor {
            layout,
            namespaces,
            host_proc,
            children,
            running,
            agents,
            due,
            restart,
        })
    }

    pub fn start_all(&mut self) -> Result<()> {
        (0..self.layout.services.len()).try_for_each(|index| self.start(index))
    }

    /// Host pids of the agents that run, by `NODE.CELL`.
    pub fn agents(&self) -> BTreeMap<String, i32> {
        let named =
            |(index, pid): (&usize, &i32)| (self.layout.services[*index].namespace.clone(), *pid);
        self.agents.iter().map(named).collect()
    }

    fn start(&mut self, index: usize) -> Result<()> {
        let service = &self.layout.services[index];
        let failed = format!(
            "start {} on {}",
            service.program.display(),
            service.namespace
        );
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&service.log);
        let log = log.map_err(Error::file("open", &service.log))?;
        let errors = log.try_clone().map_err(Error::file("open", &service.log))?;
        let namespace = self.namespaces.get(&service.namespace)?.try_clone();
        let namespace = namespace.map_err(Error::kernel("keep a descriptor of a namespace"))?;
        let mut command = Command::new(&service.program);
        command
            .args(&service.arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(std::env::var_os("RUST_LOG").map(|level| ("RUST_LOG", level)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        crate::child::in_namespace(&mut command, namespace);
        let child = command.spawn().map_err(Error::kernel(failed))?;
        self.running.insert(child.id() as i32, index);
        if service.role == Role::Agent {
            // It may be dead already, but it cannot be reaped before this thread does it.
            let pidfd: OwnedFd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
                .map_err(Error::kernel("open a pidfd of an agent"))?;
            self.agents.insert(index, self.host_proc.pid_of(&pidfd)?);
        }
        Ok(())
    }

    /// Reaps whatever has ended. Returns the services among it.
    fn reap(&mut self) -> Vec<(usize, WaitStatus)> {
        let mut ended = Vec::new();
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return ended,
                Err(Errno::EINTR) => continue,
                // ECHILD: there are no children.
                Err(_) => return ended,
                Ok(status) => status,
            };
            let service = status
                .pid()
                .and_then(|pid| self.running.remove(&pid.as_raw()));
            if let Some(index) = service {
                self.agents.remove(&index);
                ended.push((index, status));
            }
        }
    }

    /// Until every check has succeeded. A process that ends before that is a failure: with the
    /// same arguments it would end again.
    pub async fn until_ready(&mut self, ready: oneshot::Receiver<Result<()>>) -> Result<()> {
        tokio::pin!(ready);
        loop {
            if let Some((index, status)) = self.reap().first() {
                return Err(Error::Start(self.obituary(*index, status)));
            }
            tokio::select! {
                outcome = &mut ready => return outcome.unwrap_or_else(|_| {
                    Err(Error::Start("the checks of the lab ended early".to_string()))
                }),
                _ = self.children.recv() => {}
            }
        }
    }

    /// Until the janitor goes away; otherwise for as long as nobody kills the holder.
    pub async fn keep(&mut self, announcer: &Announcer, mut record: Record) -> Result<()> {
        let failed = "listen to the janitor";
        let line = announcer
            .line()
            .try_clone()
            .map_err(Error::kernel(failed))?;
        line.set_nonblocking(true).map_err(Error::kernel(failed))?;
        let mut line = tokio::net::UnixStream::from_std(line).map_err(Error::kernel(failed))?;
        let mut word = [0];
        loop {
            for (index, status) in self.reap() {
                eprintln!("{}", self.obituary(index, &status));
                let restart = self.restart.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(RESTART_AFTER).await;
                    // The receiver lives as long as the holder.
                    let _ = restart.send(index);
                });
            }
            self.publish(announcer, &mut record)?;
            tokio::select! {
                _ = self.children.recv() => {}
                Some(index) = self.due.recv() => self.start(index)?,
                // It never speaks: whatever comes is the end of the janitor.
                _ = line.read(&mut word) => return Ok(()),
            }
        }
    }

    fn publish(&self, announcer: &Announcer, record: &mut Record) -> Result<()> {
        let now = self.agents();
        if record.agents != now {
            record.agents = now;
            announcer.write(record)?;
        }
        Ok(())
    }

    fn obituary(&self, index: usize, status: &WaitStatus) -> String {
        let service = &self.layout.services[index];
        let how = match status {
            WaitStatus::Exited(_, code) => format!("ended with exit code {code}"),
            WaitStatus::Signaled(_, signal, _) => format!("was killed by {signal}"),
            other => format!("changed to {other:?}"),
        };
        format!("{} {how}{}", title(service), last_lines(&service.log))
    }
}

fn title(service: &Service) -> String {
    let program = service
        .program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let part = service.arguments.first().map_or("", String::as_str);
    format!("`{program} {part}` on {}", service.namespace)
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_SHOWN)..];
    match shown {
        [] => ", and logged nothing".to_string(),
        _ => format!(". The end of its log:\n  {}", shown.join("\n  ")),
    }
}
