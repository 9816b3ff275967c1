//! What a part tells of itself at `/metrics`, in Prometheus' text format: requests by route and outcome,
//! and how full it is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Value of `Content-Type`.
pub const TEXT: &str = "text/plain; version=0.0.4";
/// Requests at once above which new ones would wait in a real shop: the pool counts as full.
const POOL: f64 = 64.0;

/// The counters of one process; they begin at 0 with it.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By route and whether it was answered well.
    requests: Mutex<BTreeMap<(String, bool), u64>>,
    in_progress: AtomicI64,
}

/// A request under way; it counts when it is answered, or given up by its client (then as bad).
pub struct UnderWay {
    metrics: Arc<Metrics>,
    route: String,
    good: bool,
}

impl Metrics {
    pub fn begin(self: &Arc<Self>, path: &str) -> UnderWay {
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        UnderWay {
            metrics: Arc::clone(self),
            route: route(path),
            good: false,
        }
    }

    pub fn text(&self) -> String {
        let mut text = String::from(
            "# HELP shop_requests_total Requests that were answered or given up.\n\
             # TYPE shop_requests_total counter\n",
        );
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, good), count) in requests.iter() {
            let outcome = if *good { "good" } else { "bad" };
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "shop_requests_total{{route=\"{route}\",outcome=\"{outcome}\"}} {count}"
            );
        }
        let depth = self.in_progress.load(Ordering::Relaxed).max(0);
        let saturation = depth as f64 / POOL;
        let _ = write!(
            text,
            "# HELP shop_queue_depth Requests under way.\n\
             # TYPE shop_queue_depth gauge\n\
             shop_queue_depth {depth}\n\
             # HELP shop_pool_saturation Requests under way as a share of what the pool holds.\n\
             # TYPE shop_pool_saturation gauge\n\
             shop_pool_saturation {saturation}\n"
        );
        text
    }
}

impl UnderWay {
    /// An answer below 500 is what was asked for, if perhaps not what was hoped for.
    pub fn answered(mut self, status: u16) {
        self.good = status < 500;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let key = (std::mem::take(&mut self.route), self.good);
        let requests = &self.metrics.requests;
        *requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key)
            .or_default() += 1;
        self.metrics.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The first part of a path of the shop, so that ids make no series of their own.
fn route(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let first = path
        .trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default();
    match first {
        "" | "checkout" | "orders" | "healthz" => format!("/{first}"),
        _ => "other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_count_by_route_and_outcome_and_given_up_ones_are_bad() {
        let metrics = Arc::new(Metrics::default());
        metrics.begin("/orders/abc?x").answered(200);
        metrics.begin("/orders").answered(404);
        metrics.begin("/checkout").answered(502);
        drop(metrics.begin("/"));
        metrics.begin("/../etc\"\n").answered(200);
        let under_way = metrics.begin("/checkout");
        let text = metrics.text();
        for line in [
            "shop_requests_total{route=\"/orders\",outcome=\"good\"} 2",
            "shop_requests_total{route=\"/checkout\",outcome=\"bad\"} 1",
            "shop_requests_total{route=\"/\",outcome=\"bad\"} 1",
            "shop_requests_total{route=\"other\",outcome=\"good\"} 1",
            "shop_queue_depth 1",
            "shop_pool_saturation 0.015625",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}: {text}");
        }
        drop(under_way);
        assert!(metrics.text().contains("shop_queue_depth 0\n"));
    }
}
