//! The pricing service of a cell: one price, which is fixed or the cell's own ConfigMap says.

use std::net::SocketAddr;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::ShopError;
use crate::config_map::{self, MapName};
use crate::listen;

/// Cents.
const FIXED: u64 = 4200;

#[derive(clap::Args)]
pub struct Options {
    /// Where it answers; repeat for several addresses
    #[arg(long, required = true, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// Watch the price in this ConfigMap of the own cluster, and keep the last good one
    #[arg(long, value_name = "NAMESPACE/NAME")]
    config_map: Option<MapName>,
}

/// What `GET /price` answers.
#[derive(Serialize, Deserialize)]
pub struct Price {
    /// Cents.
    pub price: u64,
}

pub async fn run(options: Options) -> Result<(), ShopError> {
    let fixed = options.config_map.is_none().then_some(FIXED);
    let (told, price) = watch::channel(fixed);
    let serving = listen::serve(&options.listen, router(price));
    match options.config_map {
        None => Ok(serving.await?),
        Some(map) => {
            // It must be served before the first price is there, to say that it is not ready.
            tokio::select! {
                served = serving => Ok(served?),
                failed = config_map::follow(&map, &told) => Err(failed),
            }
        }
    }
}

fn router(price: watch::Receiver<Option<u64>>) -> Router {
    let ready = price.clone();
    Router::new()
        .route(
            "/price",
            get(move || async move { answer(*price.borrow()) }),
        )
        .route(
            "/healthz",
            get(move || async move {
                match ready.borrow().is_some() {
                    true => (StatusCode::OK, "ok\n"),
                    false => (StatusCode::SERVICE_UNAVAILABLE, "no price yet\n"),
                }
            }),
        )
        .route("/livez", get(|| async { "ok\n" }))
}

fn answer(price: Option<u64>) -> Response {
    match price {
        Some(price) => Json(Price { price }).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "no price yet\n").into_response(),
    }
}
