//! The schedule is open: what a stall costs is seen, and what the prober delayed is not counted.

mod fleet;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{Seen, always_ok, get_probe, one_cell, probe, probe_with, serve};
use scenarios::history::Block;

#[tokio::test]
async fn a_stall_of_two_seconds_shows_the_bad_share_of_an_open_loop() {
    let begun = Instant::now();
    let (stall, end) = (Duration::from_millis(2000), Duration::from_millis(4000));
    let server = serve(
        "127.0.0.1:0",
        Arc::new(move |_| {
            let now = begun.elapsed();
            let late = if now > stall {
                end.saturating_sub(now)
            } else {
                Duration::ZERO
            };
            (late, 200, String::new())
        }),
    );
    let (seen, _) = probe(&one_cell(&server), 6).await;
    let bad = seen.sum("a/home", |block| block.bad);
    // Those sent in the first 1.5 s of the stall: 30. A closed loop would have seen 2 or 3.
    assert!((27..=33).contains(&bad), "{bad} bad");
    assert!(seen.sum("a/home", |block| block.timeouts) + seen.sum("a/home", |b| b.slow) == bad);
}

#[tokio::test]
async fn every_second_is_whole_and_adds_up() {
    let server = serve("127.0.0.1:0", always_ok());
    let mut fleet = one_cell(&server);
    let slow = serve(
        "127.0.0.1:0",
        Arc::new(|_| (Duration::from_millis(900), 500, "busy".to_owned())),
    );
    fleet
        .probes
        .insert("slow".to_owned(), get_probe(slow.address.port()));
    fleet.references.push(server.address);
    let (seen, _) = probe(&fleet, 3).await;
    assert_eq!(seen.blocks.len(), 4);
    for (stream, blocks) in &seen.blocks {
        assert!(blocks.len() >= 3, "{stream}");
        assert_eq!(blocks[0].start_ms, 0, "{stream}");
        for block in blocks {
            assert_eq!(block.scheduled, 20, "{block:?}");
        }
    }
    // Bad at the threshold, long before it answers.
    let (valid, bad) = (
        seen.sum("a/slow", |b| b.valid),
        seen.sum("a/slow", |b| b.bad),
    );
    assert!(valid > 30 && bad == valid, "{bad} of {valid}");
    assert!(
        seen.samples.iter().all(|sample| sample.stream == "a/slow"),
        "{:?}",
        seen.samples
    );
    assert!(!seen.samples.is_empty() && seen.samples.len() <= 3 * seen.blocks["a/slow"].len());
}

fn count_quiet(seen: &Seen, stream: &str) {
    let (valid, bad) = (seen.sum(stream, |b| b.valid), seen.sum(stream, |b| b.bad));
    assert!(valid >= 40, "{stream}: {valid} valid");
    assert!(
        bad * 20 <= valid,
        "{stream}: {bad} of {valid} bad: {:?}",
        seen.samples
    );
}

#[tokio::test]
async fn controls_are_quiet_on_a_quiet_machine() {
    let server = serve("127.0.0.1:0", always_ok());
    let mut fleet = one_cell(&server);
    fleet.references.push(server.address);
    fleet.references.push(
        serve(
            "127.0.0.1:0",
            Arc::new(|_| (Duration::ZERO, 404, String::new())),
        )
        .address,
    );
    let (seen, _) = probe(&fleet, 3).await;
    for stream in [
        "control/loopback",
        "control/reference-1",
        "control/reference-2",
        "a/home",
    ] {
        count_quiet(&seen, stream);
    }
}

#[tokio::test]
async fn a_reference_that_is_away_is_seen() {
    let server = serve("127.0.0.1:0", always_ok());
    let mut fleet = one_cell(&server);
    fleet.references.push("127.0.0.1:1".parse().unwrap());
    let (seen, _) = probe(&fleet, 2).await;
    let (valid, bad) = (
        seen.sum("control/reference-1", |b| b.valid),
        seen.sum("control/reference-1", |b| b.resets),
    );
    assert!(valid > 20 && bad == valid, "{bad} of {valid}");
    assert_eq!(seen.sum("a/home", |b| b.resets), 0);
}

