//! How many checkouts a front can work on at a time; the others wait in line, as in a real server.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

/// Who waits longer has left: below the 900 ms after which the balancer gives up.
const WAIT_MAX: Duration = Duration::from_millis(850);

#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// Checkouts that are worked on at a time; else any number
    #[arg(long, value_name = "N", requires = "work_ms")]
    workers: Option<NonZeroUsize>,
    /// How long each of them keeps its worker, if its answer does not take longer
    #[arg(long, value_name = "MS", requires = "workers")]
    work_ms: Option<NonZeroU64>,
}

struct Workers {
    free: Semaphore,
    work: Duration,
}

/// Puts the workers in front of a router; where none are named it stays as it is.
pub fn limit(router: Router, options: &Options) -> Router {
    let (Some(workers), Some(work)) = (options.workers, options.work_ms) else {
        return router;
    };
    let workers = Workers {
        free: Semaphore::new(workers.get()),
        work: Duration::from_millis(work.get()),
    };
    router.layer(middleware::from_fn_with_state(Arc::new(workers), queue))
}

async fn queue(State(workers): State<Arc<Workers>>, request: Request, next: Next) -> Response {
    if request.uri().path() != "/checkout" {
        return next.run(request).await;
    }
    match timeout(WAIT_MAX, workers.free.acquire()).await {
        Ok(Ok(_worker)) => {
            // Whatever the answer takes is part of it, so that the room does not depend on the machine.
            let done = Instant::now() + workers.work;
            let response = next.run(request).await;
            sleep_until(done).await;
            response
        }
        _ => {
            let body = json!({ "error": "front: all workers are busy", "part": "front" });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}
