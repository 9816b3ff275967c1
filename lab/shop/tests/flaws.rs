//! What the lab's flaws are made of: each works while its other cell is there, and not without.

mod parts;

use std::time::Duration;

use parts::{Part, get, http, place_order};

const PATIENCE: Duration = Duration::from_secs(15);

fn until(what: &str, wanted: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !wanted() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Cell {
    pricing: Part,
    resolver: Part,
    store: Part,
    _data: tempfile::TempDir,
}

impl Cell {
    fn start(store: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("orders").display().to_string();
        let mut arguments = vec!["store", "--listen", "127.0.0.1:0", "--data", &file];
        arguments.extend(store);
        let record = "pricing.internal=127.0.0.1";
        Self {
            pricing: Part::start(&["pricing", "--listen", "127.0.0.1:0"]),
            resolver: Part::start(&["resolver", "--listen", "127.0.0.1:0", "--record", record]),
            store: Part::start(&arguments),
            _data: data,
        }
    }

    fn front(&self, more: &[&str]) -> Part {
        let pricing = format!("pricing.internal:{}", self.pricing.address.port());
        let (resolver, store) = (self.resolver.address, self.store.address);
        let (resolver, store) = (resolver.to_string(), store.to_string());
        let mut arguments = vec![
            "front",
            "--listen",
            "127.0.0.1:0",
            "--pricing-host",
            &pricing,
        ];
        arguments.extend(["--resolver", &resolver, "--store", &store]);
        arguments.extend(more);
        Part::start(&arguments)
    }
}

fn shared() -> Part {
    Part::start(&["shared", "--listen", "127.0.0.1:0"])
}

fn checkout(front: &Part) -> u16 {
    get(front.address, "/checkout").0
}

#[test]
fn token_and_quota_are_asked_for_and_keys_are_kept() {
    let cell = Cell::start(&[]);
    for (need, without) in [("token", 401), ("quota", 429), ("keys", 200)] {
        let mut shared = shared();
        let needs = format!("{need}={}", shared.address);
        let front = cell.front(&["--needs", &needs]);
        until(need, || checkout(&front) == 200);
        assert_eq!(place_order(front.address, need), 201);
        shared.kill();
        until(need, || checkout(&front) == without);
        // Neither the page nor a read needs anything.
        assert_eq!(get(front.address, "/").0, 200);
        assert_eq!(get(front.address, &format!("/orders/{need}")).0, 200);
    }
}

#[test]
fn a_store_stops_writing_without_its_lease_and_without_the_time() {
    for need in ["lease", "clock"] {
        let mut shared = shared();
        let needs = format!("{need}={}", shared.address);
        let cell = Cell::start(&["--needs", &needs]);
        let store = &cell.store;
        until(need, || place_order(store.address, "before") < 300);
        shared.kill();
        until(need, || place_order(store.address, "after") == 503);
        let deleted = http(store.address, "DELETE", "/orders/before", "");
        assert_eq!(deleted.0, 503);
        assert_eq!(get(store.address, "/orders/before").0, 200);
    }
}

#[test]
fn a_replica_has_what_was_acknowledged_and_without_it_nothing_is() {
    let mut other = Cell::start(&[]);
    let replica = other.store.address.to_string();
    let cell = Cell::start(&["--replica", &replica]);
    assert_eq!(place_order(cell.store.address, "one"), 201);
    assert_eq!(get(other.store.address, "/orders/one").0, 200);
    assert_eq!(place_order(cell.store.address, "one"), 200);
    // Only new orders are copied.
    let update = |address| http(address, "PUT", "/orders/one", "{\"version\":2}").0;
    assert_eq!(update(cell.store.address), 200);
    assert_eq!(update(other.store.address), 200);
    other.store.kill();
    assert_eq!(place_order(cell.store.address, "two"), 503);
}

#[test]
fn one_price_in_so_many_comes_from_elsewhere() {
    let (cell, mut other) = (Cell::start(&[]), Cell::start(&[]));
    let detour = other.pricing.address.to_string();
    let front = cell.front(&["--detour", &detour, "--detour-every", "5"]);
    let failed = || (0..50).filter(|_| checkout(&front) != 200).count();
    assert_eq!(failed(), 0);
    other.pricing.kill();
    assert_eq!(failed(), 10);
}

#[test]
fn a_front_waits_for_its_release_and_leaves_when_it_is_replaced() {
    let cell = Cell::start(&[]);
    let mut source = shared();
    let release = source.address.to_string();
    let life = ["--release-source", &release, "--replaced-every", "3000"];
    let mut front = cell.front(&life);
    assert_eq!(get(front.address, "/").0, 200);
    until("draining", || get(front.address, "/healthz").0 == 503);
    // It serves what comes all the same.
    assert_eq!(checkout(&front), 200);
    assert!(front.wait().success());

    source.kill();
    let pricing = format!("pricing.internal:{}", cell.pricing.address.port());
    let mut without = std::process::Command::new(env!("CARGO_BIN_EXE_shop"))
        .args([
            "front",
            "--listen",
            "127.0.0.1:0",
            "--pricing-host",
            &pricing,
        ])
        .args(["--resolver", "127.0.0.1:1", "--store", "127.0.0.1:1"])
        .args(life)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    without.kill().unwrap();
    let said = without.wait_with_output().unwrap().stdout;
    assert_eq!(
        String::from_utf8_lossy(&said),
        "",
        "it listens without a release"
    );
}

#[test]
fn a_front_with_two_workers_leaves_the_rest_in_line_until_they_give_up() {
    let cell = Cell::start(&[]);
    let front = cell.front(&["--workers", "2", "--work-ms", "400"]);
    let address = front.address;
    let users = (0..12).map(|_| std::thread::spawn(move || get(address, "/checkout").0));
    let users: Vec<_> = users.collect();
    let answers: Vec<u16> = users.into_iter().map(|user| user.join().unwrap()).collect();
    let served = answers.iter().filter(|status| **status == 200).count();
    // Two at 0, 400 and 800 ms; whoever waited 850 ms has left.
    assert!((2..=8).contains(&served), "{answers:?}");
    assert!(answers.contains(&503), "{answers:?}");
    assert_eq!(get(address, "/").0, 200);
}
