//! The open-loop grid: when each probe is meant to be sent, and when it was sent too late to count.

use std::time::Duration;

/// No timer keeps a tighter limit; it matters above 200 probes/s of one stream only.
const LAG_FLOOR: Duration = Duration::from_millis(5);
const LAG_CEILING: Duration = Duration::from_millis(50);

/// The grid of one stream: probe `k` is due at `phase + k / rate`.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    rate: f64,
    phase: f64,
}

impl Schedule {
    /// The `index`th of `count` streams: phases are spread, so that all streams meet every hiccup
    /// of the prober alike. `rate` is per second and positive.
    pub fn new(rate: f64, index: usize, count: usize) -> Self {
        Self {
            rate,
            phase: index as f64 / (count.max(1) as f64 * rate),
        }
    }

    /// Time of probe `k` since the drill began.
    pub fn due(&self, k: u64) -> Duration {
        Duration::try_from_secs_f64(self.phase + k as f64 / self.rate).unwrap_or(Duration::MAX)
    }

    /// The first probe that is due at or after `start`.
    pub fn first_at(&self, start: Duration) -> u64 {
        let estimate = (start.as_secs_f64() - self.phase) * self.rate;
        // Rounding may be off by one either way.
        let mut k = (estimate.floor() as u64).saturating_sub(1);
        while self.due(k) < start {
            k += 1;
        }
        k
    }

    /// Sent later than this after its time, a probe is the prober's fault and counts for nothing.
    pub fn lag_limit(&self) -> Duration {
        let period = Duration::try_from_secs_f64(1.0 / self.rate).unwrap_or(Duration::MAX);
        period.clamp(LAG_FLOOR, LAG_CEILING)
    }

    /// Probes that may be under way at once; one more is the fault of those before it.
    pub fn in_flight_cap(&self, timeout: Duration) -> usize {
        (self.rate * timeout.as_secs_f64()).ceil() as usize + 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_holds_exactly_the_rate_and_streams_interleave() {
        let schedules: Vec<_> = (0..3).map(|index| Schedule::new(20.0, index, 3)).collect();
        for schedule in &schedules {
            for second in 0..100 {
                let start = Duration::from_secs(second);
                let first = schedule.first_at(start);
                assert!(schedule.due(first) >= start);
                assert!(first == 0 || schedule.due(first - 1) < start);
                let end = Duration::from_secs(second + 1);
                assert_eq!(schedule.first_at(end) - first, 20, "second {second}");
            }
        }
        let due = |index: usize| schedules[index].due(0).as_micros();
        assert_eq!([due(0), due(1), due(2)], [0, 16_666, 33_333]);
    }

    #[test]
    fn limits_are_those_of_the_verdict() {
        let limits = |rate| {
            let schedule = Schedule::new(rate, 0, 1);
            (
                schedule.lag_limit().as_millis(),
                schedule.in_flight_cap(Duration::from_secs(1)),
            )
        };
        assert_eq!(limits(1.0), (50, 3));
        assert_eq!(limits(20.0), (50, 22));
        assert_eq!(limits(50.0), (20, 52));
        assert_eq!(limits(1000.0), (5, 1002));
    }
}
