//! Balancer and front: failover, and failures that name the part that failed.

mod parts;

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use parts::{Part, get, place_order};

struct Cell {
    pricing: Part,
    resolver: Part,
    store: Part,
    _data: tempfile::TempDir,
}

impl Cell {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("orders");
        let file = file.to_str().unwrap();
        Self {
            pricing: Part::start(&["pricing", "--listen", "127.0.0.1:0"]),
            resolver: Part::start(&[
                "resolver",
                "--listen",
                "127.0.0.1:0",
                "--record",
                "pricing.internal=127.0.0.1",
            ]),
            store: Part::start(&["store", "--listen", "127.0.0.1:0", "--data", file]),
            _data: data,
        }
    }

    fn front(&self) -> Part {
        self.front_with(
            self.resolver.address,
            self.pricing.address,
            self.store.address,
        )
    }

    fn front_with(&self, resolver: SocketAddr, pricing: SocketAddr, store: SocketAddr) -> Part {
        Part::start(&[
            "front",
            "--listen",
            "127.0.0.1:0",
            "--pricing-host",
            &format!("pricing.internal:{}", pricing.port()),
            "--resolver",
            &resolver.to_string(),
            "--store",
            &store.to_string(),
        ])
    }
}

fn balancer(backends: &[SocketAddr]) -> Part {
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    let mut args = vec!["balancer", "--listen", "127.0.0.1:0"];
    for backend in &backends {
        args.extend(["--backend", backend]);
    }
    Part::start(&args)
}

/// Accepts connections (the kernel does) and never says a word, as behind a black hole.
fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_whole_cell_serves() {
    let cell = Cell::start();
    let (one, two) = (cell.front(), cell.front());
    let balancer = balancer(&[one.address, two.address]);
    assert_eq!(get(balancer.address, "/").0, 200);
    let (status, body) = get(balancer.address, "/checkout");
    assert_eq!(status, 200, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(answer["price"].is_u64());
    assert_eq!(place_order(balancer.address, "order-1"), 201);
    assert_eq!(place_order(balancer.address, "order-1"), 200);
    let (status, body) = get(balancer.address, "/orders/order-1");
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"copies":1,"id":"order-1","version":1}"#)
    );
    assert_eq!(get(balancer.address, "/orders/unknown").0, 404);
    assert_eq!(get(balancer.address, "/orders/a%2fb").0, 400);
}

#[test]
fn balancer_fails_over_without_one_lost_request_when_a_backend_dies() {
    let cell = Cell::start();
    let (mut one, two) = (cell.front(), cell.front());
    let balancer = balancer(&[one.address, two.address]);
    for _ in 0..4 {
        assert_eq!(get(balancer.address, "/").0, 200);
    }
    one.kill();
    for attempt in 0..20 {
        assert_eq!(
            get(balancer.address, "/").0,
            200,
            "request {attempt} after the death"
        );
        assert_eq!(place_order(balancer.address, &format!("o{attempt}")), 201);
    }
}

#[test]
fn balancer_takes_a_silent_backend_out_and_answers_503_without_any() {
    let cell = Cell::start();
    let mut front = cell.front();
    let (_silent, silent_address) = silent();
    let balancer = balancer(&[front.address, silent_address]);
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..10 {
        assert_eq!(get(balancer.address, "/").0, 200);
    }
    front.kill();
    assert_eq!(get(balancer.address, "/").0, 503);
}

#[test]
fn balancer_gives_up_on_a_silent_backend_within_a_second() {
    let (_silent, address) = silent();
    let balancer = balancer(&[address]);
    // Before the first health check has failed the backend counts as in.
    let begun = Instant::now();
    assert_eq!(get(balancer.address, "/").0, 504);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn balancer_takes_a_backend_back() {
    let cell = Cell::start();
    let mut front = cell.front();
    let address = front.address.to_string();
    let balancer = balancer(&[front.address]);
    front.kill();
    assert_eq!(get(balancer.address, "/").0, 503);
    let _again = Part::start(&[
        "front",
        "--listen",
        &address,
        "--pricing-host",
        "pricing.internal:1",
        "--resolver",
        "127.0.0.1:1",
        "--store",
        "127.0.0.1:1",
    ]);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(get(balancer.address, "/").0, 200);
}

/// The failed part must be named, and in time.
fn assert_names(front: &Part, path: &str, status: u16, part: &str) {
    let begun = Instant::now();
    let (answered, body) = get(front.address, path);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (answered, answer["part"].as_str()),
        (status, Some(part)),
        "{body}"
    );
}

#[test]
fn checkout_names_the_part_that_is_away() {
    let mut cell = Cell::start();
    let front = cell.front();
    let (_silent, silent_address) = silent();
    let mute = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mute_address = mute.local_addr().unwrap();
    let (pricing, store) = (cell.pricing.address, cell.store.address);

    let mute_pricing = cell.front_with(cell.resolver.address, silent_address, store);
    assert_names(&mute_pricing, "/checkout", 504, "pricing");
    let mute_resolver = cell.front_with(mute_address, pricing, store);
    assert_names(&mute_resolver, "/checkout", 504, "resolver");
    let mute_store = cell.front_with(cell.resolver.address, pricing, silent_address);
    assert_names(&mute_store, "/orders/any", 504, "store");

    cell.pricing.kill();
    assert_names(&front, "/checkout", 502, "pricing");
    cell.resolver.kill();
    assert_names(&front, "/checkout", 502, "resolver");
    cell.store.kill();
    assert_names(&front, "/orders/any", 502, "store");
    assert_eq!(get(front.address, "/").0, 200);
}

#[test]
fn parts_are_up_at_once_small_and_end_at_once() {
    let begun = Instant::now();
    let mut part = Part::start(&["reference", "--listen", "127.0.0.1:0"]);
    let up = begun.elapsed();
    assert_eq!(get(part.address, "/").0, 200);
    let status = std::fs::read_to_string(format!("/proc/{}/status", part.pid())).unwrap();
    let resident: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse().ok())
        .unwrap();
    let begun = Instant::now();
    std::process::Command::new("kill")
        .arg(part.pid().to_string())
        .status()
        .unwrap();
    assert!(part.wait().success());
    // Generous for a shared machine and a debug build; the figures are printed.
    println!(
        "up in {up:?}, resident {resident} kB, ended in {:?}",
        begun.elapsed()
    );
    assert!(up < Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(1));
    assert!(resident < 32 * 1024, "{resident} kB");
}
