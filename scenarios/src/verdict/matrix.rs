//! Who falls with whom: drills with one target after the other, as one table.

use std::collections::BTreeMap;

use serde::Serialize;

use super::interval::e_bh;
use super::{Class, Outcome, Row, Verdict};
use crate::fleet::Plane;
use crate::history::{Header, Phase, Record, Role};

/// One drill that was asked for, and its history if it was run.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Name of the scenario.
    pub fault: &'a str,
    /// The cloud or cell that is its target.
    pub target: &'a str,
    pub run: Option<Run<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    pub records: &'a [Record],
    pub verdict: &'a Verdict,
}

/// Targets times cells, on each plane and for each fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Matrix {
    /// Error bound of the list of pairs that fell together, over the whole table (e-BH).
    pub alpha: f64,
    pub lines: Vec<Line>,
}

/// One drill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    pub fault: String,
    pub target: String,
    /// Absent: not run, or it never fired; then every entry is unknown.
    pub outcome: Option<Outcome>,
    /// In the order of cells and planes, the same in every line.
    pub entries: Vec<Entry>,
}

/// What one cell showed on one plane in one drill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    pub cell: String,
    pub plane: Plane,
    pub finding: Finding,
    /// What each of its streams showed: D, L, U, E at the end, first alarm, probes; empty where not run.
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Nobody looked: never the same as isolated.
    Unknown,
    /// The drill's target: proved down by at least this fraction, or not.
    Target {
        class: Class,
        at_least: f64,
        recovery: Option<Class>,
    },
    /// Proved to notice less than this fraction, in a drill that may say so (`Verdict::proves_isolation`).
    Isolated { ceiling: f64 },
    /// It fell with the target.
    Degraded {
        at_least: f64,
        /// First alarm, ms after fire; absent: seen at the end only.
        alarm_ms: Option<u64>,
        /// Holds among all pairs of the table, not only for its own drill.
        in_table: bool,
    },
    /// No proof either way; the greatest damage that is not excluded, as a fraction.
    Inconclusive { ceiling: f64 },
}

impl Matrix {
    /// All drills that were asked for, run or not.
    pub fn of(asked: &[Asked<'_>], alpha: f64) -> Self {
        let mut shape: Vec<(String, Plane)> = asked
            .iter()
            .filter_map(|asked| asked.run)
            .flat_map(|run| run.verdict.planes.iter())
            .map(|seen| (seen.cell.clone(), seen.plane))
            .collect();
        shape.sort();
        shape.dedup();
        let mut lines: Vec<Line> = asked.iter().map(|asked| line(asked, &shape)).collect();
        confirm(asked, &mut lines, alpha);
        Self { alpha, lines }
    }

    /// The worst line decides; a table with a hole is no pass.
    pub fn outcome(&self) -> Outcome {
        let outcomes = self.lines.iter().map(|line| line.outcome);
        let outcomes = outcomes.map(|outcome| outcome.unwrap_or(Outcome::Inconclusive));
        outcomes.min().unwrap_or(Outcome::Inconclusive)
    }
}

fn line(asked: &Asked<'_>, shape: &[(String, Plane)]) -> Line {
    let fired = asked.run.filter(|run| fire_ms(run.records).is_some());
    let entry = |(cell, plane): &(String, Plane)| Entry {
        cell: cell.clone(),
        plane: *plane,
        finding: fired.map_or(Finding::Unknown, |run| finding(run, cell, *plane)),
        rows: fired.map_or_else(Vec::new, |run| rows(run, cell, *plane)),
    };
    Line {
        fault: asked.fault.to_owned(),
        target: asked.target.to_owned(),
        outcome: fired.map(|run| run.verdict.outcome),
        entries: shape.iter().map(entry).collect(),
    }
}

fn rows(run: Run<'_>, cell: &str, plane: Plane) -> Vec<Row> {
    let Some(Record::Header(header)) = run.records.first() else {
        return Vec::new();
    };
    let streams = header.streams.iter();
    let own = streams.filter(|s| s.cell.as_deref() == Some(cell) && s.plane == plane);
    let own: Vec<&str> = own.map(|stream| stream.name.as_str()).collect();
    let rows = run.verdict.rows.iter();
    rows.filter(|row| own.contains(&row.stream.as_str()))
        .cloned()
        .collect()
}

fn finding(run: Run<'_>, cell: &str, plane: Plane) -> Finding {
    let planes = &run.verdict.planes;
    let seen = planes
        .iter()
        .find(|seen| seen.cell == cell && seen.plane == plane);
    let Some(seen) = seen else {
        return Finding::Unknown;
    };
    match (seen.role, seen.class) {
        (Role::Target, class) => Finding::Target {
            class,
            at_least: seen.bound,
            recovery: seen.recovery,
        },
        (_, Class::Isolated) if run.verdict.proves_isolation => Finding::Isolated {
            ceiling: seen.bound,
        },
        (_, Class::Degraded) => Finding::Degraded {
            at_least: seen.bound,
            alarm_ms: alarm_ms(run, cell, plane),
            in_table: false,
        },
        _ => Finding::Inconclusive {
            ceiling: seen.bound,
        },
    }
}

fn header(records: &[Record]) -> Option<&Header> {
    match records.first() {
        Some(Record::Header(header)) => Some(header),
        _ => None,
    }
}

fn fire_ms(records: &[Record]) -> Option<u64> {
    records.iter().find_map(|record| match record {
        Record::Phase(mark) if mark.phase == Phase::Fire => Some(mark.at_ms),
        _ => None,
    })
}

/// Names of the streams of a cell on a plane.
fn streams<'a>(records: &'a [Record], cell: &str, plane: Plane) -> Vec<&'a str> {
    let streams = header(records)
        .into_iter()
        .flat_map(|header| &header.streams);
    streams
        .filter(|stream| stream.cell.as_deref() == Some(cell) && stream.plane == plane)
        .map(|stream| stream.name.as_str())
        .collect()
}

