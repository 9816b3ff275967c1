//! The machine that measures, and how busy it is.

use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Others' work below this is not taken for noise.
const CALM: f64 = 1.5;

/// One line: kernel, processors, and the file system that a journal waits for.
pub fn words(dir: &Path) -> String {
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let found = Command::new("findmnt")
        .args(["--noheadings", "--output", "FSTYPE", "--target"])
        .arg(dir)
        .output();
    let file_system = found.map_or_else(|_| Vec::new(), |found| found.stdout);
    format!(
        "Linux {}, {processors} processors, journals on {}",
        kernel.trim(),
        String::from_utf8_lossy(&file_system).trim()
    )
}

/// Load average of the last minute.
pub fn load() -> f64 {
    let text = read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first
        .and_then(|first| first.parse().ok())
        .unwrap_or(f64::NAN)
}

/// Returns when the load average is low, or after `patience`; the table says what it was.
pub fn until_calm(patience: Duration) {
    let begun = Instant::now();
    while load() >= CALM && begun.elapsed() < patience {
        std::thread::sleep(Duration::from_secs(1));
    }
}
