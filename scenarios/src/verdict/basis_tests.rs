//! Streams that are no probes: real requests in longer blocks, gauges, slow answers, and coverage.

use super::drill::*;
use super::{Class, NotReady, Outcome, Watch, Window, judge};
use crate::effects::HarmBudget;
use crate::history::*;

pub(super) const REQUESTS: &str = "aws/requests.checkout";
pub(super) const QUEUE: &str = "aws/queue";
pub(super) const SLOW: &str = "aws/checkout:slow";
/// Seconds of a block of requests and of the gauge.
pub(super) const LONG: u64 = 2;
/// Everything is so many seconds later than in the common drill: whole long blocks lie before fire.
const LATER: u64 = 1;
pub(super) const FIRE: u64 = super::drill::FIRE + LATER;
const END: u64 = super::drill::END + LATER;
pub(super) const BEGIN: u64 = 5 + LATER;
/// Seconds of the fault: as long as the half of the baseline that counts where the other sets a limit.
pub(super) const WINDOW: i64 = 30;

fn metered(name: &str, counts: Counts, margin: Option<f64>) -> Stream {
    let slow = matches!(counts, Counts::Slow { .. });
    let probe = name.split_once('/').map_or("", |(_, probe)| probe);
    Stream {
        slo_ms: None,
        probe: probe.trim_end_matches(":slow").into(),
        rate: if name == QUEUE { 2.0 } else { f64::from(RATE) },
        basis: Basis {
            counts,
            block_ms: (!slow).then_some(LONG * 1000),
            margin,
            requests: None,
        },
        ..stream(name, Role::Other)
    }
}

/// The healthy drill with one stream of each kind in the cell aws: 100 requests and 10 readings a
/// block, 20 answers a second. The gauge is 0 to 4, far more often small than great.
pub(super) fn drill(spoil: impl Fn(&mut Block)) -> Vec<Record> {
    let streams = [
        metered(REQUESTS, Counts::Requests, None),
        metered(QUEUE, Counts::Gauge { limit: None }, Some(0.2)),
        metered(
            SLOW,
            Counts::Slow {
                of: "aws/checkout".into(),
            },
            Some(0.1),
        ),
    ];
    let mut records = history(&|stream, second| match second < WINDOW {
        true => sound(stream, second),
        false => 0,
    });
    records.iter_mut().for_each(delay);
    header_mut(&mut records).streams.extend(streams);
    for step in &mut header_mut(&mut records).plan.steps {
        step.duration_ms = WINDOW as u64 * 1000;
    }
    let coverage = [("requests".to_string(), 0.9)];
    let judgement = &mut header_mut(&mut records).judgement;
    judgement.coverage = coverage.into();
    judgement.users_only = ["requests".to_owned()].into();
    let half = (BEGIN + FIRE) / 2;
    records.insert(2, mark(Phase::Thresholds, half));
    for second in (BEGIN..END).step_by(LONG as usize) {
        if second + LONG > END {
            break;
        }
        records.extend([requests(second), readings(second)].map(Record::Block));
        let volume = |cell: &str| Volume {
            traffic: "requests".into(),
            cell: cell.into(),
            start_ms: second * 1000,
            requests: 110,
            covered: 104,
        };
        records.extend(["aws", "tencent"].map(|cell| Record::Volume(volume(cell))));
    }
    for record in &mut records {
        if let Record::Block(block) = record {
            if block.stream == "aws/checkout" {
                let slow = block.valid / 20;
                block.latency_us = vec![(USUAL_US, block.valid - slow), (4 * USUAL_US, slow)];
            }
            spoil(block);
        }
    }
    records
}

fn requests(second: u64) -> Block {
    Block {
        scheduled: 100,
        valid: 100,
        latency_us: Vec::new(),
        ..block(REQUESTS, second, 0)
    }
}

fn readings(second: u64) -> Block {
    Block {
        scheduled: 10,
        valid: 10,
        latency_us: Vec::new(),
        values: (0..10_u64)
            .map(|at| ((second * 7 + at * 3) % 5) as f64)
            .collect(),
        ..block(QUEUE, second, 0)
    }
}

