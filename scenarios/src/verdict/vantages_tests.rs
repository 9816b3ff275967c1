//! Several vantage points: what they see together, what one sees alone, and what none can see.

use proptest::prelude::*;

use super::drill::{
    END, FAULT, FIRE, RATE, block, class, expect, header, header_mut, history_of, sound, stream,
};
use super::{Class, NotReady, Outcome, Verdict, Watch, Window, judge};
use crate::effects::HarmBudget;
use crate::history::{Basis, Block, Counts, Phase, Record, Role, Stream, Vantage};

const STREAMS: [&str; 4] = [
    "tencent/checkout",
    "tencent/orders",
    "aws/checkout",
    "control/loopback",
];
pub(super) const TENCENT: &str = "tencent/n1";
pub(super) const AWS: &str = "aws/n1";
/// A drill with vantages has a baseline that is two blocks longer.
const BEFORE: u64 = 2;

/// Bad probes as someone (`None`: the conductor) sees a stream, by seconds after fire.
pub(super) type Seen<'a> = dyn Fn(Option<&str>, &str, i64) -> u32 + 'a;

fn vantage(name: &str) -> Vantage {
    let (cell, _) = name.split_once('/').unwrap();
    Vantage {
        name: name.into(),
        cell: cell.into(),
        skew_us: 400,
        streams: STREAMS.map(String::from).to_vec(),
    }
}

pub(super) fn history_seen_by(vantages: &[&str], bad: &Seen<'_>) -> Vec<Record> {
    let mut header = header();
    header.vantages = vantages.iter().map(|name| vantage(name)).collect();
    let own: Vec<String> = header.streams.iter().map(|s| s.name.clone()).collect();
    let mut records = history_of(header, &|stream, second| bad(None, stream, second));
    for record in &mut records {
        if let Record::Phase(mark) = record
            && mark.phase == Phase::Before
        {
            mark.at_ms = BEFORE * 1000;
        }
    }
    for second in BEFORE..5 {
        let of = |name: &String| Record::Block(block(name, second, 0));
        records.extend(own.iter().map(of));
    }
    for second in BEFORE..END {
        for name in vantages {
            for stream in STREAMS {
                let bad = bad(Some(name), stream, second as i64 - FIRE as i64);
                records.push(Record::Block(Block {
                    vantage: Some((*name).into()),
                    ..block(stream, second, bad)
                }));
            }
        }
    }
    records
}

fn history(bad: &Seen<'_>) -> Vec<Record> {
    history_seen_by(&[TENCENT, AWS], bad)
}

/// A sound drill but for what `who` sees of `stream`, which is all bad while the fault lasts.
fn damaged_as_seen_from(who: &[Option<&str>], streams: &[&str]) -> Vec<Record> {
    history(&|by, stream, second| {
        let hit = who.contains(&by) && streams.contains(&stream);
        match hit && (0..FAULT as i64).contains(&second) {
            true => RATE,
            false => sound(stream, second),
        }
    })
}

fn is_of(record: &Record, vantage: &str) -> bool {
    matches!(record, Record::Block(b) if b.vantage.as_deref() == Some(vantage))
}

#[test]
fn what_all_see_alike_passes_and_names_them() {
    let records = history(&|_, stream, second| sound(stream, second));
    let words = [
        "seen alike from the conductor, tencent/n1 and aws/n1",
        "0.4 ms",
    ];
    expect(&records, Outcome::Pass, &words);
}

#[test]
fn what_one_sees_alone_is_a_path_problem() {
    let records = damaged_as_seen_from(&[Some(TENCENT)], &["aws/checkout"]);
    let words = ["path problem", "aws is degraded as seen from tencent/n1"];
    let verdict = expect(&records, Outcome::Inconclusive, &words);
    let row = |window| {
        let mut rows = verdict.rows.iter();
        rows.find(|r| r.stream == "aws/checkout" && r.window == window)
            .unwrap()
    };
    assert_eq!(row(Window::Fault).class, Class::Inconclusive);
    assert_eq!(row(Window::Fault).only_seen_from, [TENCENT]);
    assert!(row(Window::Fault).u > 0.9, "the worst view is told");
    assert_eq!(row(Window::After).class, Class::Isolated);
    let other = class(&verdict, "tencent/checkout", Window::Fault);
    assert_eq!(other, Class::Isolated);
    assert!(
        verdict.rows.iter().all(|row| row.alarm_ms.is_none()),
        "nothing stops the drill"
    );
}

