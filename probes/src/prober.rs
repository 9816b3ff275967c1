//! The open-loop prober: sends on the grid, never waits for an answer, closes second after second.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scenarios::fleet::Fleet;
use scenarios::history::{BadSample, Block, LateEnds, Ledger, Stream, Volume};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::block::Threshold;
use crate::board::{Board, Second, Ticket};
use crate::kinds::{self, Kind, ProbeError};
use crate::metered::{self, Scrapers, Told};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::schedule::Schedule;
use crate::writes::{Write, WritePhases, Writes};
use crate::{BLOCK_MS, ask, readback, stalls};

/// The first second is probed whole if the prober starts no later than this after it began.
const LATE_START: Duration = Duration::from_millis(5);
/// Characters of a drill's name in the ids of its writes.
const RUN_LENGTH: usize = 64;

/// What the prober hands out.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeOut {
    /// One second of all streams, in the order of the streams; seconds follow without a gap.
    Second {
        start_ms: u64,
        blocks: Vec<Block>,
        samples: Vec<BadSample>,
        /// Of traffic whose block ends with this second.
        volumes: Vec<Volume>,
        /// Of seconds before it.
        late: Vec<LateEnds>,
    },
}

/// A stream as the probes under way see it.
pub(crate) struct Lane {
    pub kind: Kind,
    pub lag_limit: Duration,
    cap: usize,
    in_flight: AtomicUsize,
}

impl Lane {
    fn of(kind: Kind, stream: &Stream) -> Self {
        let schedule = Schedule::new(stream.rate, 0, 1);
        Self {
            kind,
            lag_limit: schedule.lag_limit(),
            cap: schedule.in_flight_cap(Duration::from_millis(stream.timeout_ms)),
            in_flight: AtomicUsize::new(0),
        }
    }
}

/// What the driver and the probes under way share.
pub(crate) struct Shared {
    board: Mutex<Board>,
    pub lanes: Vec<Lane>,
    writes: Mutex<Writes>,
    origin: Instant,
    /// Prefix of all ids of this drill.
    pub run: String,
    stopping: AtomicBool,
}

