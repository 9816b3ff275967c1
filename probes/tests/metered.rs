//! Counters and gauges of a real server, scraped on the grid: restarts, silence, strata, stale Prometheus.

mod fleet;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet::{add_cell, serve};
use probes::{ProbeOut, Prober, streams};
use scenarios::fleet::{Fleet, Plane};
use scenarios::history::{BadSample, Block, Counts, Volume};
use scenarios::selector::Selector;
use scenarios::traffic::{Gauge, Source, Strata, Traffic, TrafficCounts};
use tokio::sync::mpsc;
use tokio::time::Instant;

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn traffic(source: Source) -> Traffic {
    let judged = [("cart".to_owned(), "/cart".to_owned())];
    Traffic {
        plane: Plane::Data,
        source,
        total: selector("requests_total"),
        bad: selector("requests_total{code=~\"5..\"}"),
        volume: None,
        counts: TrafficCounts::default(),
        strata: Some(Strata {
            label: "route".to_owned(),
            judged: judged.into(),
            probed: Default::default(),
        }),
        every: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        rate: 10.0,
        within: None,
        coverage: Some(0.5),
    }
}

struct Seconds {
    blocks: Vec<Block>,
    volumes: Vec<Volume>,
    samples: Vec<BadSample>,
}

async fn watch(fleet: &Fleet, seconds: u64) -> Seconds {
    let streams = streams(fleet, &[]);
    let (out, mut seen) = mpsc::channel(64);
    let origin = Instant::now();
    let mut prober = Prober::start(fleet, &streams, "t", origin, out).unwrap();
    let mut told = Seconds {
        blocks: Vec::new(),
        volumes: Vec::new(),
        samples: Vec::new(),
    };
    for _ in 0..seconds {
        let ProbeOut::Second {
            start_ms,
            blocks,
            samples,
            volumes,
            late: _,
        } = seen.recv().await.unwrap();
        let metered = blocks
            .into_iter()
            .filter(|b| !b.stream.starts_with("control/"));
        told.blocks.extend(metered);
        told.samples.extend(
            samples
                .into_iter()
                .filter(|s| !s.stream.starts_with("control/")),
        );
        assert!(
            volumes.iter().all(|v| v.start_ms == start_ms),
            "{volumes:?}"
        );
        told.volumes.extend(volumes);
    }
    prober.stop().await;
    told
}

fn page(cart: u64, failed: u64, other: u64) -> String {
    let errors = match failed {
        0 => String::new(),
        failed => format!("requests_total{{route=\"/cart\",code=\"503\"}} {failed}\n"),
    };
    format!(
        "requests_total{{route=\"/cart\",code=\"200\"}} {cart}\n{errors}\
         requests_total{{route=\"/\",code=\"200\"}} {other}\n"
    )
}

#[tokio::test]
async fn counters_become_blocks_whatever_the_server_does() {
    let scrape = AtomicU64::new(0);
    // A beginning; 30 requests; a first error among 20; a restart with 7, and 6 errors that are not 1 more than
    // 5; no answer; 9 since 7.
    let pages = [
        (200, page(1_000, 0, 0)),
        (200, page(1_030, 0, 10)),
        (200, page(1_045, 5, 20)),
        (200, page(7, 6, 1)),
        (500, String::new()),
        (200, page(16, 6, 1)),
    ];
    let server = serve(
        "127.0.0.1:0",
        Arc::new(move |_| {
            let at = scrape.fetch_add(1, Ordering::SeqCst) as usize;
            let (status, text) = pages[at.min(pages.len() - 1)].clone();
            (Duration::ZERO, status, text)
        }),
    );
    let mut fleet = fleet::fleet();
    add_cell(&mut fleet, "a", "127.0.0.1");
    let url = format!("http://{{cell}}:{}/metrics", server.address.port());
    let name = "requests".to_owned();
    fleet.traffic.insert(name, traffic(Source::Endpoint(url)));
    let told = watch(&fleet, 6).await;
    let counted: Vec<(u32, u32, u32)> = told
        .blocks
        .iter()
        .map(|block| (block.scheduled, block.valid, block.bad))
        .collect();
    assert_eq!(told.blocks[0].stream, "a/requests.cart");
    assert_eq!(
        counted,
        [
            (30, 30, 0),
            (20, 20, 5),
            (13, 13, 6),
            (10, 0, 0),
            (9, 9, 0),
            (0, 0, 0)
        ]
    );
    let volumes: Vec<(u64, u64)> = told
        .volumes
        .iter()
        .map(|v| (v.requests, v.covered))
        .collect();
    assert_eq!(volumes, [(40, 30), (30, 20), (14, 13), (9, 9), (0, 0)]);
    let said: Vec<&str> = told.samples.iter().map(|s| s.what.as_str()).collect();
    assert!(said[0].contains("went back"), "{said:?}");
    assert!(said[1].contains("answered 500"), "{said:?}");
}