#[test]
fn the_conductor_is_one_of_them() {
    let records = damaged_as_seen_from(&[None], &["aws/checkout"]);
    let words = ["path problem", "as seen from the conductor"];
    expect(&records, Outcome::Inconclusive, &words);
}

#[test]
fn what_most_see_is_a_failure() {
    for who in [
        [None, Some(TENCENT)],
        [None, Some(AWS)],
        [Some(AWS), Some(TENCENT)],
    ] {
        let records = damaged_as_seen_from(&who, &["aws/checkout"]);
        let verdict = expect(&records, Outcome::Fail, &["aws fell", "aws/checkout"]);
        assert_eq!(
            class(&verdict, "aws/checkout", Window::Fault),
            Class::Degraded
        );
    }
}

#[test]
fn of_two_both_must_see_it() {
    let seen = |who: &'static [Option<&str>]| {
        history_seen_by(&[AWS], &move |by, stream, second| {
            let hit = who.contains(&by) && stream == "tencent/checkout" && second >= 0;
            if hit { RATE } else { sound(stream, second) }
        })
    };
    expect(&seen(&[]), Outcome::Pass, &[]);
    expect(&seen(&[None]), Outcome::Inconclusive, &["path problem"]);
    let words = ["path problem", AWS];
    expect(&seen(&[Some(AWS)]), Outcome::Inconclusive, &words);
    expect(&seen(&[None, Some(AWS)]), Outcome::Fail, &["tencent fell"]);
}

/// All vantages behind one way out that fails: they see everything fall, their controls as well.
#[test]
fn vantages_that_have_lost_their_way_out_make_no_failure() {
    let everything = STREAMS.map(|s| s.to_string());
    let everything: Vec<&str> = everything.iter().map(String::as_str).collect();
    let records = damaged_as_seen_from(&[Some(AWS), Some(TENCENT)], &everything);
    let words = ["vantage aws/n1 cannot be trusted", "control/loopback"];
    let verdict = expect(&records, Outcome::Inconclusive, &words);
    assert!(
        !verdict.reasons.iter().any(|r| r.contains("path problem")),
        "{:?}",
        verdict.reasons
    );
}

/// A control that is a fifth bad is never half bad in a second; it alarms, and the vote is gone.
#[test]
fn vantages_whose_controls_are_slowly_getting_worse_make_no_failure() {
    let records = history(&|by, stream, second| match by {
        Some(_) if second >= 0 => RATE / 5,
        _ => sound(stream, second),
    });
    expect(&records, Outcome::Inconclusive, &["cannot be trusted"]);
}

#[test]
fn a_vantage_that_dies_denies_a_pass_and_hides_no_failure() {
    let dead_after = |mut records: Vec<Record>| {
        let dead =
            |b: &Block| b.vantage.as_deref() == Some(AWS) && b.start_ms >= (FIRE + 12) * 1000;
        records.retain(|r| !matches!(r, Record::Block(b) if dead(b)));
        records
    };
    let records = dead_after(history(&|_, stream, second| sound(stream, second)));
    let words = ["vantage aws/n1 was blind", "12 s after fire"];
    let verdict = expect(&records, Outcome::Inconclusive, &words);
    assert!(
        verdict.rows.iter().all(|row| row.alarm_ms.is_none()),
        "two are left, so the drill goes on"
    );
    let all = [None, Some(TENCENT), Some(AWS)];
    let fallen = dead_after(damaged_as_seen_from(&all, &["aws/checkout"]));
    expect(&fallen, Outcome::Fail, &["aws fell"]);
    let alone = dead_after(damaged_as_seen_from(&[Some(TENCENT)], &["aws/checkout"]));
    expect(&alone, Outcome::Inconclusive, &["path problem"]);
}

