//! Starts the processes of the lab, reaps them, and starts them again when they die.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
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
/// How long one look at an address that a service waits for may take, and the pause after it.
const GATE_ATTEMPT: Duration = Duration::from_millis(500);
const GATE_PAUSE: Duration = Duration::from_millis(20);
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
    /// Tasks that have not succeeded yet, by index of the service.
    tasks: BTreeSet<usize>,
    /// Services whose time to start (again) has come.
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
        let indexed = layout.services.iter().enumerate();
        let tasks = indexed.filter(|(_, service)| service.role == Role::Task);
        let tasks = tasks.map(|(index, _)| index).collect();
        Ok(Supervisor {
            layout,
            namespaces,
            host_proc,
            children,
            running,
            agents,
            tasks,
            due,
            restart,
        })
    }

    pub fn start_all(&mut self) -> Result<()> {
        for (index, service) in self.layout.services.iter().enumerate() {
            match service.after {
                None => self.start(index)?,
                Some(address) => self.start_after(index, &service.namespace, address)?,
            }
        }
        Ok(())
    }

    /// Starts a service when this address takes connections, seen from the service's own host.
    fn start_after(&self, index: usize, namespace: &str, address: SocketAddr) -> Result<()> {
        let place = self.namespaces.get(namespace)?.try_clone();
        let place = place.map_err(Error::kernel("keep a descriptor of a namespace"))?;
        let due = self.restart.clone();
        std::thread::spawn(move || {
            if setns(place.as_fd(), CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
            // Nobody waits any more when the lab is ending; until then somebody does.
            while !due.is_closed() {
                if TcpStream::connect_timeout(&address, GATE_ATTEMPT).is_ok() {
                    let _ = due.send(index);
                    return;
                }
                std::thread::sleep(GATE_PAUSE);
            }
        });
        Ok(())
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

    /// Until every check and every task has succeeded. A process that ends before that is a failure: with the
    /// same arguments it would end again.
    pub async fn until_ready(&mut self, ready: oneshot::Receiver<Result<()>>) -> Result<()> {
        tokio::pin!(ready);
        let mut checked = false;
        loop {
            for (index, status) in self.reap() {
                if !self.done(index, &status) {
                    return Err(Error::Start(self.obituary(index, &status)));
                }
            }
            if checked && self.tasks.is_empty() {
                return Ok(());
            }
            tokio::select! {
                outcome = &mut ready, if !checked => {
                    let early = || Error::Start("the checks of the lab ended early".to_string());
                    outcome.unwrap_or_else(|_| Err(early()))?;
                    checked = true;
                }
                Some(index) = self.due.recv() => self.start(index)?,
                _ = self.children.recv() => {}
            }
        }
    }

    /// Whether this end is the success of a task.
    fn done(&mut self, index: usize, status: &WaitStatus) -> bool {
        matches!(status, WaitStatus::Exited(_, 0)) && self.tasks.remove(&index)
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
