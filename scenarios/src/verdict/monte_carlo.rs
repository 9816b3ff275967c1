//! Seeded simulations that reproduce what was measured for the method before it was built
//! (`docs/statistics.md`), and what they share: dice, noise in bursts, one watched fleet.
//!
//! A measured share of 3,000 runs and ours of as many differ by chance alone; five standard deviations of
//! that difference are allowed, one false alarm in two million.

mod abort;
mod basis;
mod drills;
mod end;

use super::bet::Bet;
use super::interval::Sample;

/// Runs behind each measured share, unless a test says otherwise.
const MEASURED_RUNS: f64 = 3_000.0;
const ALPHA: f64 = 0.01;
const MARGIN: f64 = 0.02;
const OTHERS: usize = 9;
const BASELINE_S: u32 = 60;
const FAULT_S: u32 = 120;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// How many of `n` probes are bad.
    fn bad(&mut self, n: u32, p: f64) -> u32 {
        (0..n).filter(|_| self.unit() < p).count() as u32
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

/// Errors that come in bursts: `usual` of probes are bad, and `within` of them in a burst.
struct Bursts {
    length_s: f64,
    every_s: f64,
    usual: f64,
    within: f64,
    /// Until when it burns, and when it next will.
    until: f64,
    next: f64,
}

impl Bursts {
    /// Sound but for outages of 95 % that come by themselves.
    fn of_noise(length_s: f64, every_s: f64, dice: &mut Dice) -> Self {
        Self {
            length_s,
            every_s,
            usual: 0.001,
            within: 0.95,
            until: 0.0,
            next: dice.exponential(every_s),
        }
    }

    /// Bad ones of `probes` that are sent evenly over `length_s` from `start_s` on.
    fn bad(&mut self, start_s: f64, length_s: f64, probes: u32, dice: &mut Dice) -> u32 {
        let mut bad = 0;
        for probe in 0..probes {
            let now = start_s + length_s * f64::from(probe) / f64::from(probes);
            if now >= self.next {
                self.until = self.next + dice.exponential(self.length_s);
                self.next = self.until + dice.exponential(self.every_s);
            }
            let p = if now < self.until {
                self.within
            } else {
                self.usual
            };
            bad += dice.bad(1, p);
        }
        bad
    }
}

/// A fleet as the online abort sees it.
#[derive(Clone, Copy)]
struct Fleet {
    others: usize,
    /// Probes a second of each stream.
    rate: u32,
    block_s: f64,
}

const USUAL: Fleet = Fleet {
    others: OTHERS,
    rate: 20,
    block_s: 1.0,
};

impl Fleet {
    fn blocks(&self) -> u32 {
        (f64::from(FAULT_S) / self.block_s) as u32
    }

    fn probes_of_block(&self) -> u32 {
        (f64::from(self.rate) * self.block_s) as u32
    }

    fn baseline(&self, dice: &mut Dice, p: f64) -> Sample {
        let probes = BASELINE_S * self.rate;
        Sample::new(u64::from(dice.bad(probes, p)), u64::from(probes))
    }

    fn bet(&self, base: Sample) -> Bet {
        Bet::on_other(base, self.others, ALPHA, MARGIN, self.blocks())
    }

    /// The block of the first alarm, counted from 1, of a stream with so many bad probes in each block.
    fn alarm(&self, base: Sample, mut bad: impl FnMut(u32) -> u32) -> Option<u32> {
        let mut bet = self.bet(base);
        (1..=self.blocks()).find(|block| {
            bet.block(f64::from(bad(*block)) / f64::from(self.probes_of_block()));
            bet.is_over()
        })
    }

    /// In how many of `runs` any of the sound cells alarms.
    fn false_aborts(&self, runs: usize, mut alarms: impl FnMut(&mut Dice) -> bool) -> usize {
        let mut dice = Dice(1);
        (0..runs)
            .filter(|_| (0..self.others).fold(false, |any, _| alarms(&mut dice) | any))
            .count()
    }
}

/// A share of `runs` is the measured one but for chance.
fn agrees(seen: usize, runs: usize, measured: f64) {
    let share = seen as f64 / runs as f64;
    let pooled = ((share + measured) / 2.0).clamp(1.0 / MEASURED_RUNS, 1.0 - 1.0 / MEASURED_RUNS);
    let variance = pooled * (1.0 - pooled);
    let deviation = (variance / runs as f64 + variance / MEASURED_RUNS).sqrt();
    println!(
        "{:.2} % of {runs}, measured {:.2} %",
        share * 100.0,
        measured * 100.0
    );
    assert!(
        (share - measured).abs() < 5.0 * deviation,
        "{share} is not {measured}"
    );
}
