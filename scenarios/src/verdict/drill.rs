//! A whole healthy drill as a history, for tests to spoil.

use std::collections::BTreeMap;

use super::{Class, Outcome, Verdict, Window, judge};
use crate::effects::{Effects, WriteCounts, WritePhase};
use crate::fleet::Plane;
use crate::history::*;
use crate::plan::{CellStep, EndpointCut, PLAN_FORMAT, Plan, PlanTarget, Step};
use crate::scenario::Side;

pub const RATE: u32 = 20;
pub const BEFORE: u64 = 60;
pub const FAULT: u64 = 60;
pub const AFTER: u64 = 60;
/// What a good probe takes.
pub const USUAL_US: u64 = 5_000;
/// Drill seconds of fire, of the fault's end, and of the end of the watch.
pub const FIRE: u64 = 5 + BEFORE;
pub const FAULT_END: u64 = FIRE + FAULT;
pub const END: u64 = FAULT_END + 12 + AFTER;

/// Bad probes of a stream in the second `s` after fire (negative: before), of `RATE`.
pub type Bad<'a> = dyn Fn(&str, i64) -> u32 + 'a;

pub fn stream(name: &str, role: Role) -> Stream {
    let (cell, probe) = match (name.split_once('@'), name.split_once('/')) {
        (Some((entrypoint, cell)), _) => (Some(cell), entrypoint),
        (_, Some((first, "dns"))) => (None, first),
        (_, Some(("control", probe))) => (None, probe),
        (_, Some((cell, probe))) => (Some(cell), probe),
        _ => (None, name),
    };
    let plane = if probe == "shop" {
        Plane::Entrypoint
    } else {
        Plane::Data
    };
    Stream {
        name: name.into(),
        role,
        plane,
        cell: cell.map(Into::into),
        probe: probe.into(),
        rate: f64::from(RATE),
        slo_ms: Some(500),
        timeout_ms: 1000,
        basis: Default::default(),
    }
}

pub fn streams() -> Vec<Stream> {
    vec![
        stream("ali/checkout", Role::Target),
        stream("ali/orders", Role::Target),
        stream("tencent/checkout", Role::Other),
        stream("tencent/orders", Role::Other),
        stream("aws/checkout", Role::Other),
        stream("shop/dns", Role::Other),
        stream("shop@tencent", Role::Other),
        stream("shop@ali", Role::Target),
        stream("control/loopback", Role::Control),
    ]
}

pub fn plan() -> Plan {
    let nodes = |cell: &str| {
        let step = CellStep {
            nodes: vec!["n1".into()],
            changes: Vec::new(),
        };
        BTreeMap::from([(cell.to_string(), step)])
    };
    let step = |id, side, cell: &str| Step {
        id,
        at_ms: 0,
        duration_ms: FAULT * 1000,
        side,
        title: "net.blackhole".into(),
        cells: nodes(cell),
    };
    Plan {
        format: PLAN_FORMAT,
        fleet: "guangdong".into(),
        scenario: "black-hole-cloud".into(),
        target: PlanTarget {
            cloud: "aliyun".into(),
            cells: vec!["ali".into()],
            prefixes: Vec::new(),
        },
        operator: Vec::new(),
        lease_ms: Some(5000),
        steps: vec![
            step(0, Side::Target, "ali"),
            step(1, Side::Others, "tencent"),
        ],
        endpoints: vec![EndpointCut {
            cell: "tencent".into(),
            name: "orders-db".into(),
            address: "198.51.100.40".parse().unwrap(),
            port: 5432,
            cut: true,
            survivor: true,
        }],
    }
}

pub fn header() -> Header {
    Header {
        format: HISTORY_FORMAT,
        drill: "d1".into(),
        cellwall: "0.1.0".into(),
        started: "2026-01-01T00:00:00Z".into(),
        fleet: String::new(),
        agents: BTreeMap::new(),
        plan: plan(),
        streams: streams(),
        vantages: Vec::new(),
        judgement: Judgement {
            alpha: 0.01,
            margin: 0.02,
            effective_min: 0.10,
            degraded: vec!["checkout".into()],
            block_ms: 1000,
            planned_blocks: (END - FIRE) as u32,
            guard_ms: 800,
            recovery_within_ms: 20_000,
            after_ms: AFTER * 1000,
            lost_max: Some(0),
            coverage: BTreeMap::new(),
            users_only: Default::default(),
            effects: Effects::default(),
        },
    }
}

/// What a sound fleet shows: the target is dead while the fault lasts.
pub fn sound(stream: &str, second: i64) -> u32 {
    let in_fault = (0..FAULT as i64).contains(&second);
    if ["ali/checkout", "ali/orders", "shop@ali"].contains(&stream) && in_fault {
        RATE
    } else {
        0
    }
}

pub fn block(stream: &str, second: u64, bad: u32) -> Block {
    let good = RATE.saturating_sub(bad);
    Block {
        scheduled: RATE,
        valid: RATE,
        bad,
        timeouts: bad,
        latency_us: usual(good),
        ..Block::empty(stream, second * 1000)
    }
}

/// The latencies of good probes.
fn usual(good: u32) -> Vec<(u64, u32)> {
    (good > 0).then_some((USUAL_US, good)).into_iter().collect()
}

