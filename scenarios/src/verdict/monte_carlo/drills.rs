//! Whole drills through the product's own verdict: how they end.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;
use crate::history::Role;
use crate::verdict::drill::{self, FAULT, RATE, stream};
use crate::verdict::{Class, Outcome, Window, judge};

/// The one other cell that may notice.
const ILL: &str = "tencent/checkout";

/// How drills of ten cells end when the cells err so often: (target in the fault, one other in it).
struct Ends {
    runs: usize,
    /// All others are proved isolated in the fault window, and no alarm was raised.
    isolated: usize,
    outcomes: BTreeMap<Outcome, usize>,
    aborted: usize,
    delays_s: Vec<u64>,
}

/// What is true of a fleet: bad shares of its cells.
#[derive(Clone, Copy, Debug)]
struct Truth {
    base: f64,
    target: f64,
    /// Of the one other cell, `from_s` seconds after fire.
    ill: f64,
    from_s: i64,
}

impl Truth {
    const fn of(base: f64, target: f64, ill: f64) -> Self {
        Self {
            base,
            target,
            ill,
            from_s: 0,
        }
    }

    fn after_s(self, from_s: i64) -> Self {
        Self { from_s, ..self }
    }

    fn bad_share(&self, name: &str, second: i64) -> f64 {
        let in_fault = (0..FAULT as i64).contains(&second);
        match name {
            "control/loopback" => 0.0,
            "ali/checkout" if in_fault => self.target,
            ILL if in_fault && second >= self.from_s => self.ill,
            _ => self.base,
        }
    }
}

fn drills(runs: usize, truth: Truth) -> Ends {
    // The plan has agents in this one, so it must be probed.
    let mut cells = vec![ILL.to_owned()];
    cells.extend((2..=OTHERS).map(|n| format!("c{n}/checkout")));
    let mut header = drill::header();
    header.judgement.lost_max = None;
    // As it was measured; a real drill also bets on its watch and so waits a little longer.
    header.judgement.planned_blocks = FAULT as u32;
    header.streams = vec![stream("ali/checkout", Role::Target)];
    header
        .streams
        .extend(cells.iter().map(|name| stream(name, Role::Other)));
    header
        .streams
        .push(stream("control/loopback", Role::Control));
    let dice = RefCell::new(Dice(3));
    let bad = |name: &str, second: i64| dice.borrow_mut().bad(RATE, truth.bad_share(name, second));
    let mut ends = Ends {
        runs,
        isolated: 0,
        outcomes: BTreeMap::new(),
        aborted: 0,
        delays_s: Vec::new(),
    };
    for _ in 0..runs {
        let verdict = judge(&drill::history_of(header.clone(), &bad));
        *ends.outcomes.entry(verdict.outcome).or_default() += 1;
        if ends.outcomes.values().sum::<usize>() == 1 {
            println!("first: {:?}", verdict.reasons);
        }
        let others = || {
            let rows = verdict.rows.iter();
            rows.filter(|row| row.window == Window::Fault && cells.contains(&row.stream))
        };
        assert_eq!(others().count(), OTHERS);
        let alarm = verdict.rows.iter().filter_map(|row| row.alarm_ms).min();
        ends.isolated +=
            usize::from(alarm.is_none() && others().all(|row| row.class == Class::Isolated));
        if let Some(at_ms) = alarm {
            ends.aborted += 1;
            ends.delays_s.push(at_ms / 1_000 - drill::FIRE);
        }
    }
    ends.delays_s.sort_unstable();
    println!("{truth:?}: {:?}, {} aborted", ends.outcomes, ends.aborted);
    ends
}

impl Ends {
    fn of(&self, outcome: Outcome) -> usize {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    fn median_delay_s(&self) -> u64 {
        self.delays_s[self.delays_s.len() / 2]
    }
}

#[test]
#[ignore = "seconds with optimisation, minutes without"]
fn whole_drills_end_as_measured() {
    for (base, measured) in [(0.0, 1.0), (0.001, 1.0), (0.005, 0.998), (0.01, 0.855)] {
        let clean = drills(600, Truth::of(base, 1.0, base));
        agrees(clean.isolated, clean.runs, measured);
        assert_eq!(clean.of(Outcome::Fail), 0, "a sound fleet never fails");
    }
    for target in [0.001, 0.05] {
        let idle = drills(300, Truth::of(0.001, target, 0.001));
        assert_eq!(idle.of(Outcome::Ineffective), 300);
    }
    let fifth = drills(300, Truth::of(0.001, 0.2, 0.001));
    agrees(fifth.of(Outcome::Pass), 300, 1.0);
}

/// Claims of damage are corrected for both windows here, for one where it was measured; so a little less is
/// claimed, and no more is passed.
#[test]
#[ignore = "seconds with optimisation, minutes without"]
fn drills_with_an_ill_cell_end_as_measured() {
    let one = |ill| Truth::of(0.001, 1.0, ill);
    let at_margin = drills(2_000, one(0.021));
    agrees(at_margin.isolated, at_margin.runs, 0.0070);
    assert!(at_margin.of(Outcome::Pass) <= at_margin.isolated);

    let three = drills(600, one(0.031));
    agrees(three.of(Outcome::Pass), 600, 0.0);
    agrees(three.of(Outcome::Fail), 600, 0.084);
    let five = drills(600, one(0.05));
    agrees(five.aborted, 600, 0.288);
    agrees(five.of(Outcome::Fail), 600, 0.98);
    agrees(five.of(Outcome::Pass), 600, 0.0);
}

#[test]
#[ignore = "seconds with optimisation, minutes without"]
fn drills_are_ended_as_measured() {
    for (ill, from_s, aborts, delay_s) in [
        (0.1, 0, 1.0, 15),
        (0.1, 30, 0.990, 15),
        (1.0, 0, 1.0, 4),
        (1.0, 30, 1.0, 4),
    ] {
        let ended = drills(600, Truth::of(0.001, 1.0, ill).after_s(from_s));
        agrees(ended.aborted, 600, aborts);
        assert_eq!(ended.of(Outcome::Pass), 0);
        let delay = ended.median_delay_s() - from_s as u64;
        println!("ended after {delay} s, measured {delay_s} s");
        assert!(delay.abs_diff(delay_s) <= 1);
    }
}
