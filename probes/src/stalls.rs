//! When the prober itself stood still, by its own clock: what was late then is not a cell's fault.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Waking up later than this is a stall. The driver wakes up at least every [`TICK`].
const STALL: Duration = Duration::from_millis(50);
/// Longest sleep of the driver.
pub const TICK: Duration = Duration::from_millis(20);

/// Spans in which the runtime did not run: blocked, starved of CPU, stopped, suspended.
#[derive(Debug, Default)]
pub struct Stalls(VecDeque<(Instant, Instant)>);

impl Stalls {
    /// Notes that the driver wanted to wake up at `wanted` and did so at `now`.
    pub fn woke(&mut self, wanted: Instant, now: Instant) {
        if now.saturating_duration_since(wanted) > STALL {
            self.0.push_back((wanted, now));
        }
    }

    /// Forgets what ended before `limit`.
    pub fn forget_before(&mut self, limit: Instant) {
        while self.0.front().is_some_and(|(_, end)| *end < limit) {
            self.0.pop_front();
        }
    }

    /// How much of `[from, to]` the prober stood still.
    pub fn within(&self, from: Instant, to: Instant) -> Duration {
        self.0
            .iter()
            .map(|&(start, end)| end.min(to).saturating_duration_since(start.max(from)))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_oversleeping_counts_and_only_where_it_overlaps() {
        let origin = Instant::now();
        let at = |ms| origin + Duration::from_millis(ms);
        let mut stalls = Stalls::default();
        stalls.woke(at(100), at(140));
        stalls.woke(at(200), at(500));
        let within = |stalls: &Stalls, from, to| stalls.within(at(from), at(to)).as_millis();
        assert_eq!(within(&stalls, 0, 199), 0);
        assert_eq!(within(&stalls, 0, 1000), 300);
        assert_eq!(within(&stalls, 300, 400), 100);
        assert_eq!(within(&stalls, 450, 1000), 50);
        stalls.forget_before(at(501));
        assert_eq!(within(&stalls, 0, 1000), 0);
    }
}
