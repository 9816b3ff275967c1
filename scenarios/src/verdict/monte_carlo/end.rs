//! The end of a drill: how often a cell is called isolated or degraded, exactly where that can be summed.

use super::*;
use crate::verdict::interval::{self, dispersion};
use crate::verdict::power::{power, power_against};

fn percent(share: f64, measured: f64, digit: f64) {
    let share = share * 100.0;
    println!("{share:.2} %, measured {measured} %");
    assert!(
        (share - measured).abs() <= digit,
        "{share} is not {measured}"
    );
}

#[test]
#[ignore = "seconds with optimisation, minutes without"]
fn false_isolation_and_power_are_as_measured() {
    for (p, measured) in [(0.0, 0.51), (0.001, 0.75), (0.005, 0.85), (0.01, 0.83)] {
        let at_margin = power_against(p + MARGIN, p, 1_200, 1_200, MARGIN, ALPHA);
        percent(at_margin, measured, 0.0051);
    }
    for (p, seconds, measured) in [
        (0.005, 20, 70.0),
        (0.005, 30, 93.0),
        (0.005, 45, 99.5),
        (0.005, 60, 100.0),
        (0.01, 30, 75.5),
        (0.01, 60, 98.4),
        (0.01, 120, 100.0),
    ] {
        let probes = seconds * u64::from(USUAL.rate);
        percent(power(p, probes, probes, MARGIN, ALPHA), measured, 0.51);
    }
}

/// Nine sound cells must all be proved isolated; windows of 10, 20 and 30 s.
#[test]
#[ignore = "seconds with optimisation, minutes without"]
fn windows_too_short_are_as_measured() {
    for (seconds, measured) in [(10, 0.0), (20, 66.6), (30, 99.9)] {
        let probes = seconds * u64::from(USUAL.rate);
        let enough = probes >= interval::floor_n0(ALPHA, MARGIN);
        let all = power(0.001, probes, probes, MARGIN, ALPHA).powi(OTHERS as i32);
        percent(if enough { all } else { 0.0 }, measured, 3.0);
    }
}

/// Bad probes of each second of a window.
type Seconds = Vec<(u32, u32)>;

fn seconds(bursts: &mut Bursts, from_s: u32, length_s: u32, dice: &mut Dice) -> Seconds {
    let second = |second| {
        let bad = bursts.bad(f64::from(second), 1.0, USUAL.rate, dice);
        (bad, USUAL.rate)
    };
    (from_s..from_s + length_s).map(second).collect()
}

fn sample(seconds: &Seconds) -> Sample {
    let sum = |part: fn(&(u32, u32)) -> u32| seconds.iter().map(|s| u64::from(part(s))).sum();
    Sample::new(sum(|second| second.0), sum(|second| second.1))
}

/// Outages that come by themselves and change nothing: damage is claimed less often where the spread of the
/// seconds counts.
#[test]
#[ignore = "seconds with optimisation, minutes without"]
fn outages_of_a_sound_cell_are_called_damage_as_measured() {
    for (length_s, every_s, by_count, by_spread) in
        [(1.0, 200.0, 0.037, 0.0033), (2.0, 400.0, 0.054, 0.015)]
    {
        let mut dice = Dice(4);
        let (mut plain, mut spread) = (0, 0);
        for _ in 0..3_000 {
            let mut bursts = Bursts::of_noise(length_s, every_s, &mut dice);
            let base = seconds(&mut bursts, 0, 60, &mut dice);
            let now = seconds(&mut bursts, 60, 60, &mut dice);
            let level = ALPHA / OTHERS as f64;
            let lower = |now, base| interval::lower(now, base, level);
            let deflated = |seconds: &Seconds| sample(seconds).deflated(dispersion(seconds));
            plain += usize::from(lower(sample(&now), sample(&base)) > MARGIN);
            spread += usize::from(lower(deflated(&now), deflated(&base)) > MARGIN);
        }
        agrees(plain, 3_000, by_count);
        agrees(spread, 3_000, by_spread);
    }
}

/// Damage that comes as rare episodes of a second: a share of windows is called isolated, fewer with the guard
/// that looks at each second. Means of 5 and 2 %, windows of 60, 120 and 240 s.
#[test]
#[ignore = "seconds with optimisation, minutes without"]
fn rare_episodes_slip_through_as_measured() {
    for (mean, measured) in [
        (
            0.05,
            [
                (60, 0.127, 0.118),
                (120, 0.054, 0.023),
                (240, 0.015, 0.0008),
            ],
        ),
        (
            0.02,
            [(60, 0.48, 0.46), (120, 0.42, 0.23), (240, 0.40, 0.056)],
        ),
    ] {
        for (length_s, by_interval, with_guard) in measured {
            let mut dice = Dice(5);
            let (mut plain, mut guarded) = (0, 0);
            for _ in 0..3_000 {
                let probes = length_s * USUAL.rate;
                let base = Sample::new(u64::from(dice.bad(probes, 0.001)), u64::from(probes));
                let mut episodes = Bursts::of_noise(1.0, 0.95 / mean, &mut dice);
                let now = seconds(&mut episodes, 0, length_s, &mut dice);
                let isolated = interval::upper(sample(&now), base, ALPHA) < MARGIN;
                plain += usize::from(isolated);
                guarded += usize::from(isolated && now.iter().all(|(bad, n)| 2 * bad < *n));
            }
            print!("{mean} as episodes, {length_s} s: ");
            agrees(plain, 3_000, by_interval);
            agrees(guarded, 3_000, with_guard);
        }
    }
}
