//! The store's log: one change of an order a line, fsynced before it is acknowledged, replayed at start.
//!
//! `ID` is a new order, `ID VERSION` its update, `ID -` its deletion. An id that was deleted is not
//! taken again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

/// How long an order that will be there again stays away.
const AWAY: Duration = Duration::from_secs(2);

/// Deliberate flaws: a tool that looks for what became of orders must find these.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flaws {
    /// Acknowledge every Nth new order without keeping it.
    pub lossy: Option<u64>,
    /// Write every Nth new order twice.
    pub duplicate: Option<u64>,
    /// Forget every Nth update or deletion after 2 s, as a replica does that missed it.
    pub resurrect: Option<u64>,
    /// Acknowledge every Nth update without keeping it.
    pub stale: Option<u64>,
}

/// What is to become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Place,
    /// To this version, which must be higher than the one it has.
    Update(u64),
    Delete,
}

/// What became of it; all mean that what is told is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    New,
    /// It was there already.
    Known,
    Changed,
    /// There is no such order.
    Missing,
    /// It was deleted, or has this version or a higher one.
    Refused,
}

/// What is stored of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub copies: u32,
    pub version: u64,
    pub deleted: bool,
}

impl Stored {
    const NEW: Stored = Stored {
        copies: 1,
        version: 1,
        deleted: false,
    };
}

struct Order {
    id: String,
    change: Change,
    done: oneshot::Sender<Done>,
}

type Orders = HashMap<String, Stored>;
type Index = Arc<Mutex<Orders>>;

fn lock(index: &Index) -> MutexGuard<'_, Orders> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log with an index of what it holds.
pub struct Journal {
    index: Index,
    orders: mpsc::Sender<Order>,
}

impl Journal {
    /// Replays the log (a torn last line was never acknowledged, it is cut off) and starts the
    /// thread that writes: an fsync would block the async executor.
    pub fn open(path: &Path, flaws: Flaws) -> Result<Self, JournalError> {
        let (file, stored) = replay(path)?;
        let index: Index = Arc::new(Mutex::new(stored));
        let (orders, inbox) = mpsc::channel();
        let mut writer = Writer {
            file,
            index: Arc::clone(&index),
            flaws,
            taken: 0,
            rewritten: 0,
            updated: 0,
        };
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&inbox))
            .map_err(JournalError::Thread)?;
        Ok(Self { index, orders })
    }

    /// Returns when the change is durable; `None` if the log cannot be written any more.
    pub async fn change(&self, id: String, change: Change) -> Option<Done> {
        let (done, told) = oneshot::channel();
        self.orders.send(Order { id, change, done }).ok()?;
        told.await.ok()
    }

    /// What is stored of an order that is there.
    pub fn read(&self, id: &str) -> Option<Stored> {
        let stored = lock(&self.index).get(id).copied();
        stored.filter(|stored| !stored.deleted)
    }
}

fn replay(path: &Path) -> Result<(File, Orders), JournalError> {
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
    let mut orders = Orders::new();
    for line in bytes[..whole].split(|&byte| byte == b'\n') {
        if let Ok(line) = std::str::from_utf8(line) {
            take_line(&mut orders, line);
        }
    }
    Ok((file, orders))
}

fn take_line(orders: &mut Orders, line: &str) {
    let (id, change) = line.split_once(' ').unwrap_or((line, ""));
    if !crate::store::is_order_id(id) {
        return;
    }
    match (change, orders.get_mut(id)) {
        ("", Some(stored)) => stored.copies += 1,
        ("", None) => drop(orders.insert(id.to_owned(), Stored::NEW)),
        ("-", Some(stored)) => stored.deleted = true,
        (version, Some(stored)) => stored.version = version.parse().unwrap_or(stored.version),
        (_, None) => {}
    }
}

