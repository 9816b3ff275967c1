//! The load on survivors: paced, marked, and counted by what came back.

mod fleet;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet::{Server, one_cell, serve};
use probes::Load;
use scenarios::effects::{LoadClaim, LoadSecond, LoadSource};
use tokio::sync::mpsc;
use tokio::time::Instant;

fn claim() -> LoadClaim {
    LoadClaim {
        by: LoadSource::Probe("home".to_owned()),
        cells: vec!["a".to_owned()],
        peak: 20.0,
        share: 0.5,
        needed: 40.0,
    }
}

/// Seven seconds of load, of which the third and fourth are the surge.
async fn run(server: &Server) -> Vec<LoadSecond> {
    let fleet = one_cell(server);
    let (out, mut seconds) = mpsc::channel(4);
    let origin = Instant::now();
    let load = Load::start(&fleet, &claim(), "drill-1", origin, &out).unwrap();
    let at = |seconds| origin + Duration::from_secs(seconds);
    load.surge(at(2), at(4));
    let mut seen = Vec::new();
    while seen.len() < 6 {
        seen.push(seconds.recv().await.unwrap());
    }
    load.stop();
    seen
}

#[tokio::test]
async fn the_surge_is_what_the_claim_needs_and_a_twentieth_more() {
    let unmarked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&unmarked);
    let server = serve(
        "127.0.0.1:0",
        Arc::new(move |asked| {
            let marked = asked.load.as_deref() == Some("drill-1");
            counter.fetch_add(u64::from(!marked), Ordering::SeqCst);
            (Duration::ZERO, 200, "ok".to_owned())
        }),
    );
    let seen = run(&server).await;
    let starts: Vec<u64> = seen.iter().map(|second| second.start_ms).collect();
    assert_eq!(starts, [0, 1000, 2000, 3000, 4000, 5000]);
    // On the grid, whatever this machine does meanwhile; rounding may put one over the edge.
    for (second, due) in seen.iter().zip([20, 20, 42, 42, 20, 20]) {
        assert!(second.due.abs_diff(due) <= 1, "{second:?}");
        assert!(
            second.answered <= second.sent && second.sent <= second.due,
            "{second:?}"
        );
    }
    let answered: u32 = seen.iter().map(|second| second.answered).sum();
    assert!(answered > 100, "{seen:?}");
    assert!(server.requests() >= u64::from(answered));
    assert_eq!(unmarked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_fails_or_is_late_is_not_answered() {
    let number = AtomicU64::new(0);
    let server = serve(
        "127.0.0.1:0",
        Arc::new(move |_| match number.fetch_add(1, Ordering::SeqCst) % 3 {
            0 => (Duration::ZERO, 503, String::new()),
            1 => (Duration::from_secs(3), 200, String::new()),
            _ => (Duration::ZERO, 200, String::new()),
        }),
    );
    let seen = run(&server).await;
    let sum = |part: fn(&LoadSecond) -> u32| seen.iter().map(part).sum::<u32>();
    let (sent, answered) = (sum(|s| s.sent), sum(|s| s.answered));
    assert!(
        answered <= sent / 3 + 2 && answered > sent / 6,
        "{answered} of {sent}"
    );
}

#[tokio::test]
async fn a_cell_that_is_not_of_the_fleet_is_refused() {
    let server = serve("127.0.0.1:0", fleet::always_ok());
    let (out, _seconds) = mpsc::channel(4);
    let mut wrong = claim();
    wrong.cells.push("elsewhere".to_owned());
    let refused = Load::start(&one_cell(&server), &wrong, "d", Instant::now(), &out).err();
    assert!(refused.unwrap().to_string().contains("elsewhere/home"));
}
