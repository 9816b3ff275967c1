//! Synchronous replication: an order is acknowledged when another store has it, too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;

use crate::client::Caller;

/// Below the 850 ms after which a front gives up.
const COPY_TIMEOUT: Duration = Duration::from_millis(700);
const BODY_LIMIT: usize = 4096;

#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// Flaw: acknowledge an order only when this store has it as well
    #[arg(long, value_name = "IP:PORT")]
    replica: Option<SocketAddr>,
}

/// Puts the copying around a store; where no replica is named it stays as it is.
pub fn around(router: Router, options: &Options) -> Router {
    match options.replica {
        None => router,
        Some(to) => {
            let caller = Arc::new(Caller::new(to, COPY_TIMEOUT));
            router.layer(middleware::from_fn_with_state(caller, copy))
        }
    }
}

async fn copy(State(replica): State<Arc<Caller>>, request: Request, next: Next) -> Response {
    // Updates and deletions stay with the store that has the order.
    if request.uri().path() != "/orders" || request.method() != Method::POST {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let Ok(order) = to_bytes(body, BODY_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let own = next
        .run(Request::from_parts(head, Body::from(order.clone())))
        .await;
    if !own.status().is_success() {
        return own;
    }
    match replica.post("/replicas", order).await {
        Ok(_) => own,
        Err(why) => {
            let body = json!({ "error": format!("replica: {why}"), "part": "replica" });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}