struct Writer {
    file: File,
    index: Index,
    flaws: Flaws,
    /// New orders so far, kept or not; updates and deletions; updates alone.
    taken: u64,
    rewritten: u64,
    updated: u64,
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
        let mut written = Orders::new();
        let mut told = Vec::with_capacity(batch.len());
        for Order { id, change, done } in batch {
            let now = written.get(&id).copied();
            let now = now.or_else(|| lock(&self.index).get(&id).copied());
            told.push((done, answer(now, change)));
            match (told.last().map(|(_, answer)| *answer), now, change) {
                (Some(Done::New), _, _) => self.place(id, &mut lines, &mut written),
                (Some(Done::Changed), Some(now), Change::Update(version)) => {
                    let next = Stored { version, ..now };
                    self.rewrite(id, now, next, &mut lines, &mut written);
                }
                (Some(Done::Changed), Some(now), Change::Delete) => {
                    let next = Stored {
                        deleted: true,
                        ..now
                    };
                    self.rewrite(id, now, next, &mut lines, &mut written);
                }
                _ => {}
            }
        }
        if !lines.is_empty() {
            self.file.write_all(&lines)?;
            self.file.sync_data()?;
        }
        lock(&self.index).extend(written);
        for (done, outcome) in told {
            // The client may be gone; its order is kept all the same.
            let _ = done.send(outcome);
        }
        Ok(())
    }

    fn place(&mut self, id: String, lines: &mut Vec<u8>, written: &mut Orders) {
        let copies = self.copies_of_next();
        for _ in 0..copies {
            lines.extend_from_slice(id.as_bytes());
            lines.push(b'\n');
        }
        if copies > 0 {
            let stored = Stored {
                copies,
                ..Stored::NEW
            };
            written.insert(id, stored);
        }
    }

    fn rewrite(
        &mut self,
        id: String,
        now: Stored,
        next: Stored,
        lines: &mut Vec<u8>,
        written: &mut Orders,
    ) {
        self.rewritten += 1;
        self.updated += u64::from(!next.deleted);
        if !next.deleted && is_nth(self.updated, self.flaws.stale) {
            return;
        }
        if is_nth(self.rewritten, self.flaws.resurrect) {
            self.bring_back(id.clone(), now);
        } else {
            let what = match next.deleted {
                true => "-".to_owned(),
                false => next.version.to_string(),
            };
            lines.extend_from_slice(format!("{id} {what}\n").as_bytes());
        }
        written.insert(id, next);
    }

    /// The flaw: the order is there again as it was.
    fn bring_back(&self, id: String, was: Stored) {
        let index = Arc::clone(&self.index);
        std::thread::spawn(move || {
            std::thread::sleep(AWAY);
            lock(&index).insert(id, was);
        });
    }

    fn copies_of_next(&mut self) -> u32 {
        self.taken += 1;
        let hit = |every| is_nth(self.taken, every);
        match (hit(self.flaws.lossy), hit(self.flaws.duplicate)) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        }
    }
}

fn is_nth(count: u64, every: Option<u64>) -> bool {
    every.is_some_and(|every| count.is_multiple_of(every))
}

/// What a change of an order is answered with.
fn answer(now: Option<Stored>, change: Change) -> Done {
    match (now, change) {
        (None, Change::Place) => Done::New,
        (Some(now), Change::Place) if now.deleted => Done::Refused,
        (Some(_), Change::Place) => Done::Known,
        (None, _) => Done::Missing,
        (Some(now), _) if now.deleted => Done::Missing,
        (Some(now), Change::Update(version)) if version <= now.version => Done::Refused,
        (Some(_), _) => Done::Changed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copies(journal: &Journal, id: &str) -> u32 {
        journal.read(id).map_or(0, |stored| stored.copies)
    }

    #[tokio::test]
    async fn changes_are_kept_over_a_restart_and_what_is_wrong_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders");
        let journal = Journal::open(&path, Flaws::default()).unwrap();
        let change = async |id: &str, change| journal.change(id.to_owned(), change).await.unwrap();
        assert_eq!(change("a", Change::Update(2)).await, Done::Missing);
        assert_eq!(change("a", Change::Place).await, Done::New);
        assert_eq!(change("a", Change::Update(2)).await, Done::Changed);
        assert_eq!(change("a", Change::Update(2)).await, Done::Refused);
        assert_eq!(change("b", Change::Place).await, Done::New);
        assert_eq!(change("b", Change::Delete).await, Done::Changed);
        assert_eq!(change("b", Change::Delete).await, Done::Missing);
        assert_eq!(change("b", Change::Place).await, Done::Refused);
        let log = std::fs::read_to_string(&path).unwrap();
        assert_eq!(log, "a\na 2\nb\nb -\n");
        let again = Journal::open(&path, Flaws::default()).unwrap();
        assert_eq!(again.read("a").map(|stored| stored.version), Some(2));
        assert_eq!(again.read("b"), None);
    }

    #[tokio::test]
    async fn torn_line_is_cut_off_and_does_not_run_into_the_next_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders");
        std::fs::write(&path, "one\ntwo\nthr").unwrap();
        let journal = Journal::open(&path, Flaws::default()).unwrap();
        assert_eq!((copies(&journal, "one"), copies(&journal, "thr")), (1, 0));
        let placed = journal.change("four".to_owned(), Change::Place).await;
        assert_eq!(placed, Some(Done::New));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nfour\n");
    }

    #[tokio::test]
    async fn simultaneous_orders_of_one_id_are_one_copy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders");
        let journal = Journal::open(&path, Flaws::default()).unwrap();
        let same = (0..50).map(|_| journal.change("same".to_owned(), Change::Place));
        let placed = futures::future::join_all(same).await;
        assert_eq!(
            placed
                .iter()
                .filter(|outcome| **outcome == Some(Done::New))
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
