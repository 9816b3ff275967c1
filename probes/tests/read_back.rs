//! Acknowledged writes: which are remembered, and what is told of them when they are read back.

mod fleet;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleet::{Server, http_of, one_cell, probe, serve};
use probes::{Fate, Prober, Write, WritePhases};
use scenarios::asks::Expectation;
use scenarios::effects::WritePhase;
use scenarios::fleet::{Fleet, HttpMethod};
use scenarios::history::Ledger;

/// A cell `a` with the probe `order`, written by POST and read back by GET.
fn shop(server: &Server) -> Fleet {
    let mut fleet = one_cell(server);
    let port = server.address.port();
    let mut order = fleet.probes.remove("home").unwrap();
    order.read_back = Some(format!("http://{{cell}}:{port}/orders/{{id}}"));
    fleet.probes.insert("order".to_owned(), order);
    let http = http_of(&mut fleet, "order");
    http.method = HttpMethod::Post;
    http.url = format!("http://{{cell}}:{port}/orders");
    http.body = Some("{\"id\":\"{id}\"}".to_owned());
    http.expect = Expectation::status(201);
    fleet
}

fn writes(ids: &[&str]) -> Vec<Write> {
    let write = |id: &&str| Write {
        cell: "a".to_owned(),
        probe: "order".to_owned(),
        id: (*id).to_owned(),
        at_ms: 0,
        fate: Fate::Created,
    };
    ids.iter().map(write).collect()
}

fn counts(ledger: &Ledger) -> [u64; 4] {
    [
        ledger.acknowledged,
        ledger.lost,
        ledger.duplicated,
        ledger.unread,
    ]
}

/// A store of ids and how many copies it has of each.
fn refusing_every_fifth(stored: &Arc<Mutex<BTreeMap<String, u32>>>) -> Server {
    let store = Arc::clone(stored);
    serve(
        "127.0.0.1:0",
        Arc::new(move |asked| {
            let mut store = store.lock().unwrap();
            if asked.path == "/orders" {
                let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
                let id = body["id"].as_str().unwrap().to_owned();
                // Every fifth is refused, and must not be asked for.
                if store.len() % 5 == 4 {
                    store.insert(format!("refused-{id}"), 0);
                    return (Duration::ZERO, 503, String::new());
                }
                store.insert(id, 1);
                return (Duration::ZERO, 201, String::new());
            }
            match store.get(asked.path.trim_start_matches("/orders/")) {
                Some(copies) => (Duration::ZERO, 200, format!("{{\"copies\":{copies}}}")),
                None => (Duration::ZERO, 404, String::new()),
            }
        }),
    )
}

/// The ledger of the one probe.
async fn ledger_of(fleet: &Fleet, writes: &[Write], phases: WritePhases) -> Ledger {
    let within = Duration::from_secs(5);
    Prober::read_back(fleet, writes, phases, within)
        .await
        .remove(0)
}

#[tokio::test]
async fn acknowledged_orders_are_remembered_and_found_lost_twice_or_unreadable() {
    let stored: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let server = refusing_every_fifth(&stored);
    let fleet = shop(&server);
    let (seen, prober) = probe(&fleet, 2).await;
    let acknowledged = prober.acknowledged();
    let ids: BTreeSet<String> = acknowledged.iter().map(|write| write.id.clone()).collect();
    assert_eq!(ids.len(), acknowledged.len(), "ids are unique");
    assert!(ids.iter().all(|id| id.starts_with("test-run-")), "{ids:?}");
    {
        let stored = stored.lock().unwrap();
        let kept: BTreeSet<String> = stored
            .keys()
            .filter(|id| !id.starts_with("refused"))
            .cloned()
            .collect();
        assert_eq!(ids, kept);
    }
    assert!(ids.len() >= 28 && seen.sum("a/order", |block| block.errors) >= 6);

    let ledger = ledger_of(&fleet, &acknowledged, WritePhases::default()).await;
    assert_eq!(counts(&ledger), [ids.len() as u64, 0, 0, 0], "{ledger:?}");

    let mut some = ids.iter();
    let (lost, twice) = (some.next().unwrap().clone(), some.next().unwrap().clone());
    stored.lock().unwrap().remove(&lost);
    stored.lock().unwrap().insert(twice.clone(), 2);
    let ledger = ledger_of(&fleet, &acknowledged, WritePhases::default()).await;
    assert_eq!(counts(&ledger), [ids.len() as u64, 1, 1, 0], "{ledger:?}");
    let named = ledger.examples.join(" ");
    assert!(named.contains(&format!("lost: {lost}")), "{named}");
    assert!(named.contains(&format!("duplicated: {twice}")), "{named}");
}

