//! Reads acknowledged writes back: what was lost, is there twice, came back, or could not be asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use scenarios::asks::{cell_values, fill};
use scenarios::effects::{WriteCounts, WritePhase};
use scenarios::fleet::{Ask, Fleet, Probe};
use scenarios::history::Ledger;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::expect::Values;
use crate::http::{Connections, Question};
use crate::progress::Progress;
use crate::request;
use crate::target::Target;
use crate::trust::secure;
use crate::writes::{Fate, UPDATED, Write, WritePhases};

/// Reads under way at once, per cell and probe.
const WORKERS: usize = 8;
/// Reads of one write, with pauses in between.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(150);
/// Ids of each bad kind that the ledger names.
const EXAMPLES: u64 = 3;

/// What a store says of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Nowhere,
    There {
        copies: u64,
        /// Absent: it does not say.
        version: Option<u64>,
    },
}

/// What became of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    AsLeft,
    Lost,
    Duplicated,
    Resurrected,
    Stale,
    Unread,
}

/// How the writes of one probe are read at one cell.
pub(crate) struct Reader {
    /// With `{id}`.
    url: String,
    headers: HeaderMap,
    /// What the certificate of an https URL must be for.
    name: Option<String>,
    connections: Connections,
}

impl Reader {
    /// `values` are the cell's. `None`: nothing can be read.
    pub fn new(probe: &Probe, values: &Values) -> Option<Self> {
        let Ask::Http(http) = &probe.ask else {
            return None;
        };
        let url = fill(probe.read_back.as_ref()?, values);
        // Whoever may write with these headers may read with them.
        let texts = http
            .headers
            .iter()
            .filter(|(_, text)| !text.contains("{id}"));
        let texts = texts.map(|(name, text)| (name.clone(), fill(text, values)));
        let headers = request::headers(&texts.collect()).ok()?;
        let target = Target::parse(&url.replace("{id}", "check")).ok()?;
        let secure = target
            .secret
            .then(|| secure(&http.trust, target.address.ip(), "http/1.1"));
        Some(Self {
            url,
            headers,
            name: http.trust.name.clone(),
            connections: Connections::new(secure.transpose().ok()?),
        })
    }

    /// What is stored of one write, and the status that said so; an error if nothing is said.
    pub async fn read(
        &self,
        id: &str,
        fresh: bool,
        progress: &Progress,
    ) -> Result<(Stored, u16), String> {
        let url = self.url.replace("{id}", id);
        let question = Question {
            target: Target::parse_named(&url, self.name.as_deref())?,
            method: Method::GET,
            body: Bytes::new(),
            headers: self.headers.clone(),
            until: None,
        };
        let asked = self.connections.ask(&question, fresh, progress);
        let reply = asked.await.map_err(|outcome| format!("{outcome:?}"))?;
        Ok((stored(reply.status, &reply.body)?, reply.status))
    }
}

/// The writes of one cell and probe, being read.
struct Errand {
    reader: Reader,
    timeout: Duration,
    deadline: Instant,
    writes: Vec<Write>,
    phases: WritePhases,
    next: AtomicUsize,
}

pub async fn read_back(
    fleet: &Fleet,
    writes: &[Write],
    phases: WritePhases,
    within: Duration,
) -> Vec<Ledger> {
    let deadline = Instant::now() + within;
    let mut kept: BTreeMap<(&str, &str), Vec<Write>> = BTreeMap::new();
    for cell in fleet.cells.keys() {
        for (probe, _) in fleet
            .probes
            .iter()
            .filter(|(_, probe)| probe.read_back.is_some())
        {
            kept.insert((cell, probe), Vec::new());
        }
    }
    for write in writes {
        kept.entry((&write.cell, &write.probe))
            .or_default()
            .push(write.clone());
    }
    let ledgers = kept.into_iter().map(|((cell, probe), writes)| {
        let empty = empty_ledger(cell, probe, &writes);
        let phases_of = writes.iter().map(|write| phases.of(write)).collect();
        let reading = errand(fleet, cell, probe, (writes, phases), deadline);
        ledger(empty, phases_of, reading)
    });
    // All at once: a cell that cannot be read must not use up the time of the others.
    futures::future::join_all(ledgers).await
}

