//! A figure: what was measured, against what is wanted, as a row of a table.

use std::fmt;

pub const HEAD: &str = "\
| figure | wanted | median | p99 | max | met | runs | load before, after |
|---|---|---|---|---|---|---|---|";
pub const FOOT: &str = "p99 is the nearest rank, so below 100 runs the largest. Met: p99 is within what is \
wanted; median: only the median is.";

#[derive(Clone, Copy)]
pub enum Unit {
    Millis,
    Mebibytes,
    /// So many times something else.
    Times,
}

pub struct Figure {
    what: String,
    unit: Unit,
    /// None: told for comparison.
    wanted: Option<f64>,
    /// In rising order.
    values: Vec<f64>,
}

impl Figure {
    pub fn new(what: &str, unit: Unit, wanted: Option<f64>, mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "{what}: nothing was measured");
        values.sort_by(f64::total_cmp);
        Self {
            what: what.to_owned(),
            unit,
            wanted,
            values,
        }
    }

    pub fn row(&self, before: f64, after: f64) -> String {
        let (median, p99) = (self.median(), self.nearest_rank(99));
        let max = self.nearest_rank(100);
        let (wanted, met) = match self.wanted {
            None => ("-".to_owned(), "-"),
            Some(limit) => {
                let met = match (p99 <= limit, median <= limit) {
                    (true, _) => "yes",
                    (false, true) => "median",
                    (false, false) => "NO",
                };
                (format!("≤ {}", self.unit.of(limit)), met)
            }
        };
        format!(
            "| {} | {wanted} | {} | {} | {} | {met} | {} | {before:.1}, {after:.1} |",
            self.what,
            self.unit.of(median),
            self.unit.of(p99),
            self.unit.of(max),
            self.values.len(),
        )
    }

    fn median(&self) -> f64 {
        let middle = self.values.len() / 2;
        match self.values.len() % 2 {
            0 => f64::midpoint(self.values[middle - 1], self.values[middle]),
            _ => self.values[middle],
        }
    }

    /// The least value that so many percent of all do not exceed.
    fn nearest_rank(&self, percent: usize) -> f64 {
        let rank = (self.values.len() * percent).div_ceil(100);
        self.values[rank.max(1) - 1]
    }
}

impl Unit {
    fn of(self, value: f64) -> Shown {
        Shown(self, value)
    }
}

/// A value with its unit, to three digits or so.
struct Shown(Unit, f64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(unit, value) = *self;
        match unit {
            Unit::Millis if value.abs() < 10.0 => write!(f, "{value:.2} ms"),
            Unit::Millis => write!(f, "{value:.0} ms"),
            Unit::Mebibytes => write!(f, "{value:.1} MiB"),
            Unit::Times => write!(f, "{value:.2} x"),
        }
    }
}
