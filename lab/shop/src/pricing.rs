//! The pricing service of a cell: one price, no dependencies.

use std::net::SocketAddr;

use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::ShopError;
use crate::listen;

#[derive(clap::Args)]
pub struct Options {
    /// Where it answers; repeat for several addresses
    #[arg(long, required = true, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
}

/// What `GET /price` answers.
#[derive(Serialize, Deserialize)]
pub struct Price {
    /// Cents.
    pub price: u64,
}

pub async fn run(options: Options) -> Result<(), ShopError> {
    let router = Router::new()
        .route("/price", get(|| async { Json(Price { price: 4200 }) }))
        .route("/healthz", get(|| async { "ok\n" }));
    Ok(listen::serve(&options.listen, router).await?)
}
