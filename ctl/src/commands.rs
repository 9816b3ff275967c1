//! One file per command.

pub mod demo;
pub mod halt;
pub mod lab;
pub mod library;
pub mod matrix;
pub mod plan;
pub mod revert;
pub mod run;
pub mod schema;
pub mod status;
pub mod verdict;

use std::future::Future;

use crate::failure::Failure;

/// Runs the asynchronous part of a command. Two workers: a handshake must not delay a probe.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?
        .block_on(work)
}