impl Shared {
    pub fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn writes(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, in ms since the drill began.
    pub fn elapsed_ms(&self) -> u64 {
        let since = Instant::now().saturating_duration_since(self.origin);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn in_flight(&self) -> usize {
        self.lanes
            .iter()
            .map(|lane| lane.in_flight.load(Ordering::Relaxed))
            .sum()
    }
}

/// Counts a probe as under way until dropped.
struct InFlight {
    shared: Arc<Shared>,
    stream: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(lane) = self.shared.lanes.get(self.stream) {
            lane.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A running prober. Dropping it ends the probing; [`Prober::stop`] ends it in good order.
pub struct Prober {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
    longest_timeout: Duration,
    _scrapers: Scrapers,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Prober {
    /// Starts to probe at the first second that begins at or after now.
    ///
    /// `run` (the drill's id) goes into every id that is written. `origin` is 0 ms of the drill.
    /// Each closed second is sent to `out`; a slow receiver delays no probe. When `out` is closed
    /// the prober ends. Must be called on a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// If a stream is not of this fleet or cannot be asked; nothing was sent then.
    pub fn start(
        fleet: &Fleet,
        streams: &[Stream],
        run: &str,
        origin: Instant,
        out: mpsc::Sender<ProbeOut>,
    ) -> Result<Self, ProbeError> {
        let probed = streams.iter().filter(|stream| stream.is_probed());
        let probed: Vec<Stream> = probed.cloned().collect();
        let all = streams;
        let streams = probed.as_slice();
        let kinds = kinds::kinds(fleet, streams)?;
        let scheduled: Vec<usize> = (0..kinds.len())
            .filter(|&index| !matches!(kinds[index], Kind::Attributed))
            .collect();
        let lanes: Vec<Lane> = kinds
            .into_iter()
            .zip(streams)
            .map(|(kind, stream)| Lane::of(kind, stream))
            .collect();
        let late = Instant::now().saturating_duration_since(origin);
        let late_ms = u64::try_from(late.saturating_sub(LATE_START).as_millis()).unwrap_or(0);
        let first = late_ms.div_ceil(BLOCK_MS);
        let longest = streams
            .iter()
            .map(|stream| stream.timeout_ms)
            .max()
            .unwrap_or(0);
        let shared = Arc::new(Shared {
            board: Mutex::new(Board::new(origin, streams, first)),
            lanes,
            writes: Mutex::default(),
            origin,
            run: word(run),
            stopping: AtomicBool::new(false),
        });
        let metered: Vec<Stream> = all.iter().filter(|s| !s.is_probed()).cloned().collect();
        let (scrapers, told) = metered::start(fleet, &metered, origin, first)?;
        let (seconds, closed) = mpsc::unbounded_channel();
        tokio::spawn(forward(closed, told, out));
        let mut driver = Driver {
            shared: Arc::clone(&shared),
            origin,
            seconds,
            grid: BinaryHeap::new(),
        };
        let start = Duration::from_millis(first * BLOCK_MS);
        for (index, &stream) in scheduled.iter().enumerate() {
            let schedule = Schedule::new(streams[stream].rate, index, scheduled.len());
            let k = schedule.first_at(start);
            driver.grid.push(Reverse(Due {
                at: schedule.due(k),
                stream,
                k,
                schedule,
            }));
        }
        let driver = tokio::spawn(driver.run());
        Ok(Self {
            shared,
            driver,
            longest_timeout: Duration::from_millis(longest),
            _scrapers: scrapers,
        })
    }

    /// Whether these streams could be asked from this machine; sends nothing.
    ///
    /// # Errors
    /// As [`Prober::start`].
    pub fn check(fleet: &Fleet, streams: &[Stream]) -> Result<(), ProbeError> {
        kinds::kinds(fleet, streams).map(drop)
    }

    /// Sets the threshold of every stream without a declared slo from its closed blocks that began
    /// at or after `from_ms`. Seconds closed from now on are judged by it. A second call sets none.
    pub fn set_thresholds(&self, from_ms: u64) -> Vec<Threshold> {
        self.shared.board().set_thresholds(from_ms)
    }

    /// All acknowledged writes so far; after [`Prober::stop`] there come no more.
    pub fn acknowledged(&self) -> Vec<Write> {
        self.shared.writes().all().to_vec()
    }

    /// The writes that are new, or to which something was done, since this was asked last.
    pub fn changed_writes(&self) -> Vec<Write> {
        self.shared.writes().changed()
    }

    /// Sends no more probes, closes the seconds that are whole, and waits for the probes under way
    /// (their timeout at the longest). The last seconds are in `out` or on their way to it; `out`
    /// ends after them.
    pub async fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // An error means that it has ended already.
        let _ = (&mut self.driver).await;
        let patience = Instant::now() + self.longest_timeout;
        while self.shared.in_flight() > 0 && Instant::now() < patience {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Reads every acknowledged write back, one ledger for each cell and probe that keeps writes.
    ///
    /// Failed reads are repeated; what could not be read when `within` is over counts as unread.
    pub async fn read_back(
        fleet: &Fleet,
        writes: &[Write],
        phases: WritePhases,
        within: Duration,
    ) -> Vec<Ledger> {
        readback::read_back(fleet, writes, phases, within).await
    }
}

/// An id may go into paths and files: only `A-Z a-z 0-9 _ . -`.
pub(crate) fn word(run: &str) -> String {
    let fit = |c: char| {
        if c.is_ascii_alphanumeric() || "_.-".contains(c) {
            c
        } else {
            '-'
        }
    };
    run.chars().take(RUN_LENGTH).map(fit).collect()
}

/// Seconds go out in their order, each with the blocks of scraped streams that end with it.
async fn forward(
    mut closed: mpsc::UnboundedReceiver<Second>,
    mut told: Vec<Told>,
    out: mpsc::Sender<ProbeOut>,
) {
    while let Some(Second {
        start_ms,
        mut blocks,
        mut samples,
        late,
    }) = closed.recv().await
    {
        let mut volumes = Vec::new();
        for scraper in &mut told {
            if let Some(scraped) = scraper.at(start_ms + BLOCK_MS).await {
                blocks.extend(scraped.blocks);
                samples.extend(scraped.samples);
                volumes.extend(scraped.volume);
            }
        }
        if out
            .send(ProbeOut::Second {
                start_ms,
                blocks,
                samples,
                volumes,
                late,
            })
            .await
            .is_err()
        {
            return;
        }
    }
}

/// The next probe of one stream.
struct Due {
    /// Since the drill began.
    at: Duration,
    stream: usize,
    k: u64,
    schedule: Schedule,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.stream).cmp(&(other.at, other.stream))
    }
}

struct Driver {
    shared: Arc<Shared>,
    origin: Instant,
    seconds: mpsc::UnboundedSender<Second>,
    grid: BinaryHeap<Reverse<Due>>,
}

impl Driver {
    /// One task sends and closes, so that a second never closes before all of it was scheduled,
    /// not even when this task comes late.
    async fn run(mut self) {
        while !self.shared.stopping.load(Ordering::Relaxed) {
            self.send_due(Instant::now());
            if self.close_due().is_err() {
                return;
            }
            let next = self.grid.peek().map(|Reverse(due)| self.origin + due.at);
            self.sleep(next).await;
        }
        let stopped = Instant::now();
        while self.shared.board().is_before(stopped) {
            if self.close_due().is_err() {
                return;
            }
            self.sleep(None).await;
        }
    }

    /// Sleeps until `next` or the next closing, a tick at the most, and notes if that took longer.
    async fn sleep(&self, next: Option<Instant>) {
        let tick = Instant::now() + stalls::TICK;
        let closing = self.shared.board().closes_at();
        let wanted = next.unwrap_or(tick).min(closing).min(tick);
        sleep_until(wanted).await;
        self.shared.board().stalls.woke(wanted, Instant::now());
    }

    fn close_due(&self) -> Result<(), mpsc::error::SendError<Second>> {
        loop {
            let mut board = self.shared.board();
            let now = Instant::now();
            if board.closes_at() > now {
                return Ok(());
            }
            let second = board.close(now);
            drop(board);
            self.seconds.send(second)?;
        }
    }

    fn send_due(&mut self, now: Instant) {
        while let Some(Reverse(due)) = self.grid.pop() {
            let intended = self.origin + due.at;
            if intended > now {
                self.grid.push(Reverse(due));
                return;
            }
            self.send(due.stream, due.k, intended);
            let k = due.k + 1;
            self.grid.push(Reverse(Due {
                at: due.schedule.due(k),
                k,
                ..due
            }));
        }
    }

    fn send(&self, stream: usize, k: u64, intended: Instant) {
        let (Some(ticket), Some(lane)) = (
            self.shared.board().schedule(stream, intended),
            self.shared.lanes.get(stream),
        ) else {
            return;
        };
        let now = Instant::now();
        if now.saturating_duration_since(intended) > lane.lag_limit {
            return self.shared.board().end(ticket, now, Outcome::Invalid);
        }
        if lane.in_flight.load(Ordering::Relaxed) >= lane.cap {
            let what = format!("{} probes are under way and not answered", lane.cap);
            return self.shared.board().end(ticket, now, Outcome::Timeout(what));
        }
        lane.in_flight.fetch_add(1, Ordering::Relaxed);
        let in_flight = InFlight {
            shared: Arc::clone(&self.shared),
            stream,
        };
        tokio::spawn(probe(in_flight, ticket, k, intended));
    }
}

async fn probe(in_flight: InFlight, ticket: Ticket, k: u64, intended: Instant) {
    let shared = &in_flight.shared;
    let Some(lane) = shared.lanes.get(ticket.stream) else {
        return;
    };
    let now = Instant::now();
    if now.saturating_duration_since(intended) > lane.lag_limit {
        return shared.board().end(ticket, now, Outcome::Invalid);
    }
    let errand = ask::Errand {
        shared,
        ticket,
        k,
        intended,
        progress: Progress::default(),
    };
    errand.run(&lane.kind).await;
}
