//! Plain lines for people and JSON for machines; a closed pipe never stops a drill.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use scenarios::input::printable;
use serde::Serialize;
use tokio::time::Instant;

use crate::cli::JsonArguments;
use crate::failure::Failure;

/// Longer text of a history is cut.
const TEXT_MOST: usize = 10_000;

/// Whether standard output is for the JSON alone, so that people's lines go to standard error.
static JSON_ON_STDOUT: AtomicBool = AtomicBool::new(false);

/// Said once, before the first line: keeps standard output for `--json -`, and refuses a file that
/// cannot be written before anything is done whose result would then be lost.
pub fn prepare_json(json: &JsonArguments) -> Result<(), Failure> {
    let Some(path) = &json.json else {
        return Ok(());
    };
    if path == Path::new("-") {
        JSON_ON_STDOUT.store(true, Ordering::Relaxed);
        return Ok(());
    }
    let refused = |error| Failure::ResultNotWritable {
        path: path.clone(),
        error,
    };
    // What this look makes it takes away again: on a lab the result is written as another user.
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => std::fs::remove_file(path).map_err(refused),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => OpenOptions::new()
            .append(true)
            .open(path)
            .map(drop)
            .map_err(refused),
        Err(error) => Err(refused(error)),
    }
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

/// Lines that wait for a slow terminal; beyond these a story is cut rather than a drill held up.
const STORY_LINES_MAX: usize = 1024;
/// At the end a terminal that stands still is waited for this long.
const STORY_PATIENCE: Duration = Duration::from_secs(2);

enum StoryLine {
    Line(String),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// The thread that writes the story: a terminal that stands still must never hold up an abort.
fn storyteller() -> &'static SyncSender<StoryLine> {
    static TELLER: OnceLock<SyncSender<StoryLine>> = OnceLock::new();
    TELLER.get_or_init(|| {
        let (sender, lines) = sync_channel(STORY_LINES_MAX);
        std::thread::spawn(move || {
            for line in lines {
                match line {
                    StoryLine::Line(line) => say(&line),
                    StoryLine::Flush(done) => drop(done.send(())),
                }
            }
        });
        sender
    })
}

/// Tells the story of a drill with the time since it began, without ever waiting.
#[derive(Clone, Copy)]
pub struct Story {
    pub origin: Instant,
}

impl Story {
    pub fn tell(&self, line: &str) {
        let line = format!("{:6.1} s  {line}", self.origin.elapsed().as_secs_f64());
        // A full queue is a reader that stands still; all of it is in the history.
        let _ = storyteller().try_send(StoryLine::Line(line));
    }

    /// Waits until the story is told, but not for a reader that stands still.
    pub fn end(&self) {
        let (done, told) = sync_channel(1);
        if storyteller().try_send(StoryLine::Flush(done)).is_ok() {
            let _ = told.recv_timeout(STORY_PATIENCE);
        }
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

/// A refusal is a result too: who reads the JSON learns the reason and the exit code.
pub fn write_failure(arguments: &JsonArguments, failure: &Failure) {
    #[derive(Serialize)]
    struct Refusal {
        error: String,
        exit_code: u8,
    }
    let refusal = Refusal {
        error: failure.to_string(),
        exit_code: failure.exit_code(),
    };
    // It was said on standard error already; a second failure has nothing to add.
    let _ = write_json(arguments, &refusal);
}

/// A history may be anybody's: its text must neither forge a line nor speak to the terminal.
pub fn one_line(text: &str) -> String {
    printable(text, TEXT_MOST)
}

/// Columns padded to their widest cell; the first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let shown =
        |row: &Vec<String>| -> Vec<String> { row.iter().map(|cell| one_line(cell)).collect() };
    let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
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
    for row in &rows {
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
