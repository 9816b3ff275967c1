//! The gambler of the online abort: a block-betting e-process with a Shiryaev-Roberts mixture.
//!
//! E is the fortune of a gambler who starts with 1, spreads the stake evenly over T possible start
//! times, and bets that the stream errs more often than `p0`. If the stream is fine, the fortune
//! ever reaches c with probability at most 1/c, however often one looks (verdict.md section 3).

use super::interval::Sample;
use crate::history::{Counts, Stream};

/// q_k = p0 ^ EXPONENTS[k], equal weights.
const EXPONENTS: [f64; 5] = [0.8, 0.6, 0.4, 0.2, 0.05];
const CAP: f64 = 1e300;
/// Beyond this bad rate (baseline bound plus margin) the abort would be too slow.
pub const P0_MAX: f64 = 0.10;
/// A limit that the baseline itself has set is passed now and then by a healthy stream, and no illness:
/// there only the abort must stay quick enough to be of use (all bad: nine blocks).
const OWN_LIMIT_P0_MAX: f64 = 0.35;

/// Whether good and bad of a stream are told apart by a limit from its own baseline.
pub fn has_own_limit(stream: &Stream) -> bool {
    matches!(
        stream.basis.counts,
        Counts::Slow { .. } | Counts::Gauge { limit: None }
    )
}

/// The most that the baseline of a stream and its margin together may allow.
pub fn p0_max(stream: &Stream) -> f64 {
    match has_own_limit(stream) {
        true => OWN_LIMIT_P0_MAX,
        false => P0_MAX,
    }
}

/// State of one stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Bet {
    p0: f64,
    q: [f64; 5],
    s: [f64; 5],
    blocks: u32,
    planned: u32,
    threshold: f64,
}

impl Bet {
    /// A stream that must not notice, one of `others`; `planned` blocks from fire to the end.
    pub fn on_other(base: Sample, others: usize, alpha: f64, margin: f64, planned: u32) -> Bet {
        let upper = base.upper(Bet::baseline_level(others, alpha));
        Bet::above(upper, others, alpha, margin, planned)
    }

    /// The same with another upper limit of the baseline's bad rate than the one for independent probes.
    pub fn above(upper: f64, others: usize, alpha: f64, margin: f64, planned: u32) -> Bet {
        let threshold = others.max(1) as f64 / (0.9 * alpha);
        Bet::new(upper + margin, planned, threshold)
    }

    /// The level of the baseline's limit: a tenth of alpha, over all streams.
    pub fn baseline_level(others: usize, alpha: f64) -> f64 {
        0.1 * alpha / others.max(1) as f64
    }

    /// A control stream: judged first, so at the lower threshold 1/alpha.
    pub fn on_control(base: Sample, alpha: f64, margin: f64, planned: u32) -> Bet {
        Bet::new(base.upper(0.1 * alpha) + margin, planned, 1.0 / alpha)
    }

    fn new(p0: f64, planned: u32, threshold: f64) -> Bet {
        let p0 = p0.clamp(1e-9, 1.0 - 1e-9);
        let q = EXPONENTS.map(|exponent| p0.powf(exponent));
        Bet {
            p0,
            q,
            s: [0.0; 5],
            blocks: 0,
            planned: planned.max(1),
            threshold,
        }
    }

    /// The bad rate that the baseline and the margin together allow.
    pub fn p0(&self) -> f64 {
        self.p0
    }

    /// One more block with bad share `y`; returns the new E.
    pub fn block(&mut self, y: f64) -> f64 {
        let y = if y.is_nan() { 1.0 } else { y.clamp(0.0, 1.0) };
        let stake = if self.blocks < self.planned {
            1.0 / f64::from(self.planned)
        } else {
            0.0
        };
        for (s, q) in self.s.iter_mut().zip(self.q) {
            let factor = y * q / self.p0 + (1.0 - y) * (1.0 - q) / (1.0 - self.p0);
            *s = ((*s + stake) * factor).min(CAP);
        }
        self.blocks = self.blocks.saturating_add(1);
        self.e_value()
    }

    /// E now; 1 before the first block.
    pub fn e_value(&self) -> f64 {
        let planned = f64::from(self.planned);
        let unspent = f64::from(self.planned.saturating_sub(self.blocks)) / planned;
        self.s.iter().sum::<f64>() / self.s.len() as f64 + unspent
    }

