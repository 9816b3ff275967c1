//! The order store of a cell: an order is durable before it is acknowledged, and kept once.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::ShopError;
use crate::journal::{Change, Done, Flaws, Journal};
use crate::listen;
use crate::needs;
use crate::replica;

const ID_LIMIT: usize = 128;
const BODY_LIMIT: usize = 4096;

#[derive(clap::Args)]
pub struct Options {
    /// Where it answers; repeat for several addresses
    #[arg(long, required = true, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// The order log; made if it is not there
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Flaw: acknowledge every Nth new order without keeping it
    #[arg(long, value_name = "N")]
    lossy: Option<NonZeroU64>,
    /// Flaw: write every Nth new order twice
    #[arg(long, value_name = "N")]
    duplicate: Option<NonZeroU64>,
    /// Flaw: forget every Nth update or deletion 2 s after it was acknowledged
    #[arg(long, value_name = "N")]
    resurrect: Option<NonZeroU64>,
    /// Flaw: acknowledge every Nth update without keeping it
    #[arg(long, value_name = "N")]
    stale: Option<NonZeroU64>,
    #[command(flatten)]
    needs: needs::Options,
    #[command(flatten)]
    replica: replica::Options,
}

#[derive(Deserialize)]
struct NewOrder {
    id: String,
}

#[derive(Deserialize)]
struct Update {
    version: u64,
}

/// 1 to 128 of `A-Z a-z 0-9 _ . -`: fit for a line of the log and for a path.
pub fn is_order_id(id: &str) -> bool {
    (1..=ID_LIMIT).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

pub async fn run(options: Options) -> Result<(), ShopError> {
    let flaws = Flaws {
        lossy: options.lossy.map(NonZeroU64::get),
        duplicate: options.duplicate.map(NonZeroU64::get),
        resurrect: options.resurrect.map(NonZeroU64::get),
        stale: options.stale.map(NonZeroU64::get),
    };
    let journal = Arc::new(Journal::open(&options.data, flaws)?);
    let router = Router::new()
        .route("/orders", post(place))
        // Another cell's copy of its order: kept like any, and not copied on.
        .route("/replicas", post(place))
        .route("/orders/{id}", get(read).put(update).delete(delete))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(journal);
    let router = needs::guard(replica::around(router, &options.replica), &options.needs);
    Ok(listen::serve(&options.listen, router).await?)
}

async fn place(State(journal): State<Arc<Journal>>, body: Bytes) -> Response {
    let order: NewOrder = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return refuse(&format!("expected {{\"id\":\"...\"}}: {error}")),
    };
    if !is_order_id(&order.id) {
        return refuse("an order id is 1 to 128 of A-Z a-z 0-9 _ . -");
    }
    change(&journal, order.id, Change::Place).await
}

async fn update(
    State(journal): State<Arc<Journal>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    match serde_json::from_slice(&body) {
        Ok(Update { version }) => change(&journal, id, Change::Update(version)).await,
        Err(error) => refuse(&format!("expected {{\"version\":2}}: {error}")),
    }
}

async fn delete(State(journal): State<Arc<Journal>>, Path(id): Path<String>) -> Response {
    change(&journal, id, Change::Delete).await
}

async fn change(journal: &Journal, id: String, change: Change) -> Response {
    let done = journal.change(id.clone(), change).await;
    let status = match done {
        Some(Done::New) => StatusCode::CREATED,
        Some(Done::Known | Done::Changed) => StatusCode::OK,
        Some(Done::Missing) => return missing(),
        Some(Done::Refused) => StatusCode::CONFLICT,
        None => {
            let body = json!({ "error": "store: the order log cannot be written" });
            return (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response();
        }
    };
    (status, Json(json!({ "id": id }))).into_response()
}

async fn read(State(journal): State<Arc<Journal>>, Path(id): Path<String>) -> Response {
    let Some(stored) = journal.read(&id) else {
        return missing();
    };
    let body = json!({ "id": id, "copies": stored.copies, "version": stored.version });
    Json(body).into_response()
}

fn missing() -> Response {
    (
        StatusCode::NOT_FOUND,
        Json(json!({ "error": "no such order" })),
    )
        .into_response()
}

fn refuse(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response()
}
