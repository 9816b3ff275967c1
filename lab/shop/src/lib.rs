//! The sample business of the lab: one program, one subcommand for each part that runs as a process.
//!
//! A library with two thin binaries, so that the static one costs a link and no second build.

mod balancer;
mod capacity;
mod client;
mod config_map;
mod crowd;
mod detour;
mod entrypoint;
mod front;
mod journal;
mod listen;
mod metrics;
mod names;
mod needs;
mod pricing;
mod reference;
mod release;
mod replica;
mod resolve;
mod resolver;
mod shared;
mod store;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(
    name = "shop",
    version,
    about = "The sample business of the lab, one part per process"
)]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Spread requests over the healthy backends of one cell
    Balancer(balancer::Options),
    /// Answer users: static page, checkout, orders
    Front(front::Options),
    /// Say what things cost
    Pricing(pricing::Options),
    /// Keep orders durably
    Store(store::Options),
    /// Resolve the names inside one cell
    Resolver(resolver::Options),
    /// Answer the users of a region with one cell's address at a time
    Entrypoint(entrypoint::Options),
    /// Serve in one cell what all cells need, in a flawed fleet
    Shared(shared::Options),
    /// Be many users of a region
    Crowd(crowd::Options),
    /// Do nothing until it is ended: what holds the namespaces of a pod
    Pause,
    /// Stand outside every cloud, so that the prober can be judged
    Reference(reference::Options),
}

/// Why a part could not start or go on; nothing of it is left running when this is printed.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    #[error("{0}")]
    Listen(#[from] listen::ListenError),
    #[error("{0}")]
    Journal(#[from] journal::JournalError),
    #[error("{0}")]
    Usage(String),
    #[error("the DNS server stopped: {0}; start it again")]
    Dns(String),
    #[error(
        "cannot follow the ConfigMap in the own cluster: {0}; no price is served, start it again"
    )]
    Cluster(String),
    #[error("cannot start the runtime or its signal handlers: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Both binaries.
pub fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    match run(cli.part) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(if matches!(error, ShopError::Usage(_)) {
                64
            } else {
                70
            })
        }
    }
}

fn run(part: Part) -> Result<(), ShopError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            result = serve(part) => result,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    });
    // A part ends at once: a client in the middle of a request sees what it sees when a host dies.
    runtime.shutdown_background();
    result
}

async fn serve(part: Part) -> Result<(), ShopError> {
    match part {
        Part::Balancer(options) => balancer::run(options).await,
        Part::Front(options) => front::run(options).await,
        Part::Pricing(options) => pricing::run(options).await,
        Part::Store(options) => store::run(options).await,
        Part::Resolver(options) => resolver::run(options).await,
        Part::Entrypoint(options) => entrypoint::run(options).await,
        Part::Shared(options) => shared::run(options).await,
        Part::Crowd(options) => crowd::run(options).await,
        Part::Pause => std::future::pending().await,
        Part::Reference(options) => reference::run(options).await,
    }
}
