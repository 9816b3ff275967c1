//! Counters from scrape to scrape: what they grew by, whatever restarts in between.

use std::collections::BTreeMap;

use crate::exposition::Series;

/// What one series grew by since the last scrape that could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    pub labels: Labels,
    pub by: f64,
    /// It went back: its process was started anew, and counted from 0.
    pub restarted: bool,
}

type Labels = BTreeMap<String, String>;
/// The value, and when it was scraped, where that is told.
type Last = (f64, Option<f64>);

/// The last value of every series of one counter.
#[derive(Debug, Default)]
pub struct Counter {
    last: Option<BTreeMap<Labels, Last>>,
}

impl Counter {
    /// Takes a scrape. `None`: nothing to compare with, or nothing has been scraped anew; that is no
    /// evidence, neither of requests nor of silence.
    ///
    /// A counter that is lower than before was started anew, so all that it says now is new. A series
    /// that was not there before counts from 0 too, as the first error does. `seen` says that the scrape
    /// showed the process at all: the first such scrape is the beginning, even of a counter that has no
    /// series yet.
    pub fn take(&mut self, series: Vec<Series>, seen: bool) -> Option<Vec<Growth>> {
        if !seen {
            return None;
        }
        let Some(last) = &mut self.last else {
            let first = series.into_iter().map(|s| (s.labels, (s.value, s.scraped)));
            self.last = Some(first.collect());
            return None;
        };
        let mut growths = Vec::new();
        // One that had series cannot have grown by nothing when it shows none.
        let mut anew = series.is_empty() && last.is_empty();
        for Series {
            labels,
            value,
            scraped,
        } in series
        {
            let (before, when) = last.get(&labels).copied().unwrap_or((0.0, None));
            if scraped.is_some() && scraped == when {
                continue;
            }
            anew = true;
            let restarted = value < before;
            let by = if restarted { value } else { value - before };
            last.insert(labels.clone(), (value, scraped));
            growths.push(Growth {
                labels,
                by,
                restarted,
            });
        }
        anew.then_some(growths)
    }
}

impl Counter {
    /// Whether a series is lower than before.
    pub fn went_back(&self, series: &[Series]) -> bool {
        let before = |one: &Series| self.last.as_ref()?.get(&one.labels).copied();
        series
            .iter()
            .any(|one| before(one).is_some_and(|(value, _)| one.value < value))
    }

    /// Another counter of its process went back, so this one did too, whatever it says.
    pub fn restart(&mut self) {
        let lasts = self.last.iter_mut().flat_map(BTreeMap::values_mut);
        lasts.for_each(|(value, _)| *value = f64::INFINITY);
    }

    /// Its process was started anew: what it counted before is gone, and counts from 0.
    pub fn begin_anew(&mut self) {
        self.last = Some(BTreeMap::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, value: f64, scraped: Option<f64>) -> Series {
        Series {
            labels: BTreeMap::from([("name".to_owned(), name.to_owned())]),
            value,
            scraped,
        }
    }

    fn by(growths: Option<Vec<Growth>>) -> Vec<(f64, bool)> {
        let growths = growths.expect("evidence").into_iter();
        growths
            .map(|growth| (growth.by, growth.restarted))
            .collect()
    }

    #[test]
    fn the_first_error_counts_although_its_counter_had_no_series() {
        let mut bad = Counter::default();
        assert_eq!(
            bad.take(Vec::new(), false),
            None,
            "the process was not seen"
        );
        assert_eq!(bad.take(Vec::new(), true), None, "the beginning");
        assert_eq!(by(bad.take(Vec::new(), true)), []);
        assert_eq!(
            by(bad.take(vec![series("a", 5.0, None)], true)),
            [(5.0, false)]
        );
    }

    #[test]
    fn a_counter_that_vanishes_is_no_evidence_unless_its_process_is_new() {
        let mut bad = Counter::default();
        assert_eq!(bad.take(vec![series("a", 5.0, None)], true), None);
        assert_eq!(
            bad.take(Vec::new(), true),
            None,
            "renamed, or its job is gone"
        );
        assert_eq!(
            by(bad.take(vec![series("a", 7.0, None)], true)),
            [(2.0, false)]
        );
        bad.begin_anew();
        assert_eq!(by(bad.take(Vec::new(), true)), []);
        assert_eq!(
            by(bad.take(vec![series("a", 1.0, None)], true)),
            [(1.0, false)]
        );
    }

    #[test]
    fn counters_grow_and_restart_and_are_born() {
        let mut counter = Counter::default();
        assert_eq!(counter.take(vec![series("a", 100.0, None)], true), None);
        assert_eq!(
            by(counter.take(vec![series("a", 130.0, None)], true)),
            [(30.0, false)]
        );
        // Started anew: 12 since then, never -118.
        assert_eq!(
            by(counter.take(vec![series("a", 12.0, None)], true)),
            [(12.0, true)]
        );
        assert_eq!(
            by(counter.take(vec![series("a", 12.0, None), series("b", 3.0, None)], true)),
            [(0.0, false), (3.0, false)],
            "the first error makes its series"
        );
        // A scrape that shows nothing is no silence, and what was counted meanwhile is not lost.
        assert_eq!(counter.take(Vec::new(), false), None);
        assert_eq!(
            by(counter.take(vec![series("a", 20.0, None)], true)),
            [(8.0, false)]
        );
    }

    #[test]
    fn what_was_not_scraped_anew_is_stale() {
        let mut counter = Counter::default();
        counter.take(
            vec![series("a", 5.0, Some(10.0)), series("b", 5.0, Some(10.0))],
            true,
        );
        let same = || vec![series("a", 5.0, Some(10.0)), series("b", 5.0, Some(10.0))];
        assert_eq!(counter.take(same(), true), None);
        let half = vec![series("a", 5.0, Some(15.0)), series("b", 5.0, Some(10.0))];
        assert_eq!(
            by(counter.take(half, true)),
            [(0.0, false)],
            "a was asked, and had no request"
        );
    }
}