/// With only the conductor left there is no evidence any more: the fault is stopped.
#[test]
fn when_one_alone_is_left_it_is_blind() {
    let mut records = history_seen_by(&[AWS], &|by, stream, second| {
        let hit = by.is_none() && stream == "tencent/checkout" && second >= 20;
        if hit { RATE } else { sound(stream, second) }
    });
    records.retain(|r| {
        !(is_of(r, AWS) && matches!(r, Record::Block(b) if b.start_ms >= (FIRE + 15) * 1000))
    });
    let verdict = expect(
        &records,
        Outcome::Inconclusive,
        &["was blind, stopped 18 s"],
    );
    assert_ne!(
        class(&verdict, "tencent/checkout", Window::Fault),
        Class::Degraded
    );
}

#[test]
fn a_vantage_in_the_target_has_no_say() {
    let records = history_seen_by(&["ali/n1", TENCENT, AWS], &|by, stream, second| match by {
        Some("ali/n1") if second >= 0 => RATE,
        _ => sound(stream, second),
    });
    let verdict = expect(&records, Outcome::Pass, &["seen alike from the conductor"]);
    assert!(!verdict.reasons.iter().any(|r| r.contains("ali/n1")));
}

#[test]
fn a_clock_that_is_not_known_denies_a_pass() {
    let with_skew = |skew_us| {
        let mut records = history(&|_, stream, second| sound(stream, second));
        header_mut(&mut records).vantages[1].skew_us = skew_us;
        records
    };
    expect(&with_skew(250_000), Outcome::Pass, &["250.0 ms"]);
    let words = ["vantage aws/n1", "clock is known only to 251 ms"];
    expect(&with_skew(251_000), Outcome::Inconclusive, &words);
}

/// By a vantage's clock the last block before fire may hold the first moments of the fault.
#[test]
fn the_window_of_a_vantage_begins_a_block_before_fire() {
    let hit_at = |at: i64| {
        history(&move |by, stream, second| {
            let hit = by == Some(AWS) && stream == "tencent/orders" && second == at;
            if hit { RATE } else { sound(stream, second) }
        })
    };
    let words = ["tencent/orders", "seen from aws/n1", "an episode"];
    expect(&hit_at(-1), Outcome::Inconclusive, &words);
    expect(&hit_at(0), Outcome::Inconclusive, &words);
    let before = judge(&hit_at(-2));
    let fault = before.rows.iter().find(|r| r.stream == "tencent/orders");
    let notes = &fault.unwrap().notes;
    assert!(!notes.iter().any(|n| n.contains("an episode")), "{notes:?}");
}

#[test]
fn a_vantage_that_is_ill_before_the_fault_lets_nothing_fire() {
    let refused = |records: &[Record]| Watch::new(records).unwrap_err();
    let ill = history(&|by, stream, second| {
        let hit = by == Some(AWS) && stream == "tencent/orders" && second < 0;
        if hit { 3 } else { sound(stream, second) }
    });
    let error = refused(&ill).to_string();
    assert!(error.contains("as vantage aws/n1 sees it"), "{error}");
    assert!(error.contains("tencent/orders"), "{error}");
    let mut blind = history(&|_, stream, second| sound(stream, second));
    let hole = |b: &Block| b.vantage.as_deref() == Some(TENCENT) && b.start_ms == 20_000;
    blind.retain(|r| !matches!(r, Record::Block(b) if hole(b)));
    let error = refused(&blind);
    assert!(matches!(error, NotReady::Vantage { .. }), "{error}");
    let mut uncontrolled = history(&|_, stream, second| sound(stream, second));
    header_mut(&mut uncontrolled).vantages[0].streams.pop();
    assert!(refused(&uncontrolled).to_string().contains("no control"));
}

#[test]
fn blocks_of_nobody_are_damage() {
    let mut records = history(&|_, stream, second| sound(stream, second));
    records.push(Record::Block(Block {
        vantage: Some("aws/n9".into()),
        ..block("tencent/orders", 70, 0)
    }));
    expect(
        &records,
        Outcome::Inconclusive,
        &["aws/n9", "not in the header"],
    );
    let mut twice = history(&|_, stream, second| sound(stream, second));
    let again = twice.iter().find(|r| is_of(r, AWS)).unwrap().clone();
    twice.push(again);
    expect(&twice, Outcome::Inconclusive, &["aws/n1", "twice"]);
    let mut target = history(&|_, stream, second| sound(stream, second));
    header_mut(&mut target).vantages[0]
        .streams
        .push("ali/checkout".into());
    expect(&target, Outcome::Inconclusive, &["asks ali/checkout"]);
}

