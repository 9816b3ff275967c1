//! Reads acknowledged writes back: what was lost, what is there twice, what could not be asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use scenarios::asks::{cell_values, fill};
use scenarios::fleet::{Ask, Fleet};
use scenarios::history::Ledger;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::http::{Connections, Question};
use crate::prober::Write;
use crate::progress::Progress;
use crate::request;
use crate::target::Target;
use crate::trust::secure;

/// Reads under way at once, per cell and probe.
const WORKERS: usize = 8;
/// Reads of one write, with pauses in between.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(150);
/// Ids of each bad kind that the ledger names.
const EXAMPLES: u64 = 3;

/// What became of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Once,
    Lost,
    Duplicated,
    Unread,
}

/// The writes of one cell and probe, being read.
struct Errand {
    /// With `{id}`.
    url: String,
    timeout: Duration,
    deadline: Instant,
    ids: Vec<String>,
    next: AtomicUsize,
    headers: HeaderMap,
    /// What the certificate of an https URL must be for.
    name: Option<String>,
    connections: Connections,
}

pub async fn read_back(fleet: &Fleet, writes: &[Write], within: Duration) -> Vec<Ledger> {
    let deadline = Instant::now() + within;
    let mut ids: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for cell in fleet.cells.keys() {
        for (probe, _) in fleet
            .probes
            .iter()
            .filter(|(_, probe)| probe.read_back.is_some())
        {
            ids.insert((cell, probe), Vec::new());
        }
    }
    for write in writes {
        ids.entry((&write.cell, &write.probe))
            .or_default()
            .push(write.id.clone());
    }
    let ledgers = ids.into_iter().map(|((cell, probe), ids)| {
        let acknowledged = ids.len();
        let reading = errand(fleet, cell, probe, ids, deadline);
        ledger(cell, probe, reading, acknowledged)
    });
    // All at once: a cell that cannot be read must not use up the time of the others.
    futures::future::join_all(ledgers).await
}

fn errand(
    fleet: &Fleet,
    cell: &str,
    probe: &str,
    ids: Vec<String>,
    deadline: Instant,
) -> Option<Errand> {
    let values = cell_values(cell, fleet.cells.get(cell)?);
    let probe = fleet.probes.get(probe)?;
    let Ask::Http(http) = &probe.ask else {
        return None;
    };
    let url = fill(probe.read_back.as_ref()?, &values);
    // Whoever may write with these headers may read with them.
    let texts = http
        .headers
        .iter()
        .filter(|(_, text)| !text.contains("{id}"));
    let texts = texts.map(|(name, text)| (name.clone(), fill(text, &values)));
    let headers = request::headers(&texts.collect()).ok()?;
    let target = Target::parse(&url.replace("{id}", "check")).ok()?;
    let secure = target
        .secret
        .then(|| secure(&http.trust, target.address.ip(), "http/1.1"));
    Some(Errand {
        url,
        timeout: probe.timeout,
        deadline,
        ids,
        next: AtomicUsize::new(0),
        headers,
        name: http.trust.name.clone(),
        connections: Connections::new(secure.transpose().ok()?),
    })
}

async fn ledger(cell: &str, probe: &str, errand: Option<Errand>, acknowledged: usize) -> Ledger {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let mut ledger = Ledger {
        cell: cell.to_owned(),
        probe: probe.to_owned(),
        acknowledged: count(acknowledged),
        lost: 0,
        duplicated: 0,
        unread: 0,
        examples: Vec::new(),
    };
    let Some(errand) = errand else {
        ledger.unread = ledger.acknowledged;
        ledger
            .examples
            .push("the fleet has nowhere to read them back".to_owned());
        return ledger;
    };
    let errand = Arc::new(errand);
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS.min(acknowledged) {
        workers.spawn(work(Arc::clone(&errand)));
    }
    let mut read = 0;
    while let Some(found) = workers.join_next().await {
        for (id, found, why) in found.unwrap_or_default() {
            read += 1;
            let (counter, kind) = match found {
                Found::Once => continue,
                Found::Lost => (&mut ledger.lost, "lost"),
                Found::Duplicated => (&mut ledger.duplicated, "duplicated"),
                Found::Unread => (&mut ledger.unread, "unread"),
            };
            *counter += 1;
            if *counter <= EXAMPLES {
                ledger.examples.push(format!("{kind}: {id} ({why})"));
            }
        }
    }
    // A worker that ended in a way it should not has told nothing of its ids.
    ledger.unread += count(acknowledged.saturating_sub(read));
    ledger
}

async fn work(errand: Arc<Errand>) -> Vec<(String, Found, String)> {
    let mut found = Vec::new();
    while let Some(id) = errand.ids.get(errand.next.fetch_add(1, Ordering::Relaxed)) {
        let (outcome, why) = errand.read(id).await;
        found.push((id.clone(), outcome, why));
    }
    found
}

impl Errand {
    /// Repeats reads that fail; an answer, good or bad, is believed at once.
    async fn read(&self, id: &str) -> (Found, String) {
        let url = self.url.replace("{id}", id);
        let target = match Target::parse_named(&url, self.name.as_deref()) {
            Ok(target) => target,
            Err(why) => return (Found::Unread, why),
        };
        let question = Question {
            target,
            method: Method::GET,
            body: Bytes::new(),
            headers: self.headers.clone(),
            until: None,
        };
        let mut why = "no time left".to_owned();
        for attempt in 0..ATTEMPTS {
            let limit = self.deadline.min(Instant::now() + self.timeout);
            if limit <= Instant::now() {
                break;
            }
            let progress = Progress::default();
            let asked = self.connections.ask(&question, attempt > 0, &progress);
            match timeout_at(limit, asked).await {
                Ok(Ok(reply)) => match judge(reply.status, &reply.body) {
                    Ok(found) => return (found, format!("status {}", reply.status)),
                    Err(bad) => why = bad,
                },
                Ok(Err(outcome)) => why = format!("{outcome:?}"),
                Err(_) => why = format!("no answer, {}", progress.text()),
            }
            sleep(PAUSE).await;
        }
        (Found::Unread, why)
    }
}

/// What an answer says about one write; an error if it says nothing.
fn judge(status: u16, body: &[u8]) -> Result<Found, String> {
    match status {
        404 => Ok(Found::Lost),
        200 => {
            let answer: Option<serde_json::Value> = serde_json::from_slice(body).ok();
            // Any body will do; only a store that counts can say more than "it is there".
            match answer.as_ref().and_then(|answer| answer.get("copies")) {
                None => Ok(Found::Once),
                Some(copies) => match copies.as_u64() {
                    Some(0) => Ok(Found::Lost),
                    Some(1) => Ok(Found::Once),
                    Some(_) => Ok(Found::Duplicated),
                    None => Err(format!("copies is {copies}, not a count")),
                },
            }
        }
        status => Err(format!("status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_for_what_they_say_and_no_more() {
        assert_eq!(judge(200, b"{\"copies\":1}"), Ok(Found::Once));
        assert_eq!(judge(200, b"{\"copies\":2}"), Ok(Found::Duplicated));
        assert_eq!(judge(200, b"{\"copies\":0}"), Ok(Found::Lost));
        assert_eq!(judge(200, b"stored, thank you"), Ok(Found::Once));
        assert_eq!(judge(404, b""), Ok(Found::Lost));
        assert!(judge(200, b"{\"copies\":\"many\"}").is_err());
        assert!(judge(503, b"").is_err());
    }
}