pub fn mark(phase: Phase, second: u64) -> Record {
    Record::Phase(PhaseMark {
        phase,
        at_ms: second * 1000,
    })
}

pub fn residue(cell: &str) -> Residue {
    Residue {
        cell: cell.into(),
        node: "n1".into(),
        verified: true,
        left: Vec::new(),
    }
}

pub fn ledger(cell: &str) -> Ledger {
    Ledger {
        cell: cell.into(),
        probe: "orders".into(),
        acknowledged: 300,
        lost: 0,
        duplicated: 0,
        unread: 0,
        resurrected: 0,
        stale: 0,
        updated: 0,
        deleted: 0,
        phases: [
            (WritePhase::Before, 150),
            (WritePhase::During, 100),
            (WritePhase::After, 50),
        ]
        .map(|(phase, acknowledged)| {
            let counts = WriteCounts {
                acknowledged,
                ..WriteCounts::default()
            };
            (phase, counts)
        })
        .into(),
        examples: Vec::new(),
    }
}

/// It does not tell of when.
pub fn lose(ledger: &mut Ledger, count: u64) {
    ledger.lost = count;
    ledger.phases.clear();
}

pub fn agent(cell: &str, state: &str, at_ms: u64) -> Record {
    Record::Agent(AgentEvent {
        at_ms,
        since_ms: None,
        cell: cell.into(),
        node: "n1".into(),
        state: state.into(),
        detail: String::new(),
        gaps: Vec::new(),
    })
}

/// What both agents of the plan tell in a healthy drill: `offset` is ms after fire.
fn told_by_agents(told: &[(&str, i64)]) -> Vec<Record> {
    let of = |cell| {
        told.iter().map(move |(state, offset)| {
            agent(cell, state, (FIRE * 1000).saturating_add_signed(*offset))
        })
    };
    of("ali").chain(of("tencent")).collect()
}

pub fn history(bad: &Bad<'_>) -> Vec<Record> {
    history_of(header(), bad)
}

pub fn history_of(header: Header, bad: &Bad<'_>) -> Vec<Record> {
    let streams = header.streams.clone();
    let mut records = vec![Record::Header(Box::new(header)), mark(Phase::Before, 5)];
    for second in 5..END {
        if second == FIRE {
            records.push(mark(Phase::Fire, FIRE));
            records.extend(told_by_agents(&[("armed", -900), ("firing", -800)]));
        }
        if second == FAULT_END + 1 {
            records.push(mark(Phase::Reverted, FAULT_END));
            let end = FAULT as i64 * 1000;
            records.extend(told_by_agents(&[
                ("reverting", end + 10),
                ("reverted", end + 20),
            ]));
        }
        for stream in &streams {
            let after_fire = second as i64 - FIRE as i64;
            let bad = bad(&stream.name, after_fire);
            records.push(Record::Block(block(&stream.name, second, bad)));
        }
    }
    records.push(mark(Phase::End, END));
    for cell in ["ali", "tencent"] {
        records.push(Record::Residue(residue(cell)));
        let orders = format!("{cell}/orders");
        if streams.iter().any(|stream| stream.name == orders) {
            records.push(Record::Ledger(ledger(cell)));
        }
    }
    records
}

/// The header of a history, to spoil.
pub fn header_mut(records: &mut [Record]) -> &mut Header {
    match &mut records[0] {
        Record::Header(header) => header,
        other => panic!("{other:?}"),
    }
}

/// Alters every block of a stream that starts in the given seconds after fire.
pub fn alter(
    records: &mut [Record],
    stream: &str,
    seconds: std::ops::Range<i64>,
    change: impl Fn(&mut Block),
) {
    for record in records {
        if let Record::Block(block) = record
            && block.stream == stream
            && seconds.contains(&((block.start_ms / 1000) as i64 - FIRE as i64))
        {
            let told = block.latency_us.clone();
            let was = usual(block.valid.saturating_sub(block.bad));
            change(block);
            // Every good probe has a latency; a test that says nothing of it means nothing by it.
            if block.latency_us == told && told == was {
                block.latency_us = usual(block.valid.saturating_sub(block.bad));
            }
        }
    }
}

pub fn class(verdict: &Verdict, stream: &str, window: Window) -> Class {
    let row = verdict
        .rows
        .iter()
        .find(|r| r.stream == stream && r.window == window);
    row.unwrap_or_else(|| panic!("no row {stream} {window:?}"))
        .class
}

/// The outcome, and that some reason has all of the words.
#[track_caller]
pub fn expect(records: &[Record], outcome: Outcome, words: &[&str]) -> Verdict {
    let verdict = judge(records);
    assert_eq!(verdict.outcome, outcome, "{:#?}", verdict.reasons);
    let said = verdict
        .reasons
        .iter()
        .any(|reason| words.iter().all(|w| reason.contains(w)));
    assert!(said, "{words:?} not in {:#?}", verdict.reasons);
    verdict
}

/// A healthy history, spoilt.
pub fn spoilt(spoil: impl Fn(&mut Vec<Record>)) -> Vec<Record> {
    let mut records = history(&sound);
    spoil(&mut records);
    records
}

pub fn without(keep: impl Fn(&Record) -> bool) -> Vec<Record> {
    spoilt(|records| records.retain(&keep))
}