/// Its block is closed by then: silence it seemed to be, and an answer it was.
#[tokio::test]
async fn an_answer_behind_the_slo_is_told_when_it_comes() {
    let server = serve(
        "127.0.0.1:0",
        Arc::new(|asked| {
            let status = if asked.path == "/" { 503 } else { 200 };
            (Duration::from_millis(1_500), status, String::new())
        }),
    );
    let mut fleet = one_cell(&server);
    let home = fleet.probes.get_mut("home").unwrap();
    (home.slo, home.timeout) = (Some(Duration::from_millis(200)), Duration::from_secs(3));
    let (seen, _) = probe(&fleet, 5).await;
    let (bad, silent) = (
        seen.sum("a/home", |block| block.bad),
        seen.sum("a/home", |block| block.timeouts),
    );
    let late = seen.late.iter().filter(|late| late.stream == "a/home");
    let answered: u32 = late.clone().map(|late| late.server_errors).sum();
    assert!(bad >= 80 && silent > 60, "{bad} bad, {silent} silent");
    // Those of the last two seconds have not ended.
    assert!(
        answered >= silent / 2 && answered <= silent,
        "{answered} of {silent}"
    );
    assert!(
        late.clone()
            .all(|late| late.errors == late.server_errors && late.slow == 0)
    );
}

#[tokio::test]
async fn what_the_prober_delayed_is_invalid_and_not_bad() {
    let server = serve(
        "127.0.0.1:0",
        Arc::new(|_| (Duration::from_millis(30), 200, String::new())),
    );
    // The runtime has one thread, which is blocked here: a SIGSTOP or a starved machine.
    let (seen, _) = probe_with(&one_cell(&server), 4, |second, _| {
        if second == 1 {
            std::thread::sleep(Duration::from_millis(1500));
        }
    })
    .await;
    for stream in ["a/home", "control/loopback"] {
        let invalid = seen.sum(stream, |block| block.scheduled - block.valid);
        // 1500 ms at 20/s less what was sent within the lag limit; a little more under load.
        assert!((26..=45).contains(&invalid), "{stream}: {invalid} invalid");
        let blind = |block: &&Block| block.valid * 2 < block.scheduled;
        assert!(
            seen.blocks[stream].iter().any(|block| blind(&block)),
            "{stream}"
        );
        let bad = seen.sum(stream, |block| block.bad);
        assert!(bad <= 1, "{stream}: {bad} bad: {:?}", seen.samples);
    }
}

#[tokio::test]
async fn thresholds_come_from_the_baseline_where_no_slo_is_declared() {
    let begun = Instant::now();
    let server = serve(
        "127.0.0.1:0",
        Arc::new(move |_| {
            let slow = begun.elapsed() > Duration::from_millis(4500);
            (
                Duration::from_millis(if slow { 300 } else { 5 }),
                200,
                String::new(),
            )
        }),
    );
    let mut fleet = one_cell(&server);
    fleet.probes.get_mut("home").unwrap().slo = None;
    let mut set = Vec::new();
    let (seen, _) = probe_with(&fleet, 7, |second, prober| {
        if second == 2 {
            set = prober.set_thresholds(1000);
        }
    })
    .await;
    assert_eq!(set.len(), 1);
    assert_eq!(set[0].stream, "a/home");
    assert!((50..=250).contains(&set[0].tau_ms), "{set:?}");
    let bad = |from: usize, to: usize| -> u32 {
        seen.blocks["a/home"][from..to]
            .iter()
            .map(|block| block.bad)
            .sum()
    };
    assert!(
        bad(0, 3) == 0,
        "300 ms is bad only once a threshold says so"
    );
    assert!(bad(5, 7) >= 36, "{} bad", bad(5, 7));
}