/// Slow answers are another stream's again, by a limit of the conductor's own: nobody else is asked.
#[test]
fn what_is_not_probed_is_the_conductors_alone() {
    let mut records = history(&|_, stream, second| sound(stream, second));
    let slow = Counts::Slow {
        of: "aws/checkout".into(),
    };
    let header = header_mut(&mut records);
    header.streams.push(Stream {
        basis: Basis {
            counts: slow,
            ..Basis::default()
        },
        ..stream("aws/checkout:slow", Role::Other)
    });
    header.vantages[0].streams.push("aws/checkout:slow".into());
    expect(
        &records,
        Outcome::Inconclusive,
        &["asks aws/checkout:slow", "no stream for it"],
    );
}

/// What vantages meet as well is not paid twice: the target alone uses this budget up.
#[test]
fn harm_is_what_the_conductor_meets() {
    let within = |by: &'static str| {
        let mut records = history(&move |who, stream, second| {
            let hit = who.unwrap_or_default() == by && stream == "tencent/orders" && second == 7;
            sound(stream, second) + u32::from(hit)
        });
        header_mut(&mut records).judgement.effects.harm = Some(HarmBudget {
            failed_requests: Some(u64::from(RATE) * FAULT * 3),
            error_budget: None,
        });
        judge(&records).outcome
    };
    assert_eq!(within(AWS), Outcome::Pass);
    assert_eq!(within(""), Outcome::Aborted);
}

/// Gives the online abort each second as the conductor does.
fn watched(records: &[Record]) -> Vec<(String, u64)> {
    let Ok(mut watch) = Watch::new(records) else {
        return Vec::new();
    };
    let mut alarms = Vec::new();
    for second in FIRE..END {
        let blocks = records.iter().filter_map(|record| match record {
            Record::Block(block) if block.start_ms == second * 1000 => Some(block),
            _ => None,
        });
        alarms.extend(watch.second(second * 1000, blocks));
    }
    let alarm = |a: &crate::history::Alarm| {
        (a.cause == crate::history::AlarmCause::Degraded).then(|| (a.stream.clone(), a.at_ms))
    };
    alarms.iter().filter_map(alarm).collect()
}

/// What one of those who look sees amiss: (who, stream, second after fire, bad probes).
type Amiss = Vec<(usize, usize, i64, u32)>;

fn amiss(who: impl Strategy<Value = usize>) -> impl Strategy<Value = Amiss> {
    let bad = prop_oneof![2 => 1..4_u32, 1 => Just(RATE)];
    let runs = (who, 0..STREAMS.len(), -3..125_i64, bad, 1..30_i64);
    prop::collection::vec(runs, 0..8).prop_map(|runs| {
        let each = |(who, stream, from, bad, length): (usize, usize, i64, u32, i64)| {
            (from..from + length).map(move |second| (who, stream, second, bad))
        };
        runs.into_iter().flat_map(each).collect()
    })
}

fn seen_amiss(amiss: &Amiss, names: [&str; 2]) -> Vec<Record> {
    let mut bad: std::collections::BTreeMap<(usize, &str, i64), u32> = Default::default();
    for (who, stream, second, more) in amiss {
        *bad.entry((*who, STREAMS[*stream], *second)).or_default() += more;
    }
    history_seen_by(&names, &|by, stream, second| {
        let who = by.map_or(2, |by| usize::from(by != names[0]));
        let more = bad.get(&(who, stream, second)).copied().unwrap_or(0);
        (sound(stream, second) + more).min(RATE)
    })
}

