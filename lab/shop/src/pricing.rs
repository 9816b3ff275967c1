//! The pricing service of a cell: one price, which is fixed or the cell's own ConfigMap says.

use std::net::SocketAddr;
use std::str::FromStr;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::ShopError;
use crate::{config_map, listen};

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

/// Which ConfigMap.
#[derive(Clone, Debug)]
pub struct MapName {
    pub namespace: String,
    pub name: String,
}

impl FromStr for MapName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err("expected NAMESPACE/NAME".to_owned()),
        }
    }
}

/// What `GET /price` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Cents.
    pub price: u64,
}

pub async fn run(options: Options) -> Result<(), ShopError> {
    let fixed = options
        .config_map
        .is_none()
        .then_some(Price { price: FIXED });
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

fn router(price: watch::Receiver<Option<Price>>) -> Router {
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

fn answer(price: Option<Price>) -> Response {
    match price {
        Some(price) => Json(price).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "no price yet\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_named_by_two_words() {
        let name: MapName = "shop/pricing".parse().unwrap();
        assert_eq!(
            (name.namespace.as_str(), name.name.as_str()),
            ("shop", "pricing")
        );
        for wrong in ["shop", "/pricing", "shop/"] {
            assert!(wrong.parse::<MapName>().is_err(), "{wrong}");
        }
    }
}