fn alarm_ms(run: Run<'_>, cell: &str, plane: Plane) -> Option<u64> {
    let names = streams(run.records, cell, plane);
    let ours = run.verdict.rows.iter();
    let ours = ours.filter(|row| names.contains(&row.stream.as_str()));
    let first = ours.filter_map(|row| row.alarm_ms).min()?;
    Some(first.saturating_sub(fire_ms(run.records)?))
}

/// The mean of the e-values of a pair's streams, which is an e-value again.
fn e_value(run: Run<'_>, cell: &str, plane: Plane) -> Option<f64> {
    let mut by_stream: BTreeMap<&str, f64> = BTreeMap::new();
    let names = streams(run.records, cell, plane);
    for row in &run.verdict.rows {
        if let (true, Some(e)) = (names.contains(&row.stream.as_str()), row.e_value) {
            by_stream.insert(&row.stream, e);
        }
    }
    let count = by_stream.len();
    (count > 0).then(|| by_stream.values().sum::<f64>() / count as f64)
}

/// Of all pairs of the table, which may be listed as fallen together with at most alpha of the list
/// false (Wang and Ramdas 2022): each drill has its own error bound, and there are many drills.
fn confirm(asked: &[Asked<'_>], lines: &mut [Line], alpha: f64) {
    let mut pairs = Vec::new();
    for (number, (asked, line)) in asked.iter().zip(lines.iter()).enumerate() {
        for (index, entry) in line.entries.iter().enumerate() {
            if matches!(entry.finding, Finding::Unknown | Finding::Target { .. }) {
                continue;
            }
            let e = asked
                .run
                .and_then(|run| e_value(run, &entry.cell, entry.plane));
            pairs.push((number, index, e.unwrap_or(0.0)));
        }
    }
    let values: Vec<f64> = pairs.iter().map(|(_, _, e)| *e).collect();
    for pair in e_bh(&values, alpha) {
        let (number, index, _) = pairs[pair];
        if let Finding::Degraded { in_table, .. } = &mut lines[number].entries[index].finding {
            *in_table = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::drill::{RATE, history, sound};
    use super::super::judge;
    use super::*;

    fn of(records: &[Vec<Record>], asked: &[(&str, Option<usize>)]) -> Matrix {
        let verdicts: Vec<Verdict> = records.iter().map(|records| judge(records)).collect();
        let asked: Vec<Asked<'_>> = asked
            .iter()
            .map(|(target, run)| Asked {
                fault: "dark",
                target,
                run: run.map(|run| Run {
                    records: &records[run],
                    verdict: &verdicts[run],
                }),
            })
            .collect();
        Matrix::of(&asked, 0.01)
    }

    fn finding<'a>(line: &'a Line, cell: &str, plane: Plane) -> &'a Finding {
        let entry = |entry: &&Entry| entry.cell == cell && entry.plane == plane;
        &line.entries.iter().find(entry).unwrap().finding
    }

    #[test]
    fn what_was_not_run_is_unknown_and_no_pass() {
        let clean = history(&sound);
        let matrix = of(
            std::slice::from_ref(&clean),
            &[("ali", Some(0)), ("aws", None)],
        );
        let [ran, missing] = &matrix.lines[..] else {
            panic!("{matrix:?}")
        };
        assert_eq!(ran.outcome, Some(Outcome::Pass));
        assert!(
            matches!(finding(ran, "ali", Plane::Data), Finding::Target { at_least, .. } if *at_least > 0.9)
        );
        for cell in ["aws", "tencent"] {
            let seen = finding(ran, cell, Plane::Data);
            assert!(
                matches!(seen, Finding::Isolated { ceiling } if *ceiling < 0.02),
                "{seen:?}"
            );
        }
        assert_eq!(missing.outcome, None);
        assert!(
            missing
                .entries
                .iter()
                .all(|entry| entry.finding == Finding::Unknown)
        );
        assert_eq!(missing.entries.len(), ran.entries.len());
        assert_eq!(matrix.outcome(), Outcome::Inconclusive);
        assert_eq!(of(&[clean], &[("ali", Some(0))]).outcome(), Outcome::Pass);
        assert_eq!(of(&[], &[]).outcome(), Outcome::Inconclusive);
    }

    #[test]
    fn a_cell_that_falls_with_the_target_has_its_time_and_is_in_the_table() {
        let ill = history(&|stream, second| match stream {
            "tencent/checkout" | "tencent/orders" if (5..60).contains(&second) => RATE,
            _ => sound(stream, second),
        });
        let matrix = of(&[ill], &[("ali", Some(0))]);
        let seen = finding(&matrix.lines[0], "tencent", Plane::Data);
        let Finding::Degraded {
            at_least,
            alarm_ms,
            in_table,
        } = seen
        else {
            panic!("{seen:?}")
        };
        assert!(*at_least > 0.02 && *in_table, "{seen:?}");
        assert!(
            alarm_ms.is_some_and(|at| (8_000..12_000).contains(&at)),
            "{seen:?}"
        );
        assert_eq!(matrix.outcome(), Outcome::Fail);
        // Ended early: nobody else is proved isolated.
        let other = finding(&matrix.lines[0], "aws", Plane::Data);
        assert!(matches!(other, Finding::Inconclusive { .. }), "{other:?}");
    }

    /// What a drill may not say of itself it may not say of a cell.
    #[test]
    fn nobody_is_isolated_in_a_drill_that_proves_nothing() {
        use super::super::drill::{alter, header_mut};
        use crate::effects::WritePhase;
        use crate::history::Interrupted;
        let spoilt = |spoil: &dyn Fn(&mut Vec<Record>)| {
            let mut records = history(&sound);
            spoil(&mut records);
            let verdict = judge(&records);
            let rows = verdict.planes.iter();
            let mut rows = rows.filter(|seen| seen.cell == "aws");
            let is_isolated = rows.any(|seen| seen.class == Class::Isolated);
            assert!(is_isolated || verdict.outcome == Outcome::Aborted);
            let matrix = of(&[records], &[("ali", Some(0))]);
            let seen = finding(&matrix.lines[0], "aws", Plane::Data).clone();
            (matrix.outcome(), seen)
        };
        type Spoil<'a> = &'a dyn Fn(&mut Vec<Record>);
        let cases: [(Outcome, Spoil<'_>); 4] = [
            (Outcome::Inconclusive, &|records| {
                alter(records, "control/loopback", 0..60, |b| b.valid -= 2);
            }),
            (Outcome::Inconclusive, &|records| {
                header_mut(records).plan.format = 9;
            }),
            (Outcome::Aborted, &|records| {
                records.push(Record::Interrupted(Interrupted {
                    at_ms: 1_000_000,
                    why: "Ctrl-C".into(),
                }));
            }),
            (Outcome::Ineffective, &|records| {
                for stream in ["ali/checkout", "ali/orders"] {
                    alter(records, stream, 0..60, |b| {
                        (b.bad, b.timeouts) = (0, 0);
                        b.latency_us = vec![(1, RATE)];
                    });
                }
            }),
        ];
        for (outcome, spoil) in cases {
            let (ended, seen) = spoilt(spoil);
            assert_eq!(ended, outcome);
            assert!(matches!(seen, Finding::Inconclusive { .. }), "{seen:?}");
        }
        // What befell another one takes nothing from it.
        let (ended, seen) = spoilt(&|records| {
            for record in records {
                if let Record::Ledger(ledger) = record
                    && ledger.cell == "tencent"
                {
                    ledger.lost = 1;
                    let during = ledger.phases.get_mut(&WritePhase::During);
                    during.unwrap().lost = 1;
                }
            }
        });
        assert_eq!(ended, Outcome::Fail);
        assert!(matches!(seen, Finding::Isolated { .. }), "{seen:?}");
    }

    #[test]
    fn a_drill_that_never_fired_has_shown_nothing() {
        let mut records = history(&sound);
        records
            .retain(|record| !matches!(record, Record::Phase(mark) if mark.phase == Phase::Fire));
        let clean = history(&sound);
        let matrix = of(&[records, clean], &[("ali", Some(0)), ("aws", Some(1))]);
        assert_eq!(matrix.lines[0].outcome, None);
        assert_eq!(
            *finding(&matrix.lines[0], "aws", Plane::Data),
            Finding::Unknown
        );
    }
}