fn without_names(mut verdict: Verdict) -> String {
    for row in &mut verdict.rows {
        row.notes.sort();
        row.only_seen_from.sort();
    }
    let text = serde_json::to_string(&(verdict.outcome, verdict.rows)).unwrap();
    text.replace("n1", "n").replace("n2", "n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Which vantage has which name decides nothing, nor does their order.
    #[test]
    fn permuting_vantages_permutes_nothing(amiss in amiss(0..3_usize)) {
        let one = judge(&seen_amiss(&amiss, ["aws/n1", "aws/n2"]));
        let other = judge(&seen_amiss(&amiss, ["aws/n2", "aws/n1"]));
        prop_assert_eq!(one.outcome, other.outcome);
        let classes = |v: &Verdict| v.rows.iter().map(|r| (r.stream.clone(), r.class, r.alarm_ms, r.bad, r.total)).collect::<Vec<_>>();
        prop_assert_eq!(classes(&one), classes(&other));
        prop_assert_eq!(without_names(one).len(), without_names(other).len());
    }

    /// One vantage alone makes no failure, whatever it sees, and no alarm.
    #[test]
    fn one_alone_makes_no_failure(amiss in amiss(Just(0_usize))) {
        let records = seen_amiss(&amiss, [AWS, TENCENT]);
        let verdict = judge(&records);
        prop_assert_ne!(verdict.outcome, Outcome::Fail, "{:?}", verdict.reasons);
        prop_assert_eq!(watched(&records), Vec::new());
    }

    /// A vantage with holes is never a pass.
    #[test]
    fn dropping_samples_of_a_vantage_never_yields_a_pass(
        amiss in amiss(0..3_usize),
        holes in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        let mut records = seen_amiss(&amiss, [AWS, TENCENT]);
        for hole in holes {
            let theirs: Vec<usize> = (0..records.len())
                .filter(|at| is_of(&records[*at], AWS) || is_of(&records[*at], TENCENT))
                .collect();
            records.remove(theirs[hole.index(theirs.len())]);
        }
        prop_assert_ne!(judge(&records).outcome, Outcome::Pass);
    }

    /// What a vantage sees amiss never turns what was no pass into one.
    #[test]
    fn more_bad_probes_of_anyone_never_help(first in amiss(0..3_usize), more in amiss(0..3_usize)) {
        let less = judge(&seen_amiss(&first, [AWS, TENCENT])).outcome;
        let both = judge(&seen_amiss(&[first, more].concat(), [AWS, TENCENT])).outcome;
        prop_assert!(both != Outcome::Pass || less == Outcome::Pass);
    }

    /// The final verdict finds the alarms of the online abort, and no others.
    #[test]
    fn what_is_watched_is_what_is_judged(amiss in amiss(0..3_usize)) {
        let records = seen_amiss(&amiss, [AWS, TENCENT]);
        let online = watched(&records);
        let verdict = judge(&records);
        let judged = verdict.rows.iter().filter_map(|row| Some((row.stream.clone(), row.alarm_ms?)));
        let mut judged: Vec<_> = judged.filter(|(s, _)| !s.starts_with("control")).collect();
        judged.sort();
        judged.dedup();
        for alarm in &judged {
            prop_assert!(online.contains(alarm), "{alarm:?} in {online:?}");
        }
        prop_assert_eq!(online.is_empty(), judged.is_empty());
    }
}

/// One that asked only whether it is well itself has seen nothing of any cell.
#[test]
fn a_vantage_that_asked_no_cell_counts_for_nothing() {
    let mut records = history(&|_, stream, second| sound(stream, second));
    header_mut(&mut records).vantages[1].streams = vec!["control/loopback".into()];
    records.retain(|record| {
        !is_of(record, AWS) || matches!(record, Record::Block(b) if b.stream == "control/loopback")
    });
    let idle = ["vantage aws/n1 asked nothing of any cell"];
    let verdict = expect(&records, Outcome::Pass, &idle);
    let words = "seen alike from the conductor and tencent/n1; clocks";
    assert!(
        verdict.reasons.iter().any(|r| r.starts_with(words)),
        "{:?}",
        verdict.reasons
    );
    header_mut(&mut records).vantages.remove(0);
    records.retain(|record| !is_of(record, TENCENT));
    let verdict = expect(&records, Outcome::Pass, &idle);
    assert!(!verdict.reasons.iter().any(|r| r.contains("seen alike")));
}
