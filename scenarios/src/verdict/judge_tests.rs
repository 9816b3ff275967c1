//! One clean pass, and the ways in which the streams themselves deny it.

use super::drill::{
    END, FAULT, FAULT_END, FIRE, RATE, alter, class, expect, header, header_mut, history,
    history_of, mark, sound, spoilt, stream, without,
};
use super::{Class, Outcome, Window, settle_deadline_ms, settled, target_settled};
use crate::history::{Block, ClockStep, Phase, Record, Role};

#[test]
fn a_clean_drill_passes_with_its_bounds() {
    let verdict = expect(
        &history(&sound),
        Outcome::Pass,
        &[
            "ali degraded by at least 99",
            "isolated with U <= 0.4 %",
            "recovered",
        ],
    );
    assert_eq!(verdict.reasons.len(), 5);
    assert!(
        verdict
            .reasons
            .contains(&"what the target's users saw: timeouts 100.0 %".to_owned())
    );
    assert!(verdict.reasons[4].contains("capacity") && verdict.reasons[4].contains("untested"));
    assert_eq!(
        class(&verdict, "ali/checkout", Window::Fault),
        Class::Effective
    );
    assert_eq!(
        class(&verdict, "ali/checkout", Window::After),
        Class::Recovered
    );
    assert_eq!(class(&verdict, "shop@ali", Window::Fault), Class::Reported);
    for other in [
        "tencent/checkout",
        "aws/checkout",
        "shop/dns",
        "shop@tencent",
    ] {
        assert_eq!(class(&verdict, other, Window::Fault), Class::Isolated);
        assert_eq!(class(&verdict, other, Window::After), Class::Isolated);
    }
    assert_eq!(
        class(&verdict, "control/loopback", Window::After),
        Class::Sound
    );
    let users = verdict.rows.iter().find(|r| r.stream == "shop").unwrap();
    assert_eq!(
        (users.bad, users.total, users.class),
        (1200, 2400, Class::Reported)
    );
    assert!(
        verdict
            .rows
            .iter()
            .all(|r| r.stream != "aws/checkout" || r.e_value < Some(1.0))
    );
}

/// A cloud whose edge still answers is not one that is gone, and the report says so.
#[test]
fn the_targets_symptom_is_told() {
    let mut records = history(&sound);
    for stream in ["ali/checkout", "ali/orders", "shop@ali"] {
        alter(&mut records, stream, 0..30, |block| {
            (block.timeouts, block.errors) = (0, block.bad);
        });
    }
    let words = ["timeouts 50.0 %", "wrong answers and other errors 50.0 %"];
    expect(&records, Outcome::Pass, &words);
}

#[test]
fn a_dead_neighbour_fails_by_name_and_second() {
    let records = history(&|stream, second| {
        if stream == "tencent/checkout" && (1..30).contains(&second) {
            RATE
        } else {
            sound(stream, second)
        }
    });
    let verdict = expect(
        &records,
        Outcome::Fail,
        &["tencent fell", "tencent/checkout degraded 5 s after fire"],
    );
    assert_eq!(
        class(&verdict, "tencent/checkout", Window::Fault),
        Class::Degraded
    );
    assert_eq!(
        class(&verdict, "aws/checkout", Window::Fault),
        Class::Inconclusive
    );
    assert!(
        verdict.reasons[0].contains("D 80.0 %, L "),
        "{}",
        verdict.reasons[0]
    );
    assert_eq!(verdict.outcome.exit_code(), 1);
}

/// 4 % worse is no job for the abort; the final comparison takes it.
#[test]
fn a_slightly_ill_neighbour_fails_at_the_end() {
    let records = history(&|stream, second| match stream {
        "aws/checkout" if (0..60).contains(&second) => u32::from(second % 5 != 0),
        _ => sound(stream, second),
    });
    let verdict = expect(
        &records,
        Outcome::Fail,
        &["aws fell", "aws/checkout degraded in the fault window"],
    );
    assert_eq!(
        class(&verdict, "tencent/checkout", Window::Fault),
        Class::Isolated
    );
    let row = verdict
        .rows
        .iter()
        .find(|r| r.stream == "aws/checkout")
        .unwrap();
    assert!(row.alarm_ms.is_none() && row.l > 0.02);
}

#[test]
fn illness_after_the_fault_counts_too() {
    let records = history(&|stream, second| {
        if stream == "aws/checkout" && second >= 100 {
            RATE
        } else {
            sound(stream, second)
        }
    });
    let verdict = expect(
        &records,
        Outcome::Fail,
        &["aws fell", "degraded 104 s after fire"],
    );
    assert_eq!(
        class(&verdict, "aws/checkout", Window::Fault),
        Class::Isolated
    );
    assert_eq!(
        class(&verdict, "aws/checkout", Window::After),
        Class::Degraded
    );
    assert_eq!(
        class(&verdict, "tencent/checkout", Window::Fault),
        Class::Isolated
    );
    assert_eq!(
        class(&verdict, "tencent/checkout", Window::After),
        Class::Inconclusive
    );
}

