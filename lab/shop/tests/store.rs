//! The order store keeps what it acknowledged, once, and its flaws really are flaws.

mod parts;

use std::net::SocketAddr;
use std::path::Path;

use parts::{Part, get, http, place_order};

fn store(data: &Path, extra: &[&str]) -> Part {
    let data = data.to_str().unwrap();
    let mut args = vec!["store", "--listen", "127.0.0.1:0", "--data", data];
    args.extend(extra);
    Part::start(&args)
}

fn copies(address: SocketAddr, id: &str) -> Option<u64> {
    let (status, body) = get(address, &format!("/orders/{id}"));
    (status == 200).then(|| {
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["copies"]
            .as_u64()
            .unwrap()
    })
}

#[test]
fn acknowledged_orders_survive_kill_9_and_a_torn_tail() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("orders");
    let mut first = store(&data, &[]);
    let address = first.address;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            std::thread::spawn(move || {
                let ids = (0..).map(|order| format!("w{writer}-{order}"));
                ids.take_while(|id| place_order(address, id) == 201)
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(300));
    first.kill();
    let acknowledged: Vec<String> = writers
        .into_iter()
        .flat_map(|writer| writer.join().unwrap())
        .collect();
    assert!(
        acknowledged.len() > 20,
        "only {} orders",
        acknowledged.len()
    );

    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(&data)
        .unwrap();
    std::io::Write::write_all(&mut log, b"torn-in-the-mid").unwrap();
    let second = store(&data, &[]);
    for id in &acknowledged {
        assert_eq!(copies(second.address, id), Some(1), "{id}");
    }
    assert_eq!(copies(second.address, "torn-in-the-mid"), None);
    assert_eq!(place_order(second.address, "after"), 201);
    drop(second);
    assert_eq!(copies(store(&data, &[]).address, "after"), Some(1));
}

#[test]
fn an_id_is_stored_once_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("orders");
    let mut first = store(&data, &[]);
    assert_eq!(place_order(first.address, "a"), 201);
    assert_eq!(place_order(first.address, "a"), 200);
    first.kill();
    let second = store(&data, &[]);
    assert_eq!(place_order(second.address, "a"), 200);
    assert_eq!(copies(second.address, "a"), Some(1));
}

#[test]
fn bad_orders_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let part = store(&directory.path().join("orders"), &[]);
    let long = format!("{{\"id\":\"{}\"}}", "x".repeat(129));
    let huge = format!("{{\"id\":\"{}\"}}", "x".repeat(100_000));
    for body in [
        "",
        "{}",
        "[1]",
        "{\"id\":\"\"}",
        "{\"id\":\"a\\nb\"}",
        "{\"id\":\"a/b\"}",
        &long,
    ] {
        assert_eq!(http(part.address, "POST", "/orders", body).0, 400, "{body}");
    }
    assert_ne!(http(part.address, "POST", "/orders", &huge).0, 201);
    assert_eq!(get(part.address, "/orders/unknown").0, 404);
    assert_eq!(place_order(part.address, &"x".repeat(128)), 201);
}

#[test]
fn lossy_acknowledges_and_loses_every_nth() {
    let directory = tempfile::tempdir().unwrap();
    let part = store(&directory.path().join("orders"), &["--lossy", "3"]);
    let kept: Vec<bool> = (0..9)
        .map(|order| {
            let id = format!("o{order}");
            assert_eq!(place_order(part.address, &id), 201);
            copies(part.address, &id).is_some()
        })
        .collect();
    assert_eq!(
        kept,
        [true, true, false, true, true, false, true, true, false]
    );
}

#[test]
fn duplicate_keeps_every_nth_twice_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("orders");
    let mut part = store(&data, &["--duplicate", "2"]);
    for id in ["a", "b", "c", "d"] {
        assert_eq!(place_order(part.address, id), 201);
    }
    part.kill();
    let part = store(&data, &[]);
    let counted = ["a", "b", "c", "d"].map(|id| copies(part.address, id).unwrap());
    assert_eq!(counted, [1, 2, 1, 2]);
}

fn version(address: SocketAddr, id: &str) -> Option<u64> {
    let (status, body) = get(address, &format!("/orders/{id}"));
    (status == 200).then(|| {
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["version"]
            .as_u64()
            .unwrap()
    })
}

fn rewrite(address: SocketAddr, method: &str, id: &str) -> u16 {
    http(address, method, &format!("/orders/{id}"), "{\"version\":2}").0
}

#[test]
fn updates_and_deletions_are_kept_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("orders");
    let mut part = store(&data, &[]);
    for id in ["a", "b"] {
        assert_eq!(place_order(part.address, id), 201);
    }
    assert_eq!(version(part.address, "a"), Some(1));
    assert_eq!(rewrite(part.address, "PUT", "a"), 200);
    assert_eq!(rewrite(part.address, "PUT", "a"), 409, "not newer");
    assert_eq!(rewrite(part.address, "DELETE", "b"), 200);
    assert_eq!(rewrite(part.address, "DELETE", "b"), 404);
    assert_eq!(http(part.address, "PUT", "/orders/a", "{}").0, 400);
    part.kill();
    let part = store(&data, &[]);
    assert_eq!(version(part.address, "a"), Some(2));
    assert_eq!(version(part.address, "b"), None);
    assert_eq!(place_order(part.address, "b"), 409, "an id is used once");
}

#[test]
fn stale_acknowledges_every_nth_update_and_keeps_the_old_version() {
    let directory = tempfile::tempdir().unwrap();
    let part = store(&directory.path().join("orders"), &["--stale", "3"]);
    let versions = ["a", "b", "c", "d"].map(|id| {
        assert_eq!(place_order(part.address, id), 201);
        assert_eq!(rewrite(part.address, "PUT", id), 200);
        version(part.address, id).unwrap()
    });
    assert_eq!(versions, [2, 2, 1, 2]);
}

#[test]
fn resurrect_brings_every_nth_back_after_it_was_seen_gone() {
    let directory = tempfile::tempdir().unwrap();
    let part = store(&directory.path().join("orders"), &["--resurrect", "2"]);
    let ids = ["a", "b", "c", "d"];
    for id in ids {
        assert_eq!(place_order(part.address, id), 201);
    }
    let rewritten = [("PUT", "a"), ("PUT", "b"), ("DELETE", "c"), ("DELETE", "d")];
    for (method, id) in rewritten {
        assert_eq!(rewrite(part.address, method, id), 200);
    }
    let now = ids.map(|id| version(part.address, id));
    assert_eq!(
        now,
        [Some(2), Some(2), None, None],
        "acknowledged, and seen so"
    );
    let wanted = [Some(2), Some(1), None, Some(1)];
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while ids.map(|id| version(part.address, id)) != wanted {
        assert!(
            std::time::Instant::now() < patience,
            "b and d do not come back"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
