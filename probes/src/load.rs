//! The load on the cells that take over: open loop, marked, counted, and never judged as probes.
//!
//! While the fault lasts each cell gets a twentieth more than the claim needs, so that a single
//! answer that fails does not leave the claim without its proof; before and after, its peak.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scenarios::effects::{LOAD_SURPLUS, LoadClaim, LoadSecond, LoadSource};
use scenarios::fleet::{Ask, Fleet};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::BLOCK_MS;
use crate::askers::http::HttpAsker;
use crate::askers::{Asks, Call, Here};
use crate::kinds::ProbeError;
use crate::prober::word;
use crate::progress::Progress;

/// A request that could not be sent for so long is not sent any more.
const LAG: Duration = Duration::from_millis(50);
/// Of every request, so that servers can tell it from what users do.
const HEADER: &str = "x-cellwall-load";
/// One request in so many takes a fresh connection.
const FRESH: u64 = 10;
const BLOCK: Duration = Duration::from_millis(BLOCK_MS);

/// A running load. Dropping it ends it.
pub struct Load {
    surge: Arc<Mutex<Option<(Instant, Instant)>>>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts with the peak on every cell of the claim; a load of users sends nothing. `drill` goes into the header
    /// `x-cellwall-load` of every request; `origin` is 0 ms of the drill. Each second of each cell
    /// is sent to `out` when all its requests are decided.
    ///
    /// # Errors
    /// If the probe or a cell of the claim is not of this fleet, or cannot be asked.
    pub fn start(
        fleet: &Fleet,
        claim: &LoadClaim,
        drill: &str,
        origin: Instant,
        out: &mpsc::Sender<LoadSecond>,
    ) -> Result<Self, ProbeError> {
        let surge = Arc::default();
        let mut tasks = JoinSet::new();
        let LoadSource::Probe(probe) = &claim.by else {
            return Ok(Self { surge, tasks });
        };
        for cell in &claim.cells {
            let stream = Arc::new(stream(fleet, (claim, probe), cell, drill)?);
            let pace = Pace {
                origin,
                peak: claim.peak,
                surge_rate: claim.needed * LOAD_SURPLUS,
                surge: Arc::clone(&surge),
            };
            tasks.spawn(send(Arc::clone(&stream), pace));
            tasks.spawn(count(stream, origin, out.clone()));
        }
        Ok(Self { surge, tasks })
    }

    /// From `at` until `until` every cell gets what the claim needs.
    pub fn surge(&self, at: Instant, until: Instant) {
        *lock(&self.surge) = Some((at, until));
    }

    /// Ends the surge, if it goes on.
    pub fn calm(&self) {
        let mut surge = lock(&self.surge);
        if let Some((at, until)) = *surge {
            *surge = Some((at, until.min(Instant::now())));
        }
    }