#[test]
fn all_neighbours_at_once_are_a_common_cause() {
    // Without a reference it may be the prober's own network (see `witness_tests`).
    let mut header = header();
    header
        .streams
        .push(stream("control/reference-1", Role::Control));
    let records = history_of(header, &|stream, second| {
        if !stream.starts_with("control") && second >= 0 {
            RATE
        } else {
            0
        }
    });
    let verdict = expect(&records, Outcome::Fail, &["common cause", "all 5 streams"]);
    assert!(
        verdict
            .reasons
            .iter()
            .any(|r| r.starts_with("shop/dns fell"))
    );
    assert!(
        verdict
            .reasons
            .iter()
            .any(|r| r.starts_with("tencent fell") && r.contains("shop@tencent"))
    );
}

#[test]
fn a_prober_that_fails_is_not_a_cell_that_fails() {
    let records = history(&|stream, second| {
        if (10..40).contains(&second) {
            RATE
        } else {
            sound(stream, second)
        }
    });
    expect(
        &records,
        Outcome::Inconclusive,
        &["the prober cannot be trusted: control/loopback"],
    );
    let records = history(&|stream, second| match stream {
        "aws/checkout" | "control/loopback" if (0..60).contains(&second) => {
            u32::from(second % 5 != 0)
        }
        _ => sound(stream, second),
    });
    let verdict = expect(
        &records,
        Outcome::Inconclusive,
        &["control/loopback", "worse than its baseline"],
    );
    assert_eq!(
        class(&verdict, "aws/checkout", Window::Fault),
        Class::Inconclusive
    );
}

#[test]
fn a_clock_that_is_stepped_proves_nothing_and_blames_nobody() {
    let step = |at_ms: u64, wall_ms: i64, suspended_ms: u64| {
        Record::Clock(ClockStep {
            at_ms,
            wall_ms,
            suspended_ms,
        })
    };
    let fire = FIRE * 1000;
    for (stepped, words) in [
        (
            step(fire + 8_000, 3_600_000, 0),
            "stepped by +3600000 ms 8 s after fire",
        ),
        (
            step(fire - 9_000, -100, 0),
            "stepped by -100 ms 9 s before fire",
        ),
        (
            step(fire + 70_000, 5_000, 5_000),
            "suspended for 5000 ms 70 s after fire",
        ),
    ] {
        let records = spoilt(|r| r.push(stepped.clone()));
        expect(
            &records,
            Outcome::Inconclusive,
            &["prober cannot be trusted", words],
        );
    }
    // A neighbour that seems to fall from then on, too.
    let mut ill = history(&|stream, second| match stream {
        "aws/checkout" if (0..60).contains(&second) => u32::from(second % 5 != 0),
        _ => sound(stream, second),
    });
    ill.push(step(fire, 200, 0));
    expect(
        &ill,
        Outcome::Inconclusive,
        &["stepped by +200 ms 0 s after fire"],
    );
    let mut records = spoilt(|r| r.push(step(fire - 9_000, 100, 0)));
    records.retain(|r| !matches!(r, Record::Phase(mark) if mark.phase == Phase::Fire));
    expect(
        &records,
        Outcome::Aborted,
        &["never fired", "stepped by +100 ms"],
    );
}

#[test]
fn a_fault_without_effect_is_ineffective() {
    expect(
        &history(&|_, _| 0),
        Outcome::Ineffective,
        &["ali/checkout", "not proved degraded", "L -0.4 %"],
    );
    // 5 % worse is an effect, but not the one that was asked for.
    let weak =
        history(&|stream, second| u32::from(stream == "ali/checkout" && (0..60).contains(&second)));
    expect(
        &weak,
        Outcome::Ineffective,
        &["D 5.0 %", "needed more than 10.0 %"],
    );
    let unnamed = spoilt(|r| header_mut(r).judgement.degraded.clear());
    expect(&unnamed, Outcome::Ineffective, &["names no probe"]);
}

#[test]
fn blindness_is_not_health() {
    let blind = |b: &mut Block| b.valid = 3;
    let records = spoilt(|r| alter(r, "aws/checkout", 20..23, blind));
    expect(
        &records,
        Outcome::Inconclusive,
        &["aws/checkout was blind", "23 s after fire"],
    );
    // Never three in a row, but more than 5 % of the probes in all.
    let records = spoilt(|r| {
        for start in [2, 12, 22, 32, 42] {
            alter(r, "aws/checkout", start..start + 2, blind);
        }
    });
    expect(
        &records,
        Outcome::Inconclusive,
        &["aws/checkout", "85.8 % of the window's probes count"],
    );
    let records = spoilt(|r| alter(r, "control/loopback", 20..23, blind));
    expect(
        &records,
        Outcome::Inconclusive,
        &["prober cannot be trusted", "blind"],
    );
    let records = spoilt(|r| alter(r, "ali/checkout", 0..60, |b| (b.valid, b.bad) = (0, 0)));
    expect(
        &records,
        Outcome::Inconclusive,
        &["ali/checkout cannot be shown degraded"],
    );
}

