//! Many users of a region: they try another cell when theirs fails, or wait and come back together.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::ShopError;
use crate::client::Caller;

/// A user's patience with one request.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often each of those who come back tries, one time after the other.
const TRIES: usize = 10;
/// How often those who wait look whether their cell is back.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// More do not wait: the lab's machine is finite.
const WAITING_MAX: usize = 3000;

#[derive(clap::Args)]
pub struct Options {
    /// A cell's address; users are split over the cells in turn; repeat for several
    #[arg(long = "cell", required = true, value_name = "IP:PORT")]
    cells: Vec<SocketAddr>,
    /// Checkouts each second that are begun, however many are still under way
    #[arg(long, value_name = "N")]
    rate: NonZeroU32,
    /// A failed checkout is tried again at the next cell, at once, until so many were tried
    #[arg(long, value_name = "N", default_value = "1")]
    attempts: NonZeroU32,
    /// Users of a cell that is gone wait until it is back, and then all come at once
    #[arg(long, conflicts_with = "attempts")]
    wait_for_cell: bool,
}

struct Crowd {
    cells: Vec<Caller>,
    attempts: usize,
    /// How many wait for each cell; none where nobody waits.
    waiting: Option<Vec<AtomicUsize>>,
}

pub async fn run(options: Options) -> Result<(), ShopError> {
    let count = options.cells.len();
    let waiting = || (0..count).map(|_| AtomicUsize::new(0)).collect();
    let crowd = Arc::new(Crowd {
        cells: options
            .cells
            .iter()
            .map(|cell| Caller::new(*cell, PATIENCE))
            .collect(),
        attempts: usize::try_from(options.attempts.get()).unwrap_or(usize::MAX),
        waiting: options.wait_for_cell.then(waiting),
    });
    if options.wait_for_cell {
        for cell in 0..count {
            tokio::spawn(come_back(Arc::clone(&crowd), cell));
        }
    }
    let mut clock = interval(Duration::from_secs(1) / options.rate.get());
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for user in 0.. {
        clock.tick().await;
        let crowd = Arc::clone(&crowd);
        tokio::spawn(async move { crowd.buy(user % count).await });
    }
    Ok(())
}

impl Crowd {
    async fn buy(&self, home: usize) {
        for attempt in 0..self.attempts {
            let cell = (home + attempt) % self.cells.len();
            if self.cells[cell].get("/checkout").await.is_ok() {
                return;
            }
        }
        // Whoever still meets their cell gives up as everybody does: a slow cell makes no herd.
        if let Some(waiting) = &self.waiting
            && self.cells[home].get("/healthz").await.is_err()
        {
            let before = waiting[home].fetch_add(1, Ordering::Relaxed);
            if before >= WAITING_MAX {
                waiting[home].fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Crowd {
    /// Who has waited that long is not sent away by the first failure.
    async fn try_again(&self, cell: usize) {
        for _ in 0..TRIES {
            if self.cells[cell].get("/checkout").await.is_ok() {
                return;
            }
        }
    }
}

/// For ever: when the cell answers, all that wait for it come at once, wherever DNS sends them.
async fn come_back(crowd: Arc<Crowd>, cell: usize) {
    let Some(waiting) = &crowd.waiting else {
        return;
    };
    loop {
        sleep(LOOK_EVERY).await;
        if waiting[cell].load(Ordering::Relaxed) == 0 {
            continue;
        }
        if crowd.cells[cell].get("/healthz").await.is_err() {
            continue;
        }
        for user in 0..waiting[cell].swap(0, Ordering::Relaxed) {
            let crowd = Arc::clone(&crowd);
            tokio::spawn(async move { crowd.try_again(user % crowd.cells.len()).await });
        }
    }
}
