//! `cellwall-agent run`: reverts what was left open, then serves, and reverts before it ends.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity as TlsIdentity, Server, ServerTlsConfig};
use wire::agent_server::AgentServer;

use crate::changes::Hands;
use crate::drill::describe;
use crate::guardian::Home;
use crate::guards::Identity;
use crate::kernel::memory;
use crate::kernel::process::forbid_core_dumps;
use crate::owner::Owner;
use crate::revert::take_over_all;
use crate::service::{PLAN_BYTES_MOST, Service};
use crate::vantage::{self, Vantage};

/// A guardian that is at work on a journal gets this long to finish.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// An agent that ends keeps its state directory no longer than this.
const ALONE_PATIENCE: Duration = Duration::from_secs(2);
/// An address may come after the agent (IPv6 duplicate address detection, late devices).
const BIND_RETRIES: u32 = 150;
const BIND_PAUSE: Duration = Duration::from_millis(200);

/// Where an agent keeps its journals unless it is told otherwise (FHS: state that survives a reboot).
pub const STATE_DIR: &str = "/var/lib/cellwall";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Cell that this node belongs to
    #[arg(long)]
    pub cell: String,
    /// Name of this node
    #[arg(long)]
    pub node: String,
    /// Address and port to serve on
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// Where journals are kept; must survive a reboot
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub state_dir: PathBuf,
    /// Control group for the guardians, made if it is missing and removed when it is empty; once for each
    /// hierarchy. Without one: `guardian` beside the agent's own, if that is named `agent` (v2)
    #[arg(long, value_name = "DIR")]
    pub guardian_cgroup: Vec<PathBuf>,
    /// What conductors may do here; without it everything but plan and status is refused
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Program that probes from this node, if the policy allows it; else the one beside the agent
    #[arg(long, value_name = "FILE")]
    pub vantage: Option<PathBuf>,
    /// User (and group) that it runs as
    #[arg(long, value_name = "UID", default_value_t = vantage::NOBODY, value_parser = clap::value_parser!(u32).range(1..))]
    pub vantage_user: u32,
    /// PEM certificate that signs the clients that may connect
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,
    /// PEM certificate of this agent (DNS name NODE.CELL)
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
    /// PEM key of this agent
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {cause}", path.display())]
    File { path: PathBuf, cause: io::Error },
    #[error("cannot forbid core dumps, which would keep a dead agent's fault alive: {0}")]
    CoreDumps(io::Error),
    #[error("cannot work on this host's network: {cause}; of earlier drills {left}")]
    Hands {
        cause: crate::kernel::netlink::Error,
        left: String,
    },
    #[error("cannot serve on {listen}: {cause}")]
    Listen {
        listen: SocketAddr,
        cause: io::Error,
    },
    #[error(
        "another agent runs with the state directory {}; nothing was altered; give each its own \
         --state-dir",
        .0.display()
    )]
    Taken(PathBuf),
    #[error("the port must not be 0: it is the one that a cut leaves open")]
    NoPort,
    #[error("cannot watch for signals: {0}")]
    Signals(io::Error),
    #[error(
        "the task that holds the drill died; the kernel deletes its tables when this process ends, and \
         its guardian undoes the rest; look with cellwall-agent revert --all"
    )]
    OwnerDied,
    #[error("the server failed: {0}; everything was reverted")]
    Server(#[from] tonic::transport::Error),
}

/// Ends on SIGTERM or SIGINT, after everything is reverted.
pub async fn run(options: Options) -> Result<(), Error> {
    if options.listen.port() == 0 {
        return Err(Error::NoPort);
    }
    memory::keep_no_large_blocks();
    forbid_core_dumps().map_err(Error::CoreDumps)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let _alone = alone_with(&options.state_dir)?;
    let mut hands = Hands::closed(Some(&options.state_dir));
    let found = take_over_all(&options.state_dir, LOCK_PATIENCE, &mut hands, "start");
    hands.nft().map_err(|cause| Error::Hands {
        cause,
        left: describe(&found),
    })?;

    let tls = tls(&options)?;
    let me = Identity {
        cell: options.cell.clone(),
        node: options.node.clone(),
    };
    let port = options.listen.port();
    let state = options.state_dir.clone();
    let home = Home::of(options.guardian_cgroup.clone());
    let protection = home.tried();
    let (owner, task) = Owner::begin(me.clone(), port, state, hands, found, home);
    let mut task = tokio::spawn(task);
    let vantage = Vantage::of(options.vantage.clone(), options.vantage_user);
    let policy = options.policy.clone();
    let service = Service::new(me, policy, owner.clone(), protection, vantage);
    let listener = tokio::select! {
        listener = listen(options.listen) => listener?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tracing::info!(listen = %options.listen, cell = options.cell, node = options.node, "serving");
    let server = Server::builder()
        .tls_config(tls)?
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .add_service(AgentServer::new(service).max_decoding_message_size(PLAN_BYTES_MOST))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    let result = tokio::select! {
        result = server => result.map_err(Error::Server),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        // Only a panic ends it: with it went the socket, and so the tables; the guardian does the rest.
        _ = &mut task => return Err(Error::OwnerDied),
    };
    owner.stop().await;
    let _ = task.await;
    result
}

/// The lock of the state directory, which ends with this process: two agents would take over each
/// other's journals. Agents of one node with directories of their own do not meet.
fn alone_with(state: &Path) -> Result<File, Error> {
    let file = |cause| Error::File {
        path: state.to_owned(),
        cause,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(file)?;
    let directory = File::open(state).map_err(file)?;
    let begun = Instant::now();
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(TryLockError::Error(cause)) => return Err(file(cause)),
            // Its predecessor may just be ending.
            Err(TryLockError::WouldBlock) if begun.elapsed() < ALONE_PATIENCE => {
                std::thread::sleep(BIND_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Err(Error::Taken(state.to_owned())),
        }
    }
}

/// Only clients with a certificate of the one CA get through; there is no plain mode.
fn tls(options: &Options) -> Result<ServerTlsConfig, Error> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|cause| Error::File {
            path: path.clone(),
            cause,
        })
    };
    let identity = TlsIdentity::from_pem(read(&options.certificate)?, read(&options.key)?);
    Ok(ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(read(&options.ca)?))
        .timeout(Duration::from_secs(10)))
}

async fn listen(listen: SocketAddr) -> Result<TcpListener, Error> {
    let mut tries = 0;
    loop {
        let cause = match TcpListener::bind(listen).await {
            Ok(listener) => return Ok(listener),
            Err(cause) => cause,
        };
        let may_come = matches!(
            cause.kind(),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse
        );
        tries += 1;
        if !may_come || tries > BIND_RETRIES {
            return Err(Error::Listen { listen, cause });
        }
        if tries % 10 == 1 {
            tracing::warn!(%listen, %cause, "waiting for the address");
        }
        tokio::time::sleep(BIND_PAUSE).await;
    }
}