#[tokio::test]
async fn a_read_that_fails_at_first_is_repeated() {
    let tries = Mutex::new(BTreeMap::<String, u32>::new());
    let server = serve(
        "127.0.0.1:0",
        Arc::new(move |asked| {
            let mut tries = tries.lock().unwrap();
            let tries = tries.entry(asked.path.clone()).or_insert(0);
            *tries += 1;
            let status = match (asked.path.as_str(), *tries) {
                ("/orders/never", _) => 503,
                (_, 1) => 503,
                (_, 2) => 0,
                _ => 200,
            };
            (Duration::ZERO, status, String::new())
        }),
    );
    let writes = writes(&["one", "two", "never"]);
    let ledgers = Prober::read_back(
        &shop(&server),
        &writes,
        WritePhases::default(),
        Duration::from_secs(10),
    )
    .await;
    assert_eq!(counts(&ledgers[0]), [3, 0, 0, 1], "{:?}", ledgers[0]);
}

#[tokio::test]
async fn reading_ends_in_time_when_nobody_answers() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = serve("127.0.0.1:0", fleet::always_ok());
    let mut fleet = shop(&server);
    fleet.probes.get_mut("order").unwrap().read_back = Some(format!(
        "http://{{cell}}:{}/{{id}}",
        silent.local_addr().unwrap().port()
    ));
    let ids: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let ledgers = Prober::read_back(
        &fleet,
        &writes(&ids),
        WritePhases::default(),
        Duration::from_secs(2),
    )
    .await;
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(counts(&ledgers[0]), [500, 0, 0, 500]);
}

#[tokio::test]
async fn a_cell_without_writes_has_an_empty_ledger() {
    let server = serve("127.0.0.1:0", fleet::always_ok());
    let ledgers = Prober::read_back(
        &shop(&server),
        &[],
        WritePhases::default(),
        Duration::from_secs(1),
    )
    .await;
    assert_eq!(ledgers.len(), 1);
    assert_eq!(counts(&ledgers[0]), [0, 0, 0, 0]);
}

/// A store that keeps versions; a deleted order is version 0.
fn versioned(stored: &Arc<Mutex<BTreeMap<String, u64>>>) -> Server {
    let store = Arc::clone(stored);
    serve(
        "127.0.0.1:0",
        Arc::new(move |asked| {
            let mut store = store.lock().unwrap();
            let id = asked.path.trim_start_matches("/orders/").to_owned();
            let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap_or_default();
            let there = store.get(&id).copied().filter(|version| *version > 0);
            let status = match asked.method.as_str() {
                "POST" => {
                    store.insert(body["id"].as_str().unwrap().to_owned(), 1);
                    201
                }
                _ if there.is_none() => 404,
                "PUT" => {
                    store.insert(id, body["version"].as_u64().unwrap());
                    200
                }
                "DELETE" => {
                    store.insert(id, 0);
                    200
                }
                _ => 200,
            };
            let version = there.unwrap_or_default();
            (Duration::ZERO, status, format!("{{\"version\":{version}}}"))
        }),
    )
}

/// The shop's probe, which also updates and deletes.
fn rewriting(server: &Server) -> Fleet {
    let mut fleet = shop(server);
    let port = server.address.port();
    let url = format!("http://{{cell}}:{port}/orders/{{id}}");
    let order = fleet.probes.get_mut("order").unwrap();
    let mut update = fleet::request(HttpMethod::Put, url.clone());
    update.body = Some("{\"version\":{version}}".to_owned());
    order.rewrites.update = Some(update);
    order.rewrites.delete = Some(fleet::request(HttpMethod::Delete, url));
    fleet
}

