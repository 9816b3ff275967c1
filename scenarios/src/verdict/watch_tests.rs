//! The online abort on whole seconds: gate, order of judging, blindness.

use super::drill::{
    self, FIRE, RATE, alter, block, expect, header, header_mut, history, history_of, sound, stream,
};
use super::{NotReady, Outcome, Watch};
use crate::history::{Alarm, AlarmCause, Block, Phase, Record, Role};

/// Records up to and with the Fire mark.
fn until_fire(records: &[Record]) -> &[Record] {
    let fire = records
        .iter()
        .position(|r| matches!(r, Record::Phase(mark) if mark.phase == Phase::Fire))
        .unwrap();
    &records[..=fire]
}

fn run(records: &[Record]) -> Vec<Alarm> {
    let mut watch = Watch::new(until_fire(records)).unwrap();
    let mut alarms = Vec::new();
    for second in FIRE..drill::END {
        let mut blocks: Vec<Block> = records
            .iter()
            .filter_map(|r| match r {
                Record::Block(b) if b.start_ms == second * 1000 => Some(b.clone()),
                _ => None,
            })
            .collect();
        blocks.reverse(); // any order
        alarms.extend(watch.second(second * 1000, &blocks));
    }
    alarms
}

fn told(alarms: &[Alarm]) -> Vec<(String, u64, AlarmCause)> {
    alarms
        .iter()
        .map(|a| (a.stream.clone(), a.at_ms / 1000 - FIRE, a.cause))
        .collect()
}

#[test]
fn a_sound_fleet_never_alarms() {
    assert_eq!(run(&history(&sound)), []);
}

#[test]
fn a_dead_neighbour_alarms_within_four_blocks() {
    let records = history(&|stream, second| {
        if stream == "aws/checkout" && second >= 0 {
            RATE
        } else {
            sound(stream, second)
        }
    });
    assert_eq!(
        told(&run(&records)),
        [("aws/checkout".into(), 4, AlarmCause::Degraded)]
    );
}

#[test]
fn all_streams_of_one_second_are_told() {
    let records = history(&|_, second| if second >= 30 { RATE } else { 0 });
    // The controls fail too: then it is the prober, and no cell is named.
    assert_eq!(
        told(&run(&records)),
        [("control/loopback".into(), 34, AlarmCause::Prober)]
    );
    let mut header = header();
    header
        .streams
        .push(stream("control/reference-1", Role::Control));
    let records = history_of(header, &|stream, second| {
        if !stream.starts_with("control") && second >= 30 {
            RATE
        } else {
            0
        }
    });
    let alarms = run(&records);
    assert_eq!(alarms.len(), 5);
    assert!(
        alarms
            .iter()
            .all(|a| a.at_ms == alarms[0].at_ms && a.cause == AlarmCause::Degraded)
    );
}

#[test]
fn three_blind_blocks_stop_the_fault() {
    let blind = |b: &mut Block| b.valid = RATE / 2 - 1;
    let mut records = history(&sound);
    alter(&mut records, "aws/checkout", 10..12, blind);
    assert_eq!(run(&records), []);
    alter(&mut records, "aws/checkout", 10..13, blind);
    assert_eq!(
        told(&run(&records)),
        [("aws/checkout".into(), 13, AlarmCause::Blind)]
    );
    let mut records = history(&sound);
    alter(&mut records, "control/loopback", 10..13, blind);
    assert_eq!(
        told(&run(&records)),
        [("control/loopback".into(), 13, AlarmCause::Blind)]
    );
    // Not there at all, and the schedule itself stalled.
    let mut records = history(&sound);
    records.retain(
        |r| !matches!(r, Record::Block(b) if b.stream == "shop/dns" && b.start_ms >= FIRE * 1000),
    );
    assert_eq!(
        told(&run(&records))[0],
        ("shop/dns".into(), 3, AlarmCause::Blind)
    );
    let mut records = history(&sound);
    alter(&mut records, "aws/checkout", 20..60, |b| {
        (b.scheduled, b.valid) = (3, 3)
    });
    assert_eq!(
        told(&run(&records)),
        [("aws/checkout".into(), 23, AlarmCause::Blind)]
    );
}

#[test]
fn users_without_an_address_are_the_dns_streams_matter() {
    let mut records = history(&sound);
    let none = |b: &mut Block| (b.scheduled, b.valid, b.bad) = (0, 0, 0);
    alter(&mut records, "shop@tencent", 10..20, none);
    assert_eq!(
        told(&run(&records)),
        [("shop@tencent".into(), 13, AlarmCause::Blind)]
    );
    alter(&mut records, "shop/dns", 10..20, |b| b.bad = b.valid);
    assert_eq!(
        told(&run(&records)),
        [("shop/dns".into(), 14, AlarmCause::Degraded)]
    );
    // Chance alone may leave an attributed stream less than half of its share.
    let mut records = history(&sound);
    alter(&mut records, "shop@tencent", 10..20, |b| {
        (b.scheduled, b.valid) = (9, 9)
    });
    assert_eq!(run(&records), []);
    // But probes that were due and not sent are the prober's doing, not chance.
    alter(&mut records, "shop@tencent", 10..20, |b| b.scheduled = RATE);
    assert_eq!(
        told(&run(&records)),
        [("shop@tencent".into(), 13, AlarmCause::Blind)]
    );
}