/// `LATER` than it was.
fn delay(record: &mut Record) {
    match record {
        Record::Phase(mark) => mark.at_ms += LATER * 1000,
        Record::Block(block) => block.start_ms += LATER * 1000,
        Record::Agent(event) => event.at_ms += LATER * 1000,
        _ => {}
    }
}

/// Whether a block starts in these seconds after fire.
pub(super) fn within(block: &Block, seconds: std::ops::Range<i64>) -> bool {
    seconds.contains(&((block.start_ms / 1000) as i64 - FIRE as i64))
}

#[test]
fn a_sound_drill_passes_and_says_what_it_saw_of_the_traffic() {
    let verdict = expect(
        &drill(|_| {}),
        Outcome::Pass,
        &["users' requests", "94.5 %"],
    );
    for stream in [REQUESTS, QUEUE, SLOW] {
        for window in [Window::Fault, Window::After] {
            assert_eq!(class(&verdict, stream, window), Class::Isolated, "{stream}");
        }
    }
    let requests = verdict
        .rows
        .iter()
        .find(|row| row.stream == REQUESTS)
        .unwrap();
    assert_eq!((requests.total, requests.base_total), (1_500, 3_000));
}

#[test]
fn real_requests_that_fail_are_a_failure_although_no_probe_sees_it() {
    let dead = drill(|block| {
        if block.stream == REQUESTS && within(block, 0..200) {
            block.bad = 100;
        }
    });
    let verdict = expect(&dead, Outcome::Fail, &["aws fell", REQUESTS]);
    let row = verdict
        .rows
        .iter()
        .find(|row| row.stream == REQUESTS)
        .unwrap();
    assert_eq!(row.alarm_ms, Some((FIRE + 4 * LONG) * 1000), "four blocks");
    // A few per cent from then on: no alarm, and the end tells.
    let ill = drill(|block| {
        if block.stream == REQUESTS && within(block, 0..200) {
            block.bad = 5;
        }
    });
    expect(&ill, Outcome::Fail, &["aws fell", REQUESTS]);
}

/// The budget is what the target's probes cost; requests and slow answers would exceed it.
#[test]
fn only_probes_count_as_harm() {
    let mut records = drill(|block| {
        if block.stream == REQUESTS {
            block.bad = 1;
        }
    });
    let budget = HarmBudget {
        failed_requests: Some(3 * u64::from(RATE) * WINDOW as u64),
        error_budget: None,
    };
    header_mut(&mut records).judgement.effects.harm = Some(budget);
    expect(&records, Outcome::Pass, &[]);
}

#[test]
fn requests_that_fail_in_clumps_are_not_proved_isolated_by_their_mean() {
    // 12 of 1200: with a tight promise about the mean, and 1 % in the baseline as well.
    let clumped = drill(|block| {
        if block.stream == REQUESTS {
            let at = block.start_ms / 1000 / LONG;
            block.bad = if at.is_multiple_of(6) { 6 } else { 0 };
        }
    });
    let verdict = expect(
        &clumped,
        Outcome::Inconclusive,
        &[REQUESTS, "is not below the margin"],
    );
    assert_eq!(
        class(&verdict, REQUESTS, Window::Fault),
        Class::Inconclusive
    );
    let even = drill(|block| {
        if block.stream == REQUESTS {
            block.bad = 1;
        }
    });
    expect(&even, Outcome::Pass, &[]);
}

#[test]
fn a_scrape_that_fails_is_no_evidence_and_three_stop_the_fault() {
    let unread = |seconds: std::ops::Range<i64>| {
        drill(move |block| {
            if block.stream == REQUESTS && within(block, seconds.clone()) {
                // As the prober writes it, which does not know how many there were.
                let expected = RATE * LONG as u32;
                (block.scheduled, block.valid, block.bad) = (expected, 0, 0);
            }
        })
    };
    let verdict = expect(
        &unread(10..12),
        Outcome::Inconclusive,
        &[REQUESTS, "probes count"],
    );
    assert_eq!(class(&verdict, REQUESTS, Window::After), Class::Isolated);
    expect(
        &unread(10..25),
        Outcome::Inconclusive,
        &[REQUESTS, "was blind"],
    );
    // Users who stay away are no proof that all is well.
    let gone = drill(|block| {
        if block.stream == REQUESTS && within(block, 0..200) {
            (block.scheduled, block.valid) = (3, 3);
        }
    });
    expect(&gone, Outcome::Inconclusive, &[REQUESTS, "was blind"]);
    let mut missing = drill(|_| {});
    missing.retain(
        |record| !matches!(record, Record::Block(b) if b.stream == REQUESTS && within(b, 20..22)),
    );
    expect(
        &missing,
        Outcome::Inconclusive,
        &[REQUESTS, "1 blocks are missing"],
    );
}