#[tokio::test]
async fn what_comes_back_is_told_from_what_is_stale_or_lost() {
    let stored: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let server = versioned(&stored);
    let fleet = rewriting(&server);
    let (seen, prober) = probe(&fleet, 3).await;
    let bad = seen.sum("a/order", |block| block.bad);
    assert_eq!(bad, 0, "{:?}", seen.samples);
    let all = prober.acknowledged();
    let of = |fate: Fate| all.iter().filter(|w| w.fate == fate).collect::<Vec<_>>();
    let deleted = of(Fate::Deleted { acknowledged: true });
    let updated = of(Fate::Updated {
        acknowledged: true,
        seen: true,
    });
    let created = of(Fate::Created);
    assert!(deleted.len() >= 8 && updated.len() >= 8 && created.len() >= 18);
    let phases = WritePhases {
        fire_ms: Some(1000),
        reverted_ms: Some(2000),
    };
    let ledger = ledger_of(&fleet, &all, phases).await;
    assert_eq!(counts(&ledger), [all.len() as u64, 0, 0, 0], "{ledger:?}");
    assert_eq!((ledger.resurrected, ledger.stale), (0, 0), "{ledger:?}");
    assert_eq!(ledger.updated, updated.len() as u64);
    assert_eq!(ledger.deleted, deleted.len() as u64);
    assert_eq!(ledger.phases.len(), 3, "{ledger:?}");
    let sum: u64 = ledger.phases.values().map(|c| c.acknowledged).sum();
    assert_eq!(sum, ledger.acknowledged);

    {
        let mut stored = stored.lock().unwrap();
        stored.insert(deleted[0].id.clone(), 1); // deleted, and there again
        stored.insert(updated[0].id.clone(), 1); // seen in the new version, and old again
        stored.insert(updated[1].id.clone(), 0); // gone
    }
    let mut unseen = all.clone();
    let stale = unseen.iter_mut().find(|w| w.id == updated[2].id).unwrap();
    stale.fate = Fate::Updated {
        acknowledged: true,
        seen: false,
    };
    stored.lock().unwrap().insert(updated[2].id.clone(), 1);
    let ledger = ledger_of(&fleet, &unseen, phases).await;
    assert_eq!(
        (ledger.resurrected, ledger.stale, ledger.lost, ledger.unread),
        (2, 1, 1, 0),
        "{ledger:?}"
    );
    let named = ledger.examples.join(" ");
    assert!(
        named.contains(&format!("stale: {}", updated[2].id)),
        "{named}"
    );
    let phase = |write: &Write| match write.at_ms {
        0..1000 => WritePhase::Before,
        1000..2000 => WritePhase::During,
        _ => WritePhase::After,
    };
    assert_eq!(ledger.phases[&phase(updated[1])].lost, 1);
}

/// An update or deletion of what the store has lost is no failure of the cell: the ledger tells.
#[tokio::test]
async fn a_rewrite_of_a_lost_write_is_found_lost_and_not_bad() {
    let stored: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let server = versioned(&stored);
    let store = Arc::clone(&stored);
    let fleet = rewriting(&server);
    let (seen, prober) = fleet::probe_with(&fleet, 3, |_, _| store.lock().unwrap().clear()).await;
    let bad = seen.sum("a/order", |block| block.bad);
    assert_eq!(bad, 0, "{:?}", seen.samples);
    let all = prober.acknowledged();
    let ledger = ledger_of(&fleet, &all, WritePhases::default()).await;
    assert!(ledger.lost >= 20 && ledger.unread == 0, "{ledger:?}");
}

#[tokio::test]
async fn without_versions_an_update_cannot_be_told_and_is_unread() {
    let server = serve("127.0.0.1:0", fleet::always_ok());
    let mut one = writes(&["a"]);
    one[0].fate = Fate::Updated {
        acknowledged: true,
        seen: false,
    };
    let within = Duration::from_secs(5);
    let ledger = &Prober::read_back(&shop(&server), &one, WritePhases::default(), within).await[0];
    assert_eq!(counts(ledger), [1, 0, 0, 1], "{ledger:?}");
    assert!(ledger.examples[0].contains("names no version"));
}
