//! Plain lines for people and JSON for machines; a closed pipe never stops a drill.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use tokio::time::Instant;

use crate::cli::JsonArguments;
use crate::failure::Failure;

/// Whether standard output is for the JSON alone, so that people's lines go to standard error.
static JSON_ON_STDOUT: AtomicBool = AtomicBool::new(false);

/// Said once, before the first line.
pub fn keep_stdout_for_json(json: &JsonArguments) {
    let kept = json.json.as_deref() == Some(Path::new("-"));
    JSON_ON_STDOUT.store(kept, Ordering::Relaxed);
}

/// One line for people. Errors are dropped on purpose: when nobody listens any more the drill must
/// still revert.
pub fn say(line: &str) {
    let _ = if JSON_ON_STDOUT.load(Ordering::Relaxed) {
        writeln!(std::io::stderr(), "{line}")
    } else {
        writeln!(std::io::stdout(), "{line}")
    };
}

/// Where a program that we start writes its lines for people.
pub fn lines_of_child() -> Stdio {
    if JSON_ON_STDOUT.load(Ordering::Relaxed) {
        Stdio::from(std::io::stderr())
    } else {
        Stdio::inherit()
    }
}

/// One message on standard error.
pub fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "cellwall: {message}");
}

/// Tells the story of a drill with the time since it began.
#[derive(Clone, Copy)]
pub struct Story {
    pub origin: Instant,
}

impl Story {
    pub fn tell(&self, line: &str) {
        say(&format!(
            "{:6.1} s  {line}",
            self.origin.elapsed().as_secs_f64()
        ));
    }
}

/// Writes the machine-readable result where `--json` says; nothing if it was not given.
pub fn write_json(arguments: &JsonArguments, result: &impl Serialize) -> Result<(), Failure> {
    let Some(path) = &arguments.json else {
        return Ok(());
    };
    let failed = |error| Failure::ResultNotWritten {
        path: path.clone(),
        error,
    };
    let mut text = serde_json::to_vec_pretty(result).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    if path == Path::new("-") {
        return std::io::stdout().write_all(&text).map_err(failed);
    }
    std::fs::write(path, text).map_err(failed)
}

/// Columns padded to their widest cell; the first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 2]| cells.map(str::to_string).to_vec();
        assert_eq!(
            table(&[row(["a", "b"]), row(["long", "c"])]),
            "a     b\nlong  c\n"
        );
    }
}
