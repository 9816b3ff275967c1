//! Fresh and kept connections, and servers that refuse, fall silent or close at the wrong moment.

mod fleet;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fleet::{always_ok, http_of, one_cell, probe, probe_with, request, serve};
use probes::{ProbeError, Prober};
use scenarios::fleet::HttpMethod;

#[tokio::test]
async fn half_of_the_probes_reuse_a_connection() {
    let server = serve("127.0.0.1:0", always_ok());
    let (seen, _) = probe(&one_cell(&server), 3).await;
    let (requests, connections) = (server.requests(), server.connections());
    assert_eq!(seen.sum("a/home", |block| block.bad), 0);
    assert!(requests >= 55, "{requests} requests");
    let fresh = requests / 2;
    assert!(
        (fresh..fresh + 8).contains(&connections),
        "{connections} for {requests} requests"
    );
}

#[tokio::test]
async fn a_dead_port_is_bad_at_once() {
    let server = serve("127.0.0.1:0", always_ok());
    let mut fleet = one_cell(&server);
    let unused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    http_of(&mut fleet, "home").url = format!("http://{{cell}}:{}/", unused.port());
    let begun = Instant::now();
    let (seen, _) = probe(&fleet, 1).await;
    // Block and threshold (500 ms), then the last block of `stop`.
    assert!(
        begun.elapsed() < Duration::from_millis(3200),
        "{:?}",
        begun.elapsed()
    );
    let resets = seen.sum("a/home", |block| block.resets);
    assert!(
        resets >= 18 && resets == seen.sum("a/home", |block| block.valid),
        "{resets}"
    );
    assert!(
        seen.samples[0].what.contains("refused"),
        "{:?}",
        seen.samples[0]
    );
}

#[tokio::test]
async fn silence_is_noticed_on_fresh_and_kept_connections_and_forgotten_after_it() {
    let silent = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&silent);
    let server = serve(
        "127.0.0.1:0",
        Arc::new(move |_| {
            // As behind a black hole: no answer, no error, the connection stays.
            let mute = switch.load(Ordering::SeqCst);
            (
                if mute {
                    Duration::from_secs(3600)
                } else {
                    Duration::ZERO
                },
                200,
                String::new(),
            )
        }),
    );
    let (seen, _) = probe_with(&one_cell(&server), 8, |second, _| {
        // Closing a second comes 500 ms after its end: silent from about 2.5 s to 5.5 s.
        silent.store((1..4).contains(&second), Ordering::SeqCst);
    })
    .await;
    let bad: Vec<u32> = seen.blocks["a/home"]
        .iter()
        .map(|block| block.bad)
        .collect();
    assert!(bad[3] >= 19 && bad[4] >= 19, "{bad:?}");
    assert_eq!(bad[7], 0, "{bad:?}");
    assert!(
        seen.samples
            .iter()
            .any(|sample| sample.what.contains("no answer"))
    );
}

#[tokio::test]
async fn a_server_that_closes_kept_connections_is_not_ill() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    // Promises keep-alive, answers once, and closes 20 ms later or at the next request.
    std::thread::spawn(move || {
        for stream in server.incoming() {
            std::thread::spawn(move || {
                use std::io::{Read, Write};
                let mut stream = stream.unwrap();
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.read(&mut buffer);
            });
        }
    });
    let mut fleet = one_cell(&serve("127.0.0.1:0", always_ok()));
    http_of(&mut fleet, "home").url = format!("http://{{cell}}:{port}/");
    let (seen, _) = probe(&fleet, 3).await;
    assert_eq!(
        seen.sum("a/home", |block| block.bad),
        0,
        "{:?}",
        seen.samples
    );
}

#[tokio::test]
async fn wrong_answers_are_quoted() {
    let server = serve(
        "127.0.0.1:0",
        Arc::new(|asked| {
            (
                Duration::ZERO,
                502,
                format!("pricing is away ({})", asked.path),
            )
        }),
    );
    let (seen, _) = probe(&one_cell(&server), 1).await;
    assert_eq!(
        seen.sum("a/home", |block| block.errors),
        seen.sum("a/home", |block| block.valid)
    );
    assert_eq!(seen.samples[0].what, "status 502: pricing is away (/)");
}

#[tokio::test]
async fn ipv6_cells_are_probed_in_brackets() {
    let server = serve("[::1]:0", always_ok());
    let mut fleet = one_cell(&server);
    fleet.cells.get_mut("a").unwrap().addresses = vec!["::1".parse().unwrap()];
    let (seen, _) = probe(&fleet, 1).await;
    assert_eq!(
        seen.sum("a/home", |block| block.bad),
        0,
        "{:?}",
        seen.samples
    );
    assert!(server.requests() >= 18);
}

#[tokio::test]
async fn what_cannot_be_probed_is_refused_before_the_first_probe() {
    let server = serve("127.0.0.1:0", always_ok());
    let good = one_cell(&server);
    let refused = |fleet: &scenarios::fleet::Fleet, of: &scenarios::fleet::Fleet| {
        let (out, _seconds) = tokio::sync::mpsc::channel(1);
        let streams = probes::streams(of, &[]);
        Prober::start(fleet, &streams, "run", tokio::time::Instant::now(), out).err()
    };
    let mut named = good.clone();
    *http_of(&mut named, "home") = request(HttpMethod::Get, "http://shop.example/".to_owned());
    assert!(matches!(
        refused(&named, &named),
        Some(ProbeError::Question { .. })
    ));
    let mut still = good.clone();
    still.probes.get_mut("home").unwrap().rate = 0.0;
    assert!(matches!(
        refused(&still, &still),
        Some(ProbeError::Rate { .. })
    ));
    let mut other = good.clone();
    fleet::add_cell(&mut other, "b", "127.0.0.2");
    assert!(matches!(
        refused(&good, &other),
        Some(ProbeError::UnknownStream { .. })
    ));
    assert!(refused(&good, &good).is_none());
}