fn errand(
    fleet: &Fleet,
    cell: &str,
    probe: &str,
    (writes, phases): (Vec<Write>, WritePhases),
    deadline: Instant,
) -> Option<Errand> {
    let values = cell_values(cell, fleet.cells.get(cell)?);
    let probe = fleet.probes.get(probe)?;
    Some(Errand {
        reader: Reader::new(probe, &values)?,
        timeout: probe.timeout,
        deadline,
        writes,
        phases,
        next: AtomicUsize::new(0),
    })
}

/// Nothing is read yet.
fn empty_ledger(cell: &str, probe: &str, writes: &[Write]) -> Ledger {
    let count = |fate: fn(&Fate) -> bool| {
        let count = writes.iter().filter(|write| fate(&write.fate)).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    };
    Ledger {
        cell: cell.to_owned(),
        probe: probe.to_owned(),
        acknowledged: count(|_| true),
        lost: 0,
        duplicated: 0,
        unread: 0,
        resurrected: 0,
        stale: 0,
        updated: count(|fate| {
            matches!(
                fate,
                Fate::Updated {
                    acknowledged: true,
                    ..
                }
            )
        }),
        deleted: count(|fate| matches!(fate, Fate::Deleted { acknowledged: true })),
        phases: BTreeMap::new(),
        examples: Vec::new(),
    }
}

async fn ledger(mut ledger: Ledger, phases_of: Vec<WritePhase>, errand: Option<Errand>) -> Ledger {
    let mut phases: BTreeMap<WritePhase, WriteCounts> = BTreeMap::new();
    // What nobody tells of was not read: of an errand without a place, of a worker that ended in a
    // way it should not.
    for phase in phases_of {
        let counts = phases.entry(phase).or_default();
        counts.acknowledged += 1;
        counts.unread += 1;
    }
    match errand {
        None => ledger
            .examples
            .push("the fleet has nowhere to read them back".to_owned()),
        Some(errand) => read_all(errand, &mut phases, &mut ledger.examples).await,
    }
    for counts in phases.values() {
        ledger.lost += counts.lost;
        ledger.duplicated += counts.duplicated;
        ledger.resurrected += counts.resurrected;
        ledger.stale += counts.stale;
        ledger.unread += counts.unread;
    }
    ledger.phases = phases;
    ledger
}

async fn read_all(
    errand: Errand,
    phases: &mut BTreeMap<WritePhase, WriteCounts>,
    examples: &mut Vec<String>,
) {
    let errand = Arc::new(errand);
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS.min(errand.writes.len()) {
        workers.spawn(work(Arc::clone(&errand)));
    }
    let mut told: BTreeMap<&str, u64> = BTreeMap::new();
    while let Some(found) = workers.join_next().await {
        for (index, found, why) in found.unwrap_or_default() {
            let Some(write) = errand.writes.get(index) else {
                continue;
            };
            let counts = phases.entry(errand.phases.of(write)).or_default();
            counts.unread = counts.unread.saturating_sub(1);
            let (counter, kind) = match found {
                Found::AsLeft => continue,
                Found::Lost => (&mut counts.lost, "lost"),
                Found::Duplicated => (&mut counts.duplicated, "duplicated"),
                Found::Resurrected => (&mut counts.resurrected, "resurrected"),
                Found::Stale => (&mut counts.stale, "stale"),
                Found::Unread => (&mut counts.unread, "unread"),
            };
            *counter += 1;
            let told = told.entry(kind).or_default();
            *told += 1;
            if *told <= EXAMPLES {
                examples.push(format!("{kind}: {} ({why})", write.id));
            }
        }
    }
}

async fn work(errand: Arc<Errand>) -> Vec<(usize, Found, String)> {
    let mut found = Vec::new();
    loop {
        let index = errand.next.fetch_add(1, Ordering::Relaxed);
        let Some(write) = errand.writes.get(index) else {
            return found;
        };
        let (outcome, why) = errand.read(write).await;
        found.push((index, outcome, why));
    }
}

impl Errand {
    /// Repeats reads that fail; an answer, good or bad, is believed at once.
    async fn read(&self, write: &Write) -> (Found, String) {
        let mut why = "no time left".to_owned();
        for attempt in 0..ATTEMPTS {
            let limit = self.deadline.min(Instant::now() + self.timeout);
            if limit <= Instant::now() {
                break;
            }
            let progress = Progress::default();
            let read = self.reader.read(&write.id, attempt > 0, &progress);
            match timeout_at(limit, read).await {
                Ok(Ok((stored, status))) => match judge(write.fate, stored) {
                    Ok(found) => return (found, format!("status {status}")),
                    Err(bad) => why = bad,
                },
                Ok(Err(bad)) => why = bad,
                Err(_) => why = format!("no answer, {}", progress.text()),
            }
            sleep(PAUSE).await;
        }
        (Found::Unread, why)
    }
}