#[tokio::test]
async fn what_prometheus_has_not_scraped_anew_is_no_evidence() {
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    // Two questions a second (total and bad); from the third second on nothing is new.
    let server = serve(
        "127.0.0.1:0",
        Arc::new(move |request| {
            assert!(
                request.path.starts_with("/api/v1/query"),
                "{}",
                request.path
            );
            let second = (counter.fetch_add(1, Ordering::SeqCst) / 2).min(2);
            let body = format!(
                "{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{{\"metric\":\
             {{\"route\":\"/cart\",\"cell\":\"a\"}},\"values\":[[{second},\"{}\"]]}}]}}}}",
                100 + second * 12
            );
            (Duration::ZERO, 200, body)
        }),
    );
    let mut fleet = fleet::fleet();
    add_cell(&mut fleet, "a", "127.0.0.1");
    let source = Source::Prometheus {
        url: format!("http://{}", server.address),
        cell_label: "cell".to_owned(),
    };
    fleet.traffic.insert("requests".to_owned(), traffic(source));
    let told = watch(&fleet, 4).await;
    let valid: Vec<u32> = told.blocks.iter().map(|block| block.valid).collect();
    assert_eq!(valid, [12, 12, 0, 0]);
    assert!(
        told.samples[0].what.contains("not known already"),
        "{:?}",
        told.samples
    );
}

#[tokio::test]
async fn gauges_tell_the_greatest_of_their_series_ten_times_a_block() {
    let scrape = AtomicU64::new(0);
    let server = serve(
        "127.0.0.1:0",
        Arc::new(move |_| {
            let at = scrape.fetch_add(1, Ordering::SeqCst);
            let text = format!("depth{{q=\"a\"}} 1\ndepth{{q=\"b\"}} {at}\n");
            let status = if at == 4 { 503 } else { 200 };
            (Duration::ZERO, status, text)
        }),
    );
    let mut fleet = fleet::fleet();
    add_cell(&mut fleet, "a", "127.0.0.1");
    let gauge = Gauge {
        plane: Plane::Data,
        source: Source::Endpoint(format!("http://{{cell}}:{}/m", server.address.port())),
        gauge: selector("depth"),
        every: Duration::from_millis(100),
        timeout: Duration::from_secs(1),
        limit: None,
        within: 0.2,
    };
    fleet.gauges.insert("queue".to_owned(), gauge);
    assert!(matches!(
        streams(&fleet, &[])[0].basis.counts,
        Counts::Gauge { limit: None }
    ));
    let told = watch(&fleet, 2).await;
    let first = &told.blocks[0];
    assert_eq!((first.stream.as_str(), first.scheduled), ("a/queue", 10));
    // Whatever came late is left out; what came is in order, and the failed one is not there.
    assert_eq!(first.valid as usize, first.values.len());
    assert!(
        first.values.len() < 10 && !first.values.contains(&4.0),
        "{first:?}"
    );
    assert!(
        first.values.windows(2).all(|two| two[0] <= two[1]),
        "{first:?}"
    );
}