    pub fn is_over(&self) -> bool {
        self.e_value() >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64, tolerance: f64) {
        assert!(
            (got - want).abs() <= tolerance * want.abs().max(1.0),
            "got {got}, want {want}"
        );
    }

    fn first_line() -> Bet {
        Bet::on_other(Sample::new(0, 1200), 9, 0.01, 0.02, 60)
    }

    #[test]
    fn set_up_vectors() {
        for (x, n, m, p0, threshold, q) in [
            (
                0,
                1200,
                9,
                0.027559,
                1000.0,
                [0.056521, 0.115919, 0.237741, 0.487587, 0.835628],
            ),
            (
                6,
                1200,
                9,
                0.037511,
                1000.0,
                [0.072331, 0.139474, 0.268944, 0.518598, 0.848609],
            ),
            (
                1,
                600,
                3,
                0.037270,
                333.3333,
                [0.071959, 0.138936, 0.268253, 0.517931, 0.848336],
            ),
            (
                0,
                2400,
                4,
                0.023450,
                444.4444,
                [0.049672, 0.105217, 0.222872, 0.472094, 0.828909],
            ),
        ] {
            let bet = Bet::on_other(Sample::new(x, n), m, 0.01, 0.02, 60);
            near(bet.p0, p0, 0.6e-6);
            near(bet.threshold, threshold, 1e-6);
            for (got, want) in bet.q.into_iter().zip(q) {
                near(got, want, 0.6e-6);
            }
        }
        assert_eq!(
            Bet::on_control(Sample::new(0, 1200), 0.01, 0.02, 60).threshold,
            100.0
        );
    }

    #[test]
    fn factor_vectors() {
        for (y, factors) in [
            (1.0, [2.0509, 4.2063, 8.6267, 17.6926, 30.3217]),
            (0.0, [0.970217, 0.909135, 0.783861, 0.526935, 0.169030]),
            (0.1, [1.078287, 1.238848, 1.568144, 2.243503, 3.184294]),
        ] {
            let mut bet = first_line();
            bet.block(y);
            for (s, want) in bet.s.into_iter().zip(factors) {
                near(s * 60.0, want, 0.6e-4);
            }
        }
    }

    fn path(ys: &[f64]) -> (Vec<f64>, Option<usize>) {
        let mut bet = first_line();
        let es: Vec<f64> = ys.iter().map(|y| bet.block(*y)).collect();
        let alarm = es.iter().position(|e| *e >= bet.threshold).map(|at| at + 1);
        (es, alarm)
    }

    #[test]
    fn path_vectors() {
        let good_then_bad = [[0.0; 10].as_slice(), &[1.0; 5]].concat();
        let cases: [(&[f64], &[f64], Option<usize>); 6] = [
            (
                &[0.0; 5],
                &[0.994531, 0.986826, 0.977817, 0.967900, 0.957291],
                None,
            ),
            (
                &[1.0; 5],
                &[1.19299, 5.6055, 119.393, 3283.24, 94662.5],
                Some(4),
            ),
            (
                &good_then_bad,
                &[0.897568, 1.3519, 8.52506, 167.508, 4287.45, 119023.0],
                Some(14),
            ),
            (
                &[0.5; 6],
                &[1.09376, 2.23167, 16.9606, 221.759, 3184.1, 46977.1],
                Some(5),
            ),
            (
                &[0.1; 11],
                &[
                    1.01438, 1.06548, 1.21745, 1.66046, 2.97074, 6.92101, 19.0218, 56.5268,
                    173.732, 542.1, 1704.45,
                ],
                Some(11),
            ),
            (
                &[0.0, 0.05, 0.0, 1.0, 1.0, 0.0, 0.0, 0.1],
                &[
                    0.994531, 1.0008, 0.984238, 1.4191, 9.60862, 4.15319, 2.61341, 4.26053,
                ],
                None,
            ),
        ];
        for (ys, tail, alarm) in cases {
            let (es, at) = path(ys);
            assert_eq!(at, alarm, "{ys:?}");
            for (got, want) in es[es.len() - tail.len()..].iter().zip(tail) {
                near(*got, *want, 1e-5);
            }
        }
    }

    #[test]
    fn fortune_is_bounded() {
        let mut bet = first_line();
        for _ in 0..5000 {
            bet.block(1.0);
        }
        assert!(bet.e_value().is_finite() && bet.is_over());
    }
}
