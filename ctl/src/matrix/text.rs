//! The matrix for a terminal: a table for each fault and plane.

use scenarios::verdict::matrix::Matrix;

use super::{cells, entry, faults, lines, outcome, planes, words};
use crate::output::table;

/// A row for each target, a column for each cell.
pub fn text(matrix: &Matrix) -> String {
    let mut text = String::new();
    for fault in faults(matrix) {
        let drills = lines(matrix, fault);
        if planes(matrix).is_empty() {
            text.push_str(&format!("{fault}: nothing was run\n\n"));
        }
        for plane in planes(matrix) {
            let cells = cells(&drills, plane);
            let mut rows = vec![vec![format!("{fault}, {}", plane.word())]];
            rows[0].extend(cells.iter().map(|cell| (*cell).to_owned()));
            rows[0].push("drill".to_owned());
            for line in &drills {
                let mut row = vec![line.target.clone()];
                row.extend(cells.iter().map(|cell| {
                    let entry = entry(line, cell, plane);
                    entry.map_or_else(|| "-".to_owned(), |entry| words(&entry.finding))
                }));
                row.push(outcome(line).to_owned());
                rows.push(row);
            }
            text.push_str(&table(&rows));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_rows_and_cells_are_columns() {
        let text = text(&super::super::tests::example());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("black-hole-cloud, data  a "), "{text}");
        assert!(
            lines[1].starts_with("aliyun ") && lines[1].ends_with("FAIL"),
            "{text}"
        );
        assert!(
            lines[2].starts_with("aws ") && lines[2].ends_with("not run"),
            "{text}"
        );
        assert_eq!(lines[2].matches("unknown").count(), 3);
        let none = Matrix {
            alpha: 0.01,
            lines: Vec::new(),
        };
        assert_eq!(super::text(&none), "");
    }
}
