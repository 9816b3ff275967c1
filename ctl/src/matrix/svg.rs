//! The matrix as a heat map (SVG 1.1), readable without colours too: each field bears its words.

use std::fmt::Write;

use scenarios::fleet::Plane;
use scenarios::verdict::Class;
use scenarios::verdict::matrix::{Finding, Line, Matrix};

use super::{cells, entry, faults, lines, outcome, planes, words};

/// Pixels.
const FIELD: (usize, usize) = (170, 44);
const NAMES: usize = 150;
const HEAD: usize = 58;
const GAP: usize = 18;

/// A block for each fault and plane, below each other.
pub fn svg(matrix: &Matrix) -> String {
    let mut body = String::new();
    let (mut y, mut widest) = (GAP, 0);
    for fault in faults(matrix) {
        let drills = lines(matrix, fault);
        for plane in planes(matrix) {
            let cells = cells(&drills, plane);
            widest = widest.max(cells.len());
            block(&mut body, (fault, plane), &drills, &cells, y);
            y += HEAD + drills.len() * FIELD.1 + GAP;
        }
    }
    let width = NAMES + widest * FIELD.0 + 2 * GAP;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{y}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn block(
    body: &mut String,
    (fault, plane): (&str, Plane),
    drills: &[&Line],
    cells: &[&str],
    y: usize,
) {
    let title = format!(
        "{fault}, {} plane: target (row), cell (column)",
        plane.word()
    );
    label(body, (GAP, y + 14), "bold", &title);
    for (column, cell) in cells.iter().enumerate() {
        let x = GAP + NAMES + column * FIELD.0 + 6;
        label(body, (x, y + HEAD - 10), "normal", cell);
    }
    for (row, line) in drills.iter().enumerate() {
        let top = y + HEAD + row * FIELD.1;
        label(body, (GAP, top + 17), "normal", &line.target);
        label(body, (GAP, top + 33), "bold", outcome(line));
        for (column, cell) in cells.iter().enumerate() {
            let Some(entry) = entry(line, cell, plane) else {
                continue;
            };
            let x = GAP + NAMES + column * FIELD.0;
            let told = words(&entry.finding);
            let (width, height) = (FIELD.0 - 2, FIELD.1 - 2);
            let fill = colour(&entry.finding);
            let _ = writeln!(
                body,
                "<g><title>{}</title><rect x=\"{x}\" y=\"{top}\" width=\"{width}\" \
                 height=\"{height}\" fill=\"{fill}\" stroke=\"#555555\"/>",
                escaped(&format!("{} on {cell}: {told}", line.target))
            );
            let (first, rest) = told.split_once(", ").unwrap_or((&told, ""));
            label(body, (x + 6, top + 17), "normal", first);
            label(body, (x + 6, top + 33), "normal", rest);
            body.push_str("</g>\n");
        }
    }
}

fn label(body: &mut String, (x, y): (usize, usize), weight: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        body,
        "<text x=\"{x}\" y=\"{y}\" font-weight=\"{weight}\">{text}</text>"
    );
}

/// Pale enough for black words on it.
fn colour(finding: &Finding) -> &'static str {
    match finding {
        Finding::Unknown => "#e0e0e0",
        Finding::Target {
            class: Class::Effective,
            ..
        } => "#9db8d9",
        Finding::Target { .. } => "#f2d58a",
        Finding::Isolated { .. } => "#b7dfb0",
        Finding::Degraded { .. } => "#f0a099",
        Finding::Inconclusive { .. } => "#f2e3ad",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_drawn_with_its_words_and_nothing_breaks_the_markup() {
        let drawn = svg(&super::super::tests::example());
        assert_eq!(drawn.matches("<g>").count(), 6);
        assert_eq!(drawn.matches("<rect").count(), 7);
        assert!(
            drawn.contains("b &lt;&amp;&gt;") && !drawn.contains("b <&>"),
            "{drawn}"
        );
        for colour in ["#e0e0e0", "#9db8d9", "#b7dfb0", "#f0a099"] {
            assert!(drawn.contains(colour), "{colour}");
        }
        assert!(drawn.contains("DEGRADED at 4 s"));
        assert!(drawn.contains(">FAIL</text>") && drawn.contains(">not run</text>"));
        assert_eq!(drawn.matches('<').count(), drawn.matches('>').count());
    }
}