#[test]
fn seconds_left_out_are_blind_and_old_ones_ignored() {
    let records = history(&sound);
    let mut watch = Watch::new(until_fire(&records)).unwrap();
    let one = |second| {
        drill::streams()
            .iter()
            .map(|s| block(&s.name, second, 0))
            .collect::<Vec<_>>()
    };
    assert!(watch.second(FIRE * 1000, &one(FIRE)).is_empty());
    let before = watch.e_value("aws/checkout");
    assert!(watch.second((FIRE - 1) * 1000, &one(FIRE - 1)).is_empty());
    assert!(watch.second(FIRE * 1000, &one(FIRE)).is_empty());
    assert_eq!(watch.e_value("aws/checkout"), before);
    assert_eq!(watch.second((FIRE + 9) * 1000, []).len(), 1); // the control first
}

#[test]
fn the_gate_refuses_with_words() {
    let refuse = |spoil: &dyn Fn(&mut Vec<Record>)| {
        let mut records = until_fire(&history(&sound)).to_vec();
        spoil(&mut records);
        Watch::new(&records).unwrap_err()
    };
    let every = -60..0;
    let ill = refuse(&|r| alter(r, "aws/checkout", every.clone(), |b| b.bad = 1));
    assert!(
        matches!(
            &ill,
            NotReady::BadBaseline {
                bad: 60,
                total: 1200,
                ..
            }
        ),
        "{ill:?}"
    );
    assert!(
        ill.to_string()
            .starts_with("aws/checkout: 60 of 1200 baseline probes bad"),
        "{ill}"
    );
    // The target must be healthy before, too.
    let ill = refuse(&|r| alter(r, "ali/checkout", every.clone(), |b| b.bad = 1));
    assert!(matches!(ill, NotReady::BadBaseline { .. }));
    let ill = refuse(&|r| alter(r, "control/loopback", every.clone(), |b| b.bad = 1));
    assert!(matches!(ill, NotReady::BadControl(_)));
    let blind = refuse(&|r| alter(r, "aws/checkout", -5..-4, |b| b.valid = 9));
    assert!(
        matches!(
            blind,
            NotReady::Blind {
                blind: 1,
                blocks: 60,
                ..
            }
        ),
        "{blind:?}"
    );
    let gap = refuse(&|r| {
        r.retain(|r| !matches!(r, Record::Block(b) if b.stream == "aws/checkout" && b.start_ms == 20_000));
    });
    assert!(matches!(gap, NotReady::Blind { .. }));
    let none = refuse(&|r| r.retain(|r| !matches!(r, Record::Block(b) if b.stream == "shop/dns")));
    assert!(matches!(none, NotReady::NoBaseline { .. }));
    let no_threshold = refuse(&|r| header_mut(r).streams[2].slo_ms = None);
    assert!(matches!(no_threshold, NotReady::NoLimit { .. }));
    let lone = refuse(&|r| {
        header_mut(r)
            .streams
            .retain(|s| !s.name.starts_with("control"))
    });
    assert_eq!(lone, NotReady::NoControl);
    let target = refuse(&|r| header_mut(r).judgement.degraded.push("search".into()));
    assert!(matches!(target, NotReady::NoTarget { .. }));
    let sparse = refuse(&|r| header_mut(r).streams[4].rate = 0.5);
    assert!(matches!(sparse, NotReady::TooSparse { .. }));
    let parameters = refuse(&|r| header_mut(r).judgement.alpha = f64::NAN);
    assert!(matches!(parameters, NotReady::Unreadable(_)));
    assert!(matches!(Watch::new(&[]), Err(NotReady::Unreadable(_))));
}

/// 4 % in the baseline is still below the 5 % gate, but with the margin the abort would be slow.
#[test]
fn the_gate_refuses_what_the_abort_cannot_watch() {
    let mut records = until_fire(&history(&sound)).to_vec();
    alter(&mut records, "tencent/checkout", -60..0, |b| {
        b.bad = u32::from(b.start_ms % 2000 == 0)
    });
    header_mut(&mut records).judgement.margin = 0.06;
    let refused = Watch::new(&records).unwrap_err();
    assert!(
        matches!(&refused, NotReady::BadBaseline { limit, .. } if *limit == 0.10),
        "{refused:?}"
    );
}

#[test]
fn a_control_that_was_ill_before_does_not_let_a_cell_speak_first() {
    // 30 of its 1,200 probes were bad before: it needs a block more than the cells.
    let records = history(&|stream, second| match (stream, second) {
        (_, 0..10) => RATE,
        ("control/loopback", ..0) => u32::from(second % 2 == 0),
        _ => 0,
    });
    assert_eq!(
        told(&run(&records)),
        [("control/loopback".into(), 5, AlarmCause::Prober)]
    );
    expect(
        &records,
        Outcome::Inconclusive,
        &["prober cannot be trusted"],
    );
}

#[test]
fn a_control_that_is_blind_now_and_then_ends_the_fault_and_names_no_cell() {
    let dead = |stream: &str, second: i64| match stream {
        "aws/checkout" if second >= 0 => RATE,
        _ => sound(stream, second),
    };
    let mut records = history(&dead);
    for first in (0..60).step_by(3) {
        alter(&mut records, "control/loopback", first..first + 2, |b| {
            b.valid = 3
        });
    }
    assert_eq!(
        told(&run(&records)),
        [("control/loopback".into(), 8, AlarmCause::Prober)]
    );
    expect(
        &records,
        Outcome::Inconclusive,
        &["prober cannot be trusted"],
    );
    // Ill once: the cell waits until that is some blocks ago, and is named.
    let mut records = history(&dead);
    alter(&mut records, "control/loopback", 1..2, |b| b.bad = b.valid);
    assert_eq!(
        told(&run(&records)),
        [("aws/checkout".into(), 6, AlarmCause::Degraded)]
    );
}