#[test]
fn too_few_probes_and_episodes_prove_nothing() {
    let mut header = header();
    for stream in &mut header.streams {
        stream.rate = 3.0;
    }
    let mut records = history_of(header, &|s, second| sound(s, second).min(3));
    for name in super::drill::streams().iter().map(|s| s.name.clone()) {
        alter(&mut records, &name, -60..END as i64, |b| {
            (b.scheduled, b.valid) = (3, 3)
        });
    }
    expect(
        &records,
        Outcome::Inconclusive,
        &["aws/checkout", "too few probes: 180 of the 228"],
    );
    // Half of one block: D is 0.8 %, U below the margin, and yet.
    let records = spoilt(|r| alter(r, "aws/checkout", 33..34, |b| b.bad = RATE / 2));
    expect(
        &records,
        Outcome::Inconclusive,
        &["an episode", "33 s after fire"],
    );
    let records = history(&|stream, second| match stream {
        "aws/checkout" if (0..60).contains(&second) => u32::from(second % 3 == 0),
        _ => sound(stream, second),
    });
    expect(
        &records,
        Outcome::Inconclusive,
        &["aws/checkout", "is not below the margin", "suspect"],
    );
}

#[test]
fn a_baseline_shorter_than_the_fault_does_not_do() {
    let records = without(|r| !matches!(r, Record::Phase(m) if m.phase == Phase::Before));
    let records = [&records[..1], &[mark(Phase::Before, 15)], &records[1..]].concat();
    expect(
        &records,
        Outcome::Inconclusive,
        &["the window has 60 blocks, its baseline only 50"],
    );
    // A probe more in the window than in the baseline is only given away.
    let records = spoilt(|r| {
        alter(r, "shop@tencent", 0..60, |b| {
            (b.scheduled, b.valid) = (31, 31)
        })
    });
    expect(&records, Outcome::Pass, &[]);
}

#[test]
fn the_watch_after_a_fault_has_no_gap() {
    // 72 blocks after the fault, 60 of baseline: two parts, and illness in either denies.
    for second in [61, 131] {
        let at = second as i64;
        let records = spoilt(|r| alter(r, "aws/checkout", at..at + 1, |b| b.bad = 10));
        let verdict = expect(
            &records,
            Outcome::Inconclusive,
            &["aws/checkout after the fault", "episode"],
        );
        assert_eq!(
            class(&verdict, "aws/checkout", Window::Fault),
            Class::Isolated
        );
    }
}

#[test]
fn recovery_is_settling_and_then_a_comparison() {
    let sick_until = |until: i64| {
        let mut records = history(&move |stream, second| {
            let sick = stream == "ali/checkout" && (0..until).contains(&second);
            if sick { RATE } else { sound(stream, second) }
        });
        // Of the watch that the history holds, what is left behind a late settling.
        header_mut(&mut records).judgement.after_ms = 40_000;
        records
    };
    assert_eq!(
        target_settled(&sick_until(60)),
        Some((FAULT_END + 10) * 1000)
    );
    assert_eq!(
        settled(&sick_until(63), "ali/checkout"),
        Some((FAULT_END + 13) * 1000)
    );
    assert_eq!(
        settle_deadline_ms(&sick_until(60)),
        Some((FAULT_END + 30) * 1000)
    );
    expect(&sick_until(80), Outcome::Pass, &[]);
    assert_eq!(target_settled(&sick_until(81)), None);
    let verdict = expect(
        &sick_until(81),
        Outcome::Fail,
        &["recovery, not isolation: ali/checkout", "within 20 s"],
    );
    assert_eq!(
        class(&verdict, "ali/checkout", Window::After),
        Class::NotRecovered
    );
    // Settled, and then ill again: 1 in 10 bad from there on.
    let relapse = history(&|stream, second| match stream {
        "ali/checkout" if second >= 70 => 2,
        _ => sound(stream, second),
    });
    expect(
        &relapse,
        Outcome::Fail,
        &["recovery, not isolation", "worse than before the fault"],
    );
    let blind = spoilt(|r| {
        alter(r, "ali/checkout", 60..132, |b| {
            b.valid = if b.start_ms % 5000 == 0 { 3 } else { RATE }
        });
    });
    expect(
        &blind,
        Outcome::Inconclusive,
        &["ali/checkout not proved recovered", "blind blocks"],
    );
    assert_eq!(FAULT_END - FIRE, FAULT);
}

#[test]
fn the_share_of_answers_stands_beside_the_declared_one() {
    let records = spoilt(|records| {
        for record in records {
            if let Record::Block(block) = record
                && block.stream == "shop/dns"
            {
                block.answers = [("tencent".to_string(), 15), ("elsewhere".to_string(), 5)].into();
            }
        }
    });
    let verdict = expect(&records, Outcome::Pass, &[]);
    let users = verdict.rows.iter().find(|r| r.stream == "shop").unwrap();
    let notes = users.notes.join("; ");
    assert!(
        notes.contains("DNS answered elsewhere 25.0 % (not declared), tencent 75.0 % (declared"),
        "{notes}"
    );
    let silent = expect(&history(&sound), Outcome::Pass, &[]);
    let users = silent.rows.iter().find(|r| r.stream == "shop").unwrap();
    assert!(users.notes.join("; ").contains("DNS gave no answer"));
}
