//! The store's log: one order id a line, fsynced before it is acknowledged, replayed at start.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Orders that are written with one fsync at the most.
const BATCH: usize = 512;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot {step} the order log {path}: {source}; no order is accepted")]
    File {
        step: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot start the thread that writes orders: {0}; no order is accepted")]
    Thread(io::Error),
}

/// Deliberate flaws: a tool that looks for lost and duplicated orders must find these.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flaws {
    /// Acknowledge every Nth new order without keeping it.
    pub lossy: Option<u64>,
    /// Write every Nth new order twice.
    pub duplicate: Option<u64>,
}

/// What became of an order; both mean that it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    New,
    Known,
}

struct Order {
    id: String,
    done: oneshot::Sender<Placed>,
}

type Index = Arc<Mutex<HashMap<String, u32>>>;

/// The log with an index of how many copies of each id it holds.
pub struct Journal {
    index: Index,
    orders: mpsc::Sender<Order>,
}

impl Journal {
    /// Replays the log (a torn last line was never acknowledged, it is cut off) and starts the
    /// thread that writes: an fsync would block the async executor.
    pub fn open(path: &Path, flaws: Flaws) -> Result<Self, JournalError> {
        let (file, copies) = replay(path)?;
        let index: Index = Arc::new(Mutex::new(copies));
        let (orders, inbox) = mpsc::channel();
        let mut writer = Writer {
            file,
            index: Arc::clone(&index),
            flaws,
            taken: 0,
        };
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&inbox))
            .map_err(JournalError::Thread)?;
        Ok(Self { index, orders })
    }

    /// Returns when the order is durable; `None` if the log cannot be written any more.
    pub async fn place(&self, id: String) -> Option<Placed> {
        let (done, placed) = oneshot::channel();
        self.orders.send(Order { id, done }).ok()?;
        placed.await.ok()
    }

    /// How many copies of an order are stored, durably.
    pub fn copies(&self, id: &str) -> u32 {
        self.index
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .copied()
            .unwrap_or(0)
    }
}

fn replay(path: &Path) -> Result<(File, HashMap<String, u32>), JournalError> {
    let failed = |step| {
        let path = path.to_owned();
        move |source| JournalError::File { step, path, source }
    };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed("open"))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed("read"))?;
    let whole = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |last| last + 1);
    // Left there, the torn line would run into the next order.
    file.set_len(whole as u64)
        .map_err(failed("cut the torn line off"))?;
    file.seek(SeekFrom::Start(whole as u64))
        .map_err(failed("seek in"))?;
    file.sync_all().map_err(failed("fsync"))?;
    // The name must survive a crash as well as the bytes.
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))
        .and_then(|directory| directory.sync_all())
        .map_err(failed("fsync the directory of"))?;
    let mut copies = HashMap::new();
    for line in bytes[..whole].split(|&byte| byte == b'\n') {
        if let Ok(id) = std::str::from_utf8(line)
            && crate::store::is_order_id(id)
        {
            *copies.entry(id.to_owned()).or_insert(0) += 1;
        }
    }
    Ok((file, copies))
}

struct Writer {
    file: File,
    index: Index,
    flaws: Flaws,
    /// New orders so far, kept or not.
    taken: u64,
}

impl Writer {
    fn run(&mut self, inbox: &mpsc::Receiver<Order>) {
        while let Ok(first) = inbox.recv() {
            let mut batch = vec![first];
            batch.extend(inbox.try_iter().take(BATCH - 1));
            if let Err(error) = self.write(batch) {
                // After a failed fsync nobody knows what is on the disk: a store that went on
                // would acknowledge what may be lost. Those who wait see the process end.
                tracing::error!("cannot write the order log: {error}; the store stops");
                std::process::exit(70);
            }
        }
    }

    /// Group commit: everybody who waits shares one fsync.
    fn write(&mut self, batch: Vec<Order>) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut written: HashMap<String, u32> = HashMap::new();
        let mut placed = Vec::with_capacity(batch.len());
        for order in batch {
            let known = written.contains_key(&order.id) || self.knows(&order.id);
            placed.push((order.done, if known { Placed::Known } else { Placed::New }));
            if known {
                continue;
            }
            let copies = self.copies_of_next();
            for _ in 0..copies {
                lines.extend_from_slice(order.id.as_bytes());
                lines.push(b'\n');
            }
            if copies > 0 {
                written.insert(order.id, copies);
            }
        }
        if !lines.is_empty() {
            self.file.write_all(&lines)?;
            self.file.sync_data()?;
        }
        self.index
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(written);
        for (done, outcome) in placed {
            // The client may be gone; its order is kept all the same.
            let _ = done.send(outcome);
        }
        Ok(())
    }

    fn knows(&self, id: &str) -> bool {
        self.index
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(id)
    }

    fn copies_of_next(&mut self) -> u32 {
        self.taken += 1;
        let hit = |every: Option<u64>| every.is_some_and(|every| self.taken.is_multiple_of(every));
        match (hit(self.flaws.lossy), hit(self.flaws.duplicate)) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn torn_line_is_cut_off_and_does_not_run_into_the_next_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders");
        std::fs::write(&path, "one\ntwo\nthr").unwrap();
        let journal = Journal::open(&path, Flaws::default()).unwrap();
        assert_eq!((journal.copies("one"), journal.copies("thr")), (1, 0));
        assert_eq!(journal.place("four".to_owned()).await, Some(Placed::New));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nfour\n");
    }

    #[tokio::test]
    async fn simultaneous_orders_of_one_id_are_one_copy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders");
        let journal = Journal::open(&path, Flaws::default()).unwrap();
        let same = (0..50).map(|_| journal.place("same".to_owned()));
        let placed = futures::future::join_all(same).await;
        assert_eq!(
            placed
                .iter()
                .filter(|outcome| **outcome == Some(Placed::New))
                .count(),
            1
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "same\n");
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent/orders");
        let error = Journal::open(&path, Flaws::default()).err();
        let error = error.unwrap().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
