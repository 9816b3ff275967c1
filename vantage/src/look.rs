//! A vantage's whole life: it is told what to ask and when 0 ms is, asks, and says what it saw.

use std::time::Duration;

use probes::vantage::{Order, Said, Task, VANTAGE_FORMAT};
use probes::{ProbeError, ProbeOut, Prober};
use scenarios::fleet::Fleet;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::lines::{self, Mouth};

/// A drill that begins later than this is a mistake of clocks.
const AHEAD_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Lines(#[from] lines::Error),
    #[error("the order has format {0}, this vantage knows {VANTAGE_FORMAT}; use matching versions")]
    Format(u32),
    #[error("the fleet cannot be read: {0}")]
    Fleet(#[from] scenarios::InputError),
    #[error(transparent)]
    Probes(#[from] ProbeError),
    #[error("an order came out of its turn ({0})")]
    Turn(&'static str),
    #[error("0 ms of the drill would be at {0} ns of CLOCK_BOOTTIME, which is far from now")]
    Origin(u64),
}

/// Ends when there are no more orders, or nobody listens.
pub async fn look(
    mut orders: mpsc::Receiver<Result<Order, lines::Error>>,
    mouth: Mouth,
) -> Result<(), Error> {
    let Some(order) = orders.recv().await else {
        return Ok(());
    };
    let Order::Look(task) = order? else {
        return Err(Error::Turn("the first says what to look at"));
    };
    let fleet = fleet(&task)?;
    Prober::check(&fleet, &task.streams)?;
    // What cannot be asked is told now, and not a second after the drill has begun.
    mouth.say(&Said::Ready)?;
    let Some(order) = orders.recv().await else {
        return Ok(());
    };
    let Order::Begin { origin_boottime_ns } = order? else {
        return Err(Error::Turn("the second says when the drill begins"));
    };
    let origin = instant(origin_boottime_ns).ok_or(Error::Origin(origin_boottime_ns))?;
    let (out, mut seconds) = mpsc::channel(64);
    let mut prober = Prober::start(&fleet, &task.streams, &task.run, origin, out)?;
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return Ok(()),
                Some(order) => match order? {
                    Order::Thresholds { from_ms } => drop(prober.set_thresholds(from_ms)),
                    Order::End => {
                        prober.stop().await;
                        mouth.say(&Said::Ended { writes: prober.changed_writes() })?;
                        mouth.close();
                        return Ok(());
                    }
                    _ => return Err(Error::Turn("the drill has begun already")),
                },
            },
            second = seconds.recv() => {
                // It asks nothing that has volumes.
                let Some(ProbeOut::Second { start_ms, blocks, samples, .. }) = second else {
                    return Ok(());
                };
                let writes = prober.changed_writes();
                if !mouth.say(&Said::Second { start_ms, blocks, samples, writes })? {
                    return Ok(());
                }
            }
        }
    }
}

fn fleet(task: &Task) -> Result<Fleet, Error> {
    if task.format != VANTAGE_FORMAT {
        return Err(Error::Format(task.format));
    }
    Ok(scenarios::read_fleet(&task.fleet, "the conductor's fleet")?)
}

/// When CLOCK_BOOTTIME shows (or showed) this.
fn instant(boottime_ns: u64) -> Option<Instant> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let here = Instant::now();
    let seconds = u64::try_from(now.tv_sec).ok()?;
    let now_ns = seconds
        .checked_mul(1_000_000_000)?
        .checked_add(u64::try_from(now.tv_nsec).ok()?)?;
    if boottime_ns > now_ns {
        let ahead = Duration::from_nanos(boottime_ns - now_ns);
        return (ahead < AHEAD_MAX).then(|| here + ahead);
    }
    here.checked_sub(Duration::from_nanos(now_ns - boottime_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_from_now_is_no_origin() {
        assert!(instant(u64::MAX).is_none());
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let now_ns = u64::try_from(now.tv_sec).unwrap() * 1_000_000_000;
        let second = Duration::from_secs(1);
        let origin = instant(now_ns - 5_000_000_000).unwrap();
        assert!(origin.elapsed() >= second * 5);
        assert!(instant(now_ns + 5_000_000_000).unwrap() > Instant::now() + second);
    }

    #[test]
    fn another_format_and_no_fleet_are_refused() {
        let task = |format, fleet: &str| Task {
            format,
            run: "v1-d".into(),
            fleet: fleet.into(),
            streams: Vec::new(),
        };
        let error = fleet(&task(9, "")).unwrap_err().to_string();
        assert!(error.contains("format 9"), "{error}");
        let error = fleet(&task(VANTAGE_FORMAT, "x: 1"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("the conductor's fleet"), "{error}");
    }
}
