//! The clocks of this machine against each other: steps of the wall clock, and time spent suspended.
//!
//! Probes run on CLOCK_MONOTONIC, which shows neither. Certificates, leases and what servers log go by
//! the wall clock, and a suspended machine sees nothing of a fault that goes on without it
//! (clock_gettime(2)).

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use scenarios::history::ClockStep;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Between two looks. Slewing moves a clock by less than a thousandth (adjtimex(2): 500 ppm).
const LOOK: Duration = Duration::from_millis(100);
/// What is less is slewed, and not stepped, by the daemons that keep time (ntpd and chronyd: 128 ms).
const STEP_MS: i64 = 100;
/// Three clocks that were not read within this were read with a pause between.
const AT_ONCE_NS: i128 = 2_000_000;

/// Other clocks against the monotonic one, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offsets {
    wall: i128,
    boot: i128,
}

impl Offsets {
    /// None if this thread was interrupted meanwhile.
    fn now() -> Option<Self> {
        let ns = |clock| nanoseconds(clock_gettime(clock));
        let before = ns(ClockId::Monotonic);
        let (wall, boot) = (ns(ClockId::Realtime), ns(ClockId::Boottime));
        let took = ns(ClockId::Monotonic) - before;
        (took < AT_ONCE_NS).then_some(Self {
            wall: wall - before,
            boot: boot - before,
        })
    }

    /// Both in whole ms; none if neither is a step.
    fn since(self, last: Self) -> Option<(i64, u64)> {
        let ms = |ns: i128| i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX);
        let (wall, boot) = (ms(self.wall - last.wall), ms(self.boot - last.boot));
        let step = wall.abs() >= STEP_MS || boot >= STEP_MS;
        step.then(|| (wall, u64::try_from(boot).unwrap_or(0)))
    }
}

fn nanoseconds(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Looks at the clocks from its making on.
pub struct Clocks {
    origin: Instant,
    last: Option<Offsets>,
    looks: tokio::time::Interval,
}

impl Clocks {
    /// `origin` is 0 ms of the drill. Must be called on a tokio runtime with time.
    pub fn since(origin: Instant) -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            origin,
            last: Offsets::now(),
            looks,
        }
    }

    /// The next step; it may never come. Whoever drops the future loses nothing.
    pub async fn next(&mut self) -> ClockStep {
        loop {
            self.looks.tick().await;
            if let Some((wall_ms, suspended_ms)) = self.look() {
                let at = Instant::now().saturating_duration_since(self.origin);
                return ClockStep {
                    at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
                    wall_ms,
                    suspended_ms,
                };
            }
        }
    }

    fn look(&mut self) -> Option<(i64, u64)> {
        let now = Offsets::now()?;
        let last = self.last.replace(now)?;
        now.since(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_sleep_are_told_and_slewing_is_not() {
        let last = Offsets { wall: 7, boot: 5 };
        let after = |wall_ms: i128, boot_ms: i128| {
            let now = Offsets {
                wall: last.wall + wall_ms * 1_000_000,
                boot: last.boot + boot_ms * 1_000_000,
            };
            now.since(last)
        };
        assert_eq!(after(0, 0), None);
        assert_eq!(after(99, 0), None);
        assert_eq!(after(-99, 0), None);
        assert_eq!(after(100, 0), Some((100, 0)));
        assert_eq!(after(-3_600_000, 0), Some((-3_600_000, 0)));
        assert_eq!(after(5_000, 5_000), Some((5_000, 5_000)));
        assert_eq!(after(0, 5_000), Some((0, 5_000)), "and set back meanwhile");
    }

    #[tokio::test]
    async fn clocks_that_run_together_tell_nothing() {
        let mut clocks = Clocks::since(Instant::now());
        let told = tokio::time::timeout(Duration::from_millis(500), clocks.next()).await;
        assert!(told.is_err(), "{told:?}");
    }
}