/// What an answer says about one write; an error if it says nothing.
fn stored(status: u16, body: &[u8]) -> Result<Stored, String> {
    match status {
        404 => Ok(Stored::Nowhere),
        200 => {
            let answer: Option<serde_json::Value> = serde_json::from_slice(body).ok();
            // Any body will do; only a store that counts can say more than "it is there".
            let number = |field: &str| {
                let value = answer.as_ref().and_then(|answer| answer.get(field));
                let read = |value: &serde_json::Value| match value.as_u64() {
                    Some(number) => Ok(number),
                    None => Err(format!("{field} is {value}, not a count")),
                };
                value.map(read).transpose()
            };
            match (number("copies")?.unwrap_or(1), number("version")?) {
                (0, _) => Ok(Stored::Nowhere),
                (copies, version) => Ok(Stored::There { copies, version }),
            }
        }
        status => Err(format!("status {status}")),
    }
}

/// Compares what is stored with what was acknowledged. Without an acknowledgement both will do.
fn judge(fate: Fate, stored: Stored) -> Result<Found, String> {
    let Stored::There { copies, version } = stored else {
        return Ok(match fate {
            Fate::Deleted { .. } => Found::AsLeft,
            Fate::Created | Fate::Updated { .. } => Found::Lost,
        });
    };
    let once = if copies > 1 {
        Found::Duplicated
    } else {
        Found::AsLeft
    };
    match (fate, version) {
        (Fate::Deleted { acknowledged: true }, _) => Ok(Found::Resurrected),
        (Fate::Updated { .. }, None) => {
            Err("the answer names no version, so a stale one could not be told".to_owned())
        }
        (
            Fate::Updated {
                acknowledged: true,
                seen,
            },
            Some(version),
        ) if version < UPDATED => Ok(if seen {
            Found::Resurrected
        } else {
            Found::Stale
        }),
        _ => Ok(once),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fate: Fate, body: &str) -> Result<Found, String> {
        stored(200, body.as_bytes()).and_then(|stored| judge(fate, stored))
    }

    #[test]
    fn answers_are_read_for_what_they_say_and_no_more() {
        let created = |body| found(Fate::Created, body);
        assert_eq!(created("{\"copies\":1}"), Ok(Found::AsLeft));
        assert_eq!(created("{\"copies\":2}"), Ok(Found::Duplicated));
        assert_eq!(created("{\"copies\":0}"), Ok(Found::Lost));
        assert_eq!(created("stored, thank you"), Ok(Found::AsLeft));
        let missing = stored(404, b"").unwrap();
        assert_eq!(judge(Fate::Created, missing), Ok(Found::Lost));
        assert!(created("{\"copies\":\"many\"}").is_err());
        assert!(created("{\"version\":-1}").is_err());
        assert!(stored(503, b"").is_err());
    }

    #[test]
    fn what_came_back_is_told_from_what_was_never_there() {
        let deleted = |acknowledged| Fate::Deleted { acknowledged };
        let updated = |acknowledged, seen| Fate::Updated { acknowledged, seen };
        let (old, new) = ("{\"version\":1}", "{\"version\":2}");
        assert_eq!(found(deleted(true), old), Ok(Found::Resurrected));
        assert_eq!(found(deleted(false), old), Ok(Found::AsLeft));
        assert_eq!(judge(deleted(true), Stored::Nowhere), Ok(Found::AsLeft));
        assert_eq!(found(updated(true, false), old), Ok(Found::Stale));
        assert_eq!(found(updated(true, true), old), Ok(Found::Resurrected));
        assert_eq!(found(updated(false, false), old), Ok(Found::AsLeft));
        assert_eq!(found(updated(true, true), new), Ok(Found::AsLeft));
        assert_eq!(judge(updated(true, true), Stored::Nowhere), Ok(Found::Lost));
        assert!(
            found(updated(true, true), "{\"copies\":1}").is_err(),
            "no version"
        );
    }
}
