//! How long the verdict of an hour of 100 cells takes, from its file on, and how much memory.
//!
//! `make bench-verdict` runs it. It writes a history of 400 streams and 3,600 seconds into a temporary
//! file, judges it as `cellwall verdict` does, and prints medians. Nothing is asserted about time.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use scenarios::history;
use scenarios::verdict::{Outcome, judge};
use serde_json::{Value, json};

const RUNS: usize = 11;
const CELLS: u64 = 100;
const PROBES: [&str; 4] = ["home", "checkout", "orders", "api-list"];
const RATE: u64 = 20;
/// Seconds of the drill at which it begins to count, fires, has reverted, and ends.
const BEGIN: u64 = 1;
const FIRE: u64 = 1201;
const REVERTED: u64 = 2401;
const END: u64 = 3601;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("history.jsonl");
    write(&path)?;
    let megabytes = std::fs::metadata(&path)?.len() / 1_000_000;
    let (mut reading, mut judging) = (Vec::new(), Vec::new());
    let mut blocks = 0;
    for _ in 0..RUNS {
        let begun = Instant::now();
        let history = history::read(File::open(&path)?, "history.jsonl")?;
        let read = Instant::now();
        let verdict = judge(&history.records);
        judging.push(read.elapsed());
        reading.push(read - begun);
        blocks = history.records.len();
        if verdict.outcome != Outcome::Pass {
            return Err(format!("no pass: {:?}", verdict.reasons).into());
        }
    }
    let whole = reading.iter().zip(&judging).map(|(a, b)| *a + *b).collect();
    println!("{blocks} records, {megabytes} MB, {RUNS} runs, median (slowest)");
    tell("read", reading);
    tell("judge", judging);
    tell("whole", whole);
    println!("memory at most {} MiB", peak_mebibytes()?);
    Ok(())
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let seconds = |time: Duration| time.as_secs_f64();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{what:>6} {:.2} s ({:.2} s)",
        seconds(median),
        seconds(slowest)
    );
}

/// The greatest resident set of this process (`VmHWM` of proc_pid_status(5)).
fn peak_mebibytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kibibytes.ok_or("no VmHWM")?.parse::<u64>()? / 1024)
}

/// The first cell is the target and falls; all others never notice.
fn write(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut file = BufWriter::new(File::create(path)?);
    let streams: Vec<Value> = (0..CELLS)
        .flat_map(|cell| PROBES.map(|probe| stream(cell, probe)))
        .chain([control()])
        .collect();
    let mut put = |record: Value| writeln!(file, "{record}");
    put(json!({ "header": header(&streams) }))?;
    put(json!({ "phase": { "phase": "before", "at_ms": BEGIN * 1000 } }))?;
    for second in BEGIN..END {
        let agent = |at_ms: u64, state: &str| json!({ "agent": { "at_ms": at_ms, "cell": "cell-0", "node": "n1", "state": state } });
        if second == FIRE {
            put(agent(FIRE * 1000 - 500, "armed"))?;
            put(json!({ "phase": { "phase": "fire", "at_ms": FIRE * 1000 } }))?;
            put(agent(FIRE * 1000 - 100, "firing"))?;
        }
        if second == REVERTED {
            put(agent(REVERTED * 1000 + 20, "reverted"))?;
            put(json!({ "phase": { "phase": "reverted", "at_ms": REVERTED * 1000 + 30 } }))?;
        }
        for stream in &streams {
            put(block(stream, second))?;
        }
    }
    put(json!({ "phase": { "phase": "end", "at_ms": END * 1000 } }))?;
    put(json!({ "residue": { "cell": "cell-0", "node": "n1", "verified": true, "left": [] } }))?;
    Ok(file.flush()?)
}

fn header(streams: &[Value]) -> Value {
    let fault_ms = (REVERTED - FIRE) * 1000;
    let step = json!({
        "id": 0, "at_ms": 0, "duration_ms": fault_ms, "side": "target", "title": "net.blackhole",
        "cells": { "cell-0": { "nodes": ["n1"], "changes": [] } },
    });
    json!({
        "format": 3, "drill": "bench", "cellwall": "0.1.0", "started": "2026-01-01T00:00:00Z",
        "fleet": "", "agents": { "cell-0/n1": "0.1.0" },
        "plan": {
            "format": 1, "fleet": "hundred", "scenario": "black-hole-cloud",
            "target": { "cloud": "aliyun", "cells": ["cell-0"], "prefixes": [] },
            "operator": [], "lease_ms": 5000, "steps": [step], "endpoints": [],
        },
        "streams": streams,
        "judgement": {
            "alpha": 0.01, "margin": 0.02, "effective_min": 0.1, "degraded": PROBES,
            "block_ms": 1000, "planned_blocks": (END - FIRE) + 12, "guard_ms": 800,
            "recovery_within_ms": 20_000, "after_ms": (END - REVERTED - 30) * 1000, "lost_max": null,
        },
    })
}

fn stream(cell: u64, probe: &str) -> Value {
    let role = if cell == 0 { "target" } else { "other" };
    json!({
        "name": format!("cell-{cell}/{probe}"), "role": role, "plane": "data",
        "cell": format!("cell-{cell}"), "probe": probe,
        "rate": RATE, "slo_ms": 500, "timeout_ms": 1000,
    })
}

fn control() -> Value {
    json!({
        "name": "control/loopback", "role": "control", "plane": "data", "cell": null,
        "probe": "loopback", "rate": RATE, "slo_ms": 500, "timeout_ms": 1000,
    })
}

/// Eight different latencies, as healthy servers have.
fn block(stream: &Value, second: u64) -> Value {
    let fallen = stream["role"] == "target" && (FIRE..REVERTED).contains(&second);
    let bad = if fallen { RATE } else { 0 };
    let latencies: Vec<[u64; 2]> = match fallen {
        true => Vec::new(),
        false => (0..8)
            .map(|at| [800 + at * 130 + second % 90, if at < 4 { 3 } else { 2 }])
            .collect(),
    };
    json!({ "block": {
        "stream": stream["name"], "start_ms": second * 1000, "scheduled": RATE, "valid": RATE,
        "bad": bad, "timeouts": bad, "resets": 0, "errors": 0, "slow": 0, "latency_us": latencies,
    } })
}
