//! The release that a front shows: built in, or downloaded when it starts; and when it is replaced.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;

use crate::client::Caller;

const BUILT_IN: &str = "<!doctype html><title>shop</title><p>open\n";
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How long it still serves when it has said that it will end: balancers look every 500 ms.
const DRAIN: Duration = Duration::from_millis(1500);

#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// Where the release is downloaded from before anything is served; else it is built in
    #[arg(long, value_name = "IP:PORT")]
    release_source: Option<SocketAddr>,
    /// It ends, to be replaced, at every multiple of this time by the clock
    #[arg(long, value_name = "MS")]
    replaced_every: Option<NonZeroU64>,
    /// So long after the multiple, so that fronts are not replaced at the same time
    #[arg(long, value_name = "MS", default_value_t = 0)]
    replaced_after: u64,
}

/// One life of a front.
pub struct Life {
    pub page: String,
    ends: Option<(u64, u64)>,
    draining: AtomicBool,
}

impl Life {
    /// Waits for the release for as long as it takes: a server without a release is of no use.
    pub async fn begin(options: &Options) -> Self {
        let page = match options.release_source {
            None => BUILT_IN.to_owned(),
            Some(source) => download(source).await,
        };
        Self {
            page,
            ends: options
                .replaced_every
                .map(|every| (every.get(), options.replaced_after)),
            draining: AtomicBool::new(false),
        }
    }

    pub fn health(&self) -> (StatusCode, &'static str) {
        match self.draining.load(Ordering::Relaxed) {
            false => (StatusCode::OK, "ok\n"),
            true => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        }
    }

    /// Returns when this life is over and no balancer sends anything any more; maybe never.
    pub async fn end(&self) {
        let Some((every, after)) = self.ends else {
            return std::future::pending().await;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(left(now, every, after))).await;
        self.draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(DRAIN).await;
    }
}

async fn download(source: SocketAddr) -> String {
    let caller = Caller::new(source, DOWNLOAD_TIMEOUT);
    loop {
        match caller.get("/release").await {
            Ok(page) => return String::from_utf8_lossy(&page).into_owned(),
            Err(why) => tracing::warn!("no release from {source}: {why}"),
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Milliseconds until the next end that leaves at least half a life. `after` less than `every`.
fn left(now: u64, every: u64, after: u64) -> u64 {
    let since = (now + every - after % every) % every;
    match every - since {
        short if short < every / 2 => short + every,
        enough => enough,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_end_in_turn_and_last_at_least_half() {
        assert_eq!(left(100_000, 10_000, 0), 10_000);
        assert_eq!(left(104_000, 10_000, 0), 6_000);
        assert_eq!(left(107_000, 10_000, 0), 13_000);
        assert_eq!(left(107_000, 10_000, 5_000), 8_000);
        assert_eq!(left(101_000, 10_000, 5_000), 14_000);
    }
}