    /// Sends no more; what is not decided yet is not counted.
    pub fn stop(mut self) {
        self.tasks.abort_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The load of one cell.
struct Stream {
    cell: String,
    asker: HttpAsker,
    timeout: Duration,
    /// Requests under way at once; more would be a queue on our side.
    cap: usize,
    counts: Mutex<BTreeMap<u64, Counts>>,
    under_way: Mutex<usize>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    due: u32,
    sent: u32,
    answered: u32,
}

fn stream(
    fleet: &Fleet,
    (claim, probe): (&LoadClaim, &str),
    cell_name: &str,
    drill: &str,
) -> Result<Stream, ProbeError> {
    let name = format!("{cell_name}/{probe}");
    let unknown = || ProbeError::UnknownStream { name: name.clone() };
    let probe = fleet.probes.get(probe).ok_or_else(unknown)?;
    let cell = fleet.cells.get(cell_name).ok_or_else(unknown)?;
    let Ask::Http(http) = &probe.ask else {
        return Err(unknown());
    };
    let here = Here {
        stream: &name,
        cell_name,
        cell,
    };
    let mut marked = http.clone();
    marked.headers.insert(HEADER.to_owned(), word(drill));
    let most = claim.needed.max(claim.peak) * LOAD_SURPLUS * probe.timeout.as_secs_f64();
    Ok(Stream {
        cell: cell_name.to_owned(),
        asker: HttpAsker::new(&marked, &here)?,
        timeout: probe.timeout,
        cap: most.ceil() as usize + 2,
        counts: Mutex::default(),
        under_way: Mutex::default(),
    })
}

/// How fast at which time.
struct Pace {
    origin: Instant,
    peak: f64,
    surge_rate: f64,
    surge: Arc<Mutex<Option<(Instant, Instant)>>>,
}

impl Pace {
    fn after(&self, due: Instant) -> Instant {
        let surge = *lock(&self.surge);
        let surging = surge.is_some_and(|(at, until)| (at..until).contains(&due));
        let rate = if surging { self.surge_rate } else { self.peak };
        let next = due + Duration::from_secs_f64(1.0 / rate);
        match surge {
            Some((at, _)) if due < at && next > at => at,
            _ => next,
        }
    }

    /// When the request behind `last` is due, waited for. A surge that is announced meanwhile counts:
    /// a slow peak must not sleep through its beginning.
    async fn wait_behind(&self, last: Instant) -> Instant {
        loop {
            let (due, now) = (self.after(last), Instant::now());
            if due <= now {
                return due;
            }
            sleep_until(due.min(now + LAG)).await;
        }
    }
}

async fn send(stream: Arc<Stream>, pace: Pace) {
    let mut requests = JoinSet::new();
    let mut last = pace.origin.max(Instant::now());
    for k in 0_u64.. {
        let due = pace.wait_behind(last).await;
        last = due;
        let second = second_of(due.saturating_duration_since(pace.origin));
        stream.note(second, |counts| counts.due += 1);
        if Instant::now().saturating_duration_since(due) <= LAG && stream.enter() {
            stream.note(second, |counts| counts.sent += 1);
            requests.spawn(ask(Arc::clone(&stream), k, due, second));
        }
        while requests.try_join_next().is_some() {}
    }
}

fn second_of(since: Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX) / BLOCK_MS
}

async fn ask(stream: Arc<Stream>, k: u64, due: Instant, second: u64) {
    let deadline = due + stream.timeout;
    let progress = Progress::default();
    let call = Call {
        fresh: k.is_multiple_of(FRESH),
        id: "load",
        deadline,
        progress: &progress,
    };
    if let Ok(Ok(())) = timeout_at(deadline, stream.asker.ask(&call)).await {
        stream.note(second, |counts| counts.answered += 1);
    }
    *lock(&stream.under_way) -= 1;
}

/// Hands out each second when its last request is decided.
async fn count(stream: Arc<Stream>, origin: Instant, out: mpsc::Sender<LoadSecond>) {
    let mut second = second_of(Instant::now().saturating_duration_since(origin));
    loop {
        let decided = BLOCK * u32::try_from(second + 1).unwrap_or(u32::MAX) + stream.timeout + LAG;
        sleep_until(origin + decided).await;
        let Counts {
            due,
            sent,
            answered,
        } = lock(&stream.counts).remove(&second).unwrap_or_default();
        let told = LoadSecond {
            cell: stream.cell.clone(),
            start_ms: second * BLOCK_MS,
            due,
            sent,
            answered,
        };
        if out.send(told).await.is_err() {
            return;
        }
        second += 1;
    }
}

impl Stream {
    fn note(&self, second: u64, change: impl FnOnce(&mut Counts)) {
        change(lock(&self.counts).entry(second).or_default());
    }

    fn enter(&self) -> bool {
        let mut under_way = lock(&self.under_way);
        let free = *under_way < self.cap;
        *under_way += usize::from(free);
        free
    }
}