#[test]
fn a_gauge_that_grows_and_answers_that_get_slower_below_the_slo_are_seen() {
    let full = drill(|block| {
        if block.stream == QUEUE && within(block, 0..200) {
            block.values = vec![50.0; 10];
        }
    });
    expect(&full, Outcome::Fail, &["aws fell", QUEUE]);
    let slower = |factor: u64| {
        drill(move |block| {
            if block.stream == "aws/checkout" && within(block, 0..WINDOW) {
                block
                    .latency_us
                    .iter_mut()
                    .for_each(|(us, _)| *us = *us * factor / 10);
            }
        })
    };
    // All 1.4 times as slow is within 1.5 times the usual 90th percentile, twice as slow is not.
    expect(&slower(14), Outcome::Pass, &[]);
    let verdict = expect(&slower(20), Outcome::Fail, &["aws fell", SLOW]);
    assert_eq!(
        class(&verdict, "aws/checkout", Window::Fault),
        Class::Inconclusive
    );
    let row = verdict.rows.iter().find(|row| row.stream == SLOW).unwrap();
    assert!(row.alarm_ms.is_some() && row.bad > 0, "{row:?}");
    let mut unasked = slower(20);
    header_mut(&mut unasked)
        .streams
        .retain(|stream| stream.name != SLOW);
    expect(&unasked, Outcome::Pass, &[]);
}

#[test]
fn traffic_that_nobody_looks_at_denies_a_pass() {
    let of = |covered: u64, before: bool| {
        let mut records = drill(|_| {});
        for record in &mut records {
            if let Record::Volume(volume) = record
                && (volume.start_ms < FIRE * 1000) == before
            {
                volume.covered = covered;
            }
        }
        records
    };
    expect(&of(99, false), Outcome::Pass, &["90.0 %"]);
    expect(
        &of(98, false),
        Outcome::Inconclusive,
        &["coverage", "89.1 %", "aws"],
    );
    expect(
        &of(50, true),
        Outcome::Inconclusive,
        &["not ready", "coverage"],
    );
    let mut blind = drill(|_| {});
    blind.retain(|record| !matches!(record, Record::Volume(v) if v.start_ms >= FIRE * 1000));
    expect(
        &blind,
        Outcome::Inconclusive,
        &["coverage", "no request of requests"],
    );
    // Everything that is known before fire, in any order.
    let mut before = of(50, true);
    before.retain(|record| match record {
        Record::Header(_) => true,
        Record::Phase(mark) => mark.at_ms < FIRE * 1000,
        Record::Block(block) => block.start_ms < FIRE * 1000,
        Record::Volume(volume) => volume.start_ms < FIRE * 1000,
        _ => false,
    });
    assert!(matches!(
        Watch::new(&before),
        Err(NotReady::Coverage(why)) if why.contains("45.5 %")
    ));
}

#[test]
fn what_cannot_be_cut_into_its_blocks_is_damage() {
    let mut odd = drill(|_| {});
    for stream in &mut header_mut(&mut odd).streams {
        if stream.name == REQUESTS {
            stream.basis.block_ms = Some(10_000);
        }
    }
    odd.retain(|record| {
        !matches!(record, Record::Block(b) if b.stream == REQUESTS && !b.start_ms.is_multiple_of(10_000))
    });
    expect(
        &odd,
        Outcome::Inconclusive,
        &["not on a boundary of its blocks"],
    );
    for (block_ms, margin) in [(1_500, 0.02), (0, 0.02), (5_000, 0.0), (5_000, f64::NAN)] {
        let mut odd = drill(|_| {});
        for stream in &mut header_mut(&mut odd).streams {
            if stream.name == REQUESTS {
                stream.basis.block_ms = Some(block_ms);
                stream.basis.margin = Some(margin);
            }
        }
        expect(&odd, Outcome::Inconclusive, &[REQUESTS, "out of range"]);
    }
}

