//! Acknowledged writes: which are remembered, and what is told of them when they are read back.

mod fleet;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleet::{Server, http_of, one_cell, probe, serve};
use probes::{Prober, Write};
use scenarios::asks::Expectation;
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

#[tokio::test]
async fn acknowledged_orders_are_remembered_and_found_lost_twice_or_unreadable() {
    let stored: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let store = Arc::clone(&stored);
    let server = serve(
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
    );
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

    let ledger = &Prober::read_back(&fleet, &acknowledged, Duration::from_secs(5)).await[0];
    assert_eq!(counts(ledger), [ids.len() as u64, 0, 0, 0], "{ledger:?}");

    let mut some = ids.iter();
    let (lost, twice) = (some.next().unwrap().clone(), some.next().unwrap().clone());
    stored.lock().unwrap().remove(&lost);
    stored.lock().unwrap().insert(twice.clone(), 2);
    let ledger = &Prober::read_back(&fleet, &acknowledged, Duration::from_secs(5)).await[0];
    assert_eq!(counts(ledger), [ids.len() as u64, 1, 1, 0], "{ledger:?}");
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
    let ledgers = Prober::read_back(&shop(&server), &writes, Duration::from_secs(10)).await;
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
    let ledgers = Prober::read_back(&fleet, &writes(&ids), Duration::from_secs(2)).await;
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
    let ledgers = Prober::read_back(&shop(&server), &[], Duration::from_secs(1)).await;
    assert_eq!(ledgers.len(), 1);
    assert_eq!(counts(&ledgers[0]), [0, 0, 0, 0]);
}
