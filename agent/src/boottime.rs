//! CLOCK_BOOTTIME: the one clock of deadlines, because it goes on while the machine is suspended.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// tokio's timers run on CLOCK_MONOTONIC, which stops in suspend; long sleeps are cut into slices
/// of this length, so that a deadline is met at most this late after a resume.
const SLICE: Duration = Duration::from_millis(100);

/// Nanoseconds of CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boottime(pub u64);

impl Boottime {
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Both parts are never negative on this clock.
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    pub fn plus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long from now until this; zero if it has passed.
    pub fn left(self) -> Duration {
        self.since(Self::now())
    }

    pub fn passed(self) -> bool {
        Self::now() >= self
    }
}

/// Returns at `until` or a little later (timer resolution 1 ms).
pub async fn sleep_until(until: Boottime) {
    loop {
        let left = until.left();
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(SLICE)).await;
    }
}

/// Burns the processor until `until`: for the last instant before all agents act together.
pub fn spin_until(until: Boottime) {
    while !until.passed() {
        std::hint::spin_loop();
    }
}

/// Milliseconds of wall time since 1970, for people who read journals.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Names this boot of the machine; what a kernel held under another one is gone.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}