/// What the online abort saw second by second is what the verdict replays.
#[test]
fn the_online_abort_and_the_verdict_come_to_the_same() {
    for spoilt in [None, Some(REQUESTS), Some(QUEUE), Some(SLOW)] {
        let records = drill(|block| {
            if Some(block.stream.as_str()) == spoilt && within(block, 20..110) {
                block.bad = block.valid / 2;
                block.values.iter_mut().for_each(|value| *value += 9.0);
            }
            if block.stream == "aws/checkout" && spoilt == Some(SLOW) && within(block, 20..110) {
                block.latency_us.clear();
            }
        });
        let mut watch = Watch::new(&records).unwrap();
        let mut alarms = Vec::new();
        for second in FIRE..END {
            let given = records.iter().filter_map(|record| match record {
                Record::Block(block) => {
                    let long = [REQUESTS, QUEUE].contains(&block.stream.as_str());
                    let length = if long { LONG } else { 1 };
                    (block.start_ms + length * 1000 == (second + 1) * 1000).then_some(block)
                }
                _ => None,
            });
            alarms.extend(watch.second(second * 1000, given));
        }
        let verdict = judge(&records);
        for row in &verdict.rows {
            let is_other = row.class != Class::Reported && row.e_value.is_some();
            if is_other {
                assert_eq!(row.e_value, watch.e_value(&row.stream), "{}", row.stream);
            }
        }
        let told: Vec<&str> = alarms.iter().map(|alarm| alarm.stream.as_str()).collect();
        assert_eq!(told, spoilt.into_iter().collect::<Vec<_>>());
    }
}

/// The windows that such streams need, told before the baseline.
#[test]
fn the_planner_knows_their_blocks_margins_and_halves() {
    use super::windows::{Asked, TooShort, check};
    let asked = |seconds: u64| Asked {
        alpha: 0.01,
        margin: 0.02,
        p: 0.005,
        before_ms: 2 * seconds * 1000,
        fault_ms: seconds * 1000,
        after_ms: seconds * 1000,
        block_ms: 1000,
        propagation_s: 0,
        episode_s: 0.0,
    };
    let refused = |stream: &Stream, seconds: u64| -> TooShort {
        *check(std::slice::from_ref(stream), &asked(seconds)).unwrap_err()
    };
    let mut requests = Stream {
        rate: 1000.0,
        ..metered(REQUESTS, Counts::Requests, None)
    };
    requests.basis.block_ms = Some(5_000);
    let short = refused(&requests, 29);
    assert!(short.to_string().contains("12 of its blocks"), "{short}");
    assert_eq!(
        (short.configured_s, short.needed_s),
        (25, Some(60)),
        "whole blocks"
    );
    assert!(check(&[requests], &asked(60)).is_ok());
    let mut queue = metered(QUEUE, Counts::Gauge { limit: None }, Some(0.2));
    queue.basis.block_ms = Some(5_000);
    assert!(
        refused(&queue, 10).needed_s > Some(20),
        "two readings a second"
    );
    assert!(check(&[queue], &asked(60)).is_ok());
    // Usual answers are slow now and then; 10 % more is proved by fewer probes than 2 %.
    let slow = metered(
        SLOW,
        Counts::Slow {
            of: "aws/checkout".into(),
        },
        Some(0.1),
    );
    assert!(check(std::slice::from_ref(&slow), &asked(30)).is_ok());
    let tight = Stream {
        basis: Basis {
            margin: Some(0.02),
            ..slow.basis.clone()
        },
        ..slow.clone()
    };
    assert!(refused(&tight, 30).needed_s > Some(60));
    let mut halved = asked(30);
    halved.before_ms = 40_000;
    assert_eq!(check(&[slow], &halved).unwrap_err().window, "before");
}
