//! What one cell serves to all cells in a flawed fleet: tokens, quota, keys, lease, time, releases.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ShopError;
use crate::listen;

/// Units of quota that a front asks for at a time.
pub const LUMP: u64 = 20;
/// What all cells together may do each second.
const QUOTA_PER_SECOND: f64 = 2000.0;
/// How long a key signs.
const KEY_LASTS: Duration = Duration::from_secs(3600);
/// The page that fronts of this release show.
const RELEASE: &str = "<!doctype html><title>shop</title><p>open\n";

#[derive(clap::Args)]
pub struct Options {
    /// Where it answers; repeat for several addresses
    #[arg(long, required = true, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
}

/// What `GET /quota/N` answers.
#[derive(Serialize, Deserialize)]
pub struct Grant {
    /// N at the most.
    pub granted: u64,
}

/// Fills up with time, and holds a second's worth.
struct Bucket {
    level: f64,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, wanted: u64) -> u64 {
        let since = self.filled.elapsed().as_secs_f64();
        self.filled = Instant::now();
        self.level = (self.level + since * QUOTA_PER_SECOND).min(QUOTA_PER_SECOND);
        let granted = (self.level as u64).min(wanted);
        self.level -= granted as f64;
        granted
    }
}

pub async fn run(options: Options) -> Result<(), ShopError> {
    let bucket = Arc::new(Mutex::new(Bucket {
        level: QUOTA_PER_SECOND,
        filled: Instant::now(),
    }));
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/token", get(|| async { Json(json!({ "good": true })) }))
        .route("/quota/{wanted}", get(quota))
        .route("/keys", get(keys))
        .route(
            "/lease",
            get(|| async { Json(json!({ "may_write": true })) }),
        )
        .route(
            "/time",
            get(|| async { Json(json!({ "unix_ms": unix().as_millis() as u64 })) }),
        )
        .route("/release", get(|| async { RELEASE }))
        .with_state(bucket);
    Ok(listen::serve(&options.listen, router).await?)
}

async fn quota(State(bucket): State<Arc<Mutex<Bucket>>>, Path(wanted): Path<u64>) -> Json<Grant> {
    let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
    let granted = bucket.take(wanted);
    Json(Grant { granted })
}

async fn keys() -> Json<Value> {
    let number = unix().as_secs() / KEY_LASTS.as_secs();
    Json(json!({ "key": number }))
}

fn unix() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bucket_grants_what_it_holds_and_no_more() {
        let mut bucket = Bucket {
            level: 30.0,
            filled: Instant::now() + Duration::from_secs(60),
        };
        // Its clock stands still: nothing flows in.
        assert_eq!(bucket.take(LUMP), 20);
        bucket.filled = Instant::now() + Duration::from_secs(60);
        assert_eq!(bucket.take(LUMP), 10);
        bucket.filled = Instant::now() + Duration::from_secs(60);
        assert_eq!(bucket.take(LUMP), 0);
    }
}
