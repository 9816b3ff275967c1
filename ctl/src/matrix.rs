//! The fate-sharing matrix as people see it: text for a terminal, a heat map for a page.

mod svg;
mod text;

pub use svg::svg;
pub use text::text;

use scenarios::fleet::Plane;
use scenarios::verdict::matrix::{Entry, Finding, Line, Matrix};

/// The planes that any cell was seen on.
fn planes(matrix: &Matrix) -> Vec<Plane> {
    let entries = matrix.lines.iter().flat_map(|line| &line.entries);
    let mut planes: Vec<Plane> = entries.map(|entry| entry.plane).collect();
    planes.sort();
    planes.dedup();
    planes
}

/// The scenarios, in the order in which they were asked for.
fn faults(matrix: &Matrix) -> Vec<&str> {
    let mut faults: Vec<&str> = Vec::new();
    for line in &matrix.lines {
        if !faults.contains(&line.fault.as_str()) {
            faults.push(&line.fault);
        }
    }
    faults
}

fn lines<'a>(matrix: &'a Matrix, fault: &str) -> Vec<&'a Line> {
    matrix
        .lines
        .iter()
        .filter(|line| line.fault == fault)
        .collect()
}

/// The cells of a plane, the same in every line.
fn cells<'a>(lines: &[&'a Line], plane: Plane) -> Vec<&'a str> {
    let first = lines.first().map(|line| line.entries.as_slice());
    let entries = first.unwrap_or_default().iter();
    entries
        .filter(|entry| entry.plane == plane)
        .map(|entry| entry.cell.as_str())
        .collect()
}

fn entry<'a>(line: &'a Line, cell: &str, plane: Plane) -> Option<&'a Entry> {
    let mut entries = line.entries.iter();
    entries.find(|entry| entry.cell == cell && entry.plane == plane)
}

fn percent(fraction: f64) -> String {
    format!("{:.2} %", fraction * 100.0)
}

/// How a drill ended, in a word.
fn outcome(line: &Line) -> &'static str {
    line.outcome
        .map_or("not run", crate::drill::report::outcome_word)
}

/// A finding in a few words.
fn words(finding: &Finding) -> String {
    match finding {
        Finding::Unknown => "unknown".to_owned(),
        Finding::Target {
            class,
            at_least,
            recovery,
        } => {
            let word = crate::drill::report::class_word(*class);
            let back = recovery.map(crate::drill::report::class_word);
            let back = back.map_or_else(String::new, |word| format!(", {word}"));
            format!("{word}, L > {}{back}", percent(*at_least))
        }
        Finding::Isolated { ceiling } => format!("isolated, U < {}", percent(*ceiling)),
        Finding::Degraded {
            at_least,
            alarm_ms,
            in_table,
        } => {
            let when = alarm_ms.map_or_else(
                || "at the end".to_owned(),
                |ms| format!("at {:.0} s", ms as f64 / 1_000.0),
            );
            let alone = if *in_table {
                ""
            } else {
                ", in its own drill only"
            };
            format!("DEGRADED {when}, L > {}{alone}", percent(*at_least))
        }
        Finding::Inconclusive { ceiling } => format!("inconclusive, U < {}", percent(*ceiling)),
    }
}

#[cfg(test)]
mod tests {
    use scenarios::verdict::{Class, Outcome};

    use super::*;

    pub(super) fn example() -> Matrix {
        let entry = |cell: &str, finding| Entry {
            cell: cell.into(),
            plane: Plane::Data,
            finding,
            rows: Vec::new(),
        };
        let target = Finding::Target {
            class: Class::Effective,
            at_least: 0.98,
            recovery: Some(Class::Recovered),
        };
        let fallen = Finding::Degraded {
            at_least: 0.5,
            alarm_ms: Some(4_000),
            in_table: true,
        };
        let isolated = Finding::Isolated { ceiling: 0.0038 };
        let line = |target: &str, outcome, entries| Line {
            fault: "black-hole-cloud".into(),
            target: target.into(),
            outcome,
            entries,
        };
        Matrix {
            alpha: 0.01,
            lines: vec![
                line(
                    "aliyun",
                    Some(Outcome::Fail),
                    vec![
                        entry("a", target),
                        entry("b <&>", fallen),
                        entry("c", isolated),
                    ],
                ),
                line(
                    "aws",
                    None,
                    ["a", "b <&>", "c"]
                        .map(|cell| entry(cell, Finding::Unknown))
                        .to_vec(),
                ),
            ],
        }
    }

    #[test]
    fn every_finding_has_its_words() {
        let all = example();
        let told: Vec<String> = all.lines[0]
            .entries
            .iter()
            .map(|entry| words(&entry.finding))
            .collect();
        assert_eq!(
            told,
            [
                "degraded (target), L > 98.00 %, recovered",
                "DEGRADED at 4 s, L > 50.00 %",
                "isolated, U < 0.38 %"
            ]
        );
        let late = Finding::Degraded {
            at_least: 0.03,
            alarm_ms: None,
            in_table: false,
        };
        assert_eq!(
            words(&late),
            "DEGRADED at the end, L > 3.00 %, in its own drill only"
        );
        assert_eq!(
            words(&Finding::Inconclusive { ceiling: 1.0 }),
            "inconclusive, U < 100.00 %"
        );
    }
}
