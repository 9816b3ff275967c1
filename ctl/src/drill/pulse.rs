//! Whether the conductor still looks at what happens; no lease is renewed for one that does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::drill::prepare::millis;

/// Seconds come in once a second, so this long without any is a conductor that hangs: on its
/// terminal, on its disk, or in a stopped process.
const FRESH: Duration = Duration::from_secs(4);

/// Shared between the one that looks and those that renew.
#[derive(Clone)]
pub struct Pulse {
    origin: Instant,
    beat_ms: Arc<AtomicU64>,
}

impl Pulse {
    pub fn new(origin: Instant) -> Self {
        let pulse = Self {
            origin,
            beat_ms: Arc::default(),
        };
        pulse.beat();
        pulse
    }

    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// Said whenever something that happened has been dealt with.
    pub fn beat(&self) {
        self.beat_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    pub fn is_fresh(&self) -> bool {
        let since = self
            .elapsed_ms()
            .saturating_sub(self.beat_ms.load(Ordering::Relaxed));
        Duration::from_millis(since) < FRESH
    }

    fn elapsed_ms(&self) -> u64 {
        millis(self.origin.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_that_stops_beating_goes_stale() {
        let Some(past) = Instant::now().checked_sub(FRESH * 2) else {
            return;
        };
        let pulse = Pulse {
            origin: past,
            beat_ms: Arc::default(),
        };
        assert!(!pulse.is_fresh());
        pulse.beat();
        assert!(pulse.is_fresh());
    }
}
