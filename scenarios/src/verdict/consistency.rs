//! What contradicts itself in a history: whoever made it, such a history proves nothing.
//!
//! Nothing here is a matter of chance, and nothing that a drill writes by itself comes near it.

use std::collections::{BTreeMap, BTreeSet};

use super::coverage;
use super::evidence::{Evidence, is_attributed};
use crate::fleet::Plane;
use crate::history::{Block, Counts, FOREIGN, Header, Ledger, Role, Stream};
use crate::plan::PLAN_FORMAT;
use crate::scenario::Side;

/// The guard times hide the target's edges: they are as long as its slowest probe may take, and an
/// agent to answer, and clocks to differ. The last two together are less than this.
const GUARD_MORE_MS: u64 = 1000;
/// A pass that may be wrong more often than once in a hundred is none.
const ALPHA_MOST: f64 = 0.01;
/// A block of a day decides nothing.
const BLOCK_MOST_MS: u64 = 86_400_000;
/// Latencies are kept to three digits.
const ROUNDED: f64 = 1.01;

/// Words if the parameters of the header cannot be used; then there is no verdict but "inconclusive".
pub(super) fn unusable(header: &Header) -> Option<String> {
    let judgement = &header.judgement;
    let fraction = |x: f64| x > 0.0 && x < 1.0;
    let good = judgement.alpha > 0.0
        && judgement.alpha <= ALPHA_MOST
        && fraction(judgement.margin)
        && fraction(judgement.effective_min)
        && (1..=BLOCK_MOST_MS).contains(&judgement.block_ms);
    if !good {
        let words = "the header's judgement is out of range (alpha, margin, effect, block length)";
        return Some(words.to_owned());
    }
    let is_unusable = |stream: &&Stream| {
        let own = stream.block_ms(judgement.block_ms);
        let margin = stream.margin(judgement);
        let length = (1..=BLOCK_MOST_MS).contains(&own);
        let requests = stream.basis.requests.unwrap_or(1.0);
        let countable = requests.is_finite() && requests >= 0.0;
        !length || !own.is_multiple_of(judgement.block_ms) || !fraction(margin) || !countable
    };
    let stream = header.streams.iter().find(is_unusable)?;
    let name = &stream.name;
    Some(format!(
        "{name}: its block length, its margin or its requests are out of range"
    ))
}

/// Streams that are not what the plan, their roles and their names say.
pub(super) fn of_header(header: &Header) -> Vec<String> {
    let mut words: Vec<String> = header
        .streams
        .iter()
        .filter_map(|stream| Some(format!("{}: {}", stream.name, of_stream(header, stream)?)))
        .collect();
    let format = header.plan.format;
    if format != PLAN_FORMAT {
        words.push(format!(
            "the plan is of format {format}, and {PLAN_FORMAT} is known"
        ));
    }
    if header.plan.target.cells.is_empty() {
        words.push("the plan has no target cell".into());
    }
    let probed = header.streams.iter().filter(|stream| stream.is_probed());
    let slowest = probed.map(|s| s.slo_ms.unwrap_or(s.timeout_ms)).max();
    let most = slowest.unwrap_or(0).saturating_add(GUARD_MORE_MS);
    let guard = header.judgement.guard_ms;
    if guard > most {
        words.push(format!(
            "the guard times are {guard} ms, and no probe explains more than {most} ms"
        ));
    }
    words
}

fn of_stream(header: &Header, stream: &Stream) -> Option<&'static str> {
    let Stream { name, probe, .. } = stream;
    let is_named = match (&stream.cell, stream.role) {
        (Some(_), Role::Control) => return Some("a control is of no cell"),
        (None, Role::Control) => name.starts_with("control/"),
        (None, _) => *name == format!("{probe}/dns"),
        (Some(cell), _) => {
            let own = [format!("{cell}/{probe}"), format!("{cell}/{probe}:slow")];
            let attributed = *name == format!("{probe}@{cell}");
            own.contains(name) || (attributed && stream.plane == Plane::Entrypoint)
        }
    };
    if !is_named {
        return Some("its name is not that of its cell and its probe");
    }
    let target = &header.plan.target.cells;
    let in_target = stream.cell.as_ref().is_some_and(|c| target.contains(c));
    match (stream.role, in_target) {
        (Role::Target, false) => Some("it is the target's, and its cell is no target of the plan"),
        (Role::Other, true) => Some("it must not notice, and its cell is a target of the plan"),
        _ => None,
    }
}

/// Target cells on which no step of the plan acts: whatever befell them, it was not this fault.
pub(super) fn untouched(header: &Header) -> Vec<String> {
    let steps = header.plan.steps.iter();
    let acted: BTreeSet<&String> = steps
        .filter(|step| step.side == Side::Target && step.duration_ms > 0)
        .flat_map(|step| &step.cells)
        .filter(|(_, step)| !step.nodes.is_empty())
        .map(|(cell, _)| cell)
        .collect();
    let targets = header.plan.target.cells.iter();
    targets
        .filter(|cell| !acted.contains(cell))
        .map(|cell| format!("no step of the plan acts on a node of {cell}: the fault hit nobody"))
        .collect()
}

/// What a block cannot be, beside its counts of valid and bad.
pub(super) fn of_block(stream: &Stream, block: &Block) -> Option<&'static str> {
    let sum = |counts: [u32; 4]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
    let answered = block.latency_us.iter().map(|(_, count)| u64::from(*count));
    if answered.fold(0, u64::saturating_add) > u64::from(block.valid) {
        return Some("has more answers than probes that count");
    }
    let slo_us = stream
        .slo_ms
        .map_or(f64::INFINITY, |ms| ms as f64 * 1e3 * ROUNDED);
    let late = block
        .latency_us
        .iter()
        .filter(|(us, _)| *us as f64 > slo_us);
    let late = late.fold(0, |sum: u64, (_, count)| {
        sum.saturating_add(u64::from(*count))
    });
    let good = u64::from(block.valid.saturating_sub(block.bad));
    let told = block.latency_us.iter().map(|(_, count)| u64::from(*count));
    if stream.basis.counts == Counts::Probes && told.fold(0, u64::saturating_add) < good {
        return Some("has good probes without a latency");
    }
    let answers = block.answers.values().map(|count| u64::from(*count));
    if answers.fold(0, u64::saturating_add) > u64::from(block.scheduled) {
        return Some("has more answers of DNS than probes");
    }
    if stream.basis.counts == Counts::Probes && late > u64::from(block.bad) {
        return Some("has more answers slower than the slo than bad probes");
    }
    let mut users = block.users.iter().flat_map(|seen| seen.kinds.values());
    let asked = users.clone().map(|count| u64::from(count.requests));
    if asked.fold(0, u64::saturating_add) > u64::from(block.scheduled) {
        return Some("has more requests of users than probes of DNS");
    }
    if users.any(|count| count.bad > count.requests) {
        return Some("has users with more bad requests than requests");
    }
    // Of those that do not count an answer may have come, too.
    let uncounted = block.scheduled.saturating_sub(block.valid);
    if block.answers.get(FOREIGN).copied().unwrap_or(0) > block.bad.saturating_add(uncounted) {
        return Some("has more answers of a foreign address than bad probes");
    }
    if block.server_errors > block.errors {
        return Some("has more 5xx than errors");
    }
    if block.under_way > block.timeouts {
        return Some("has more probes under way than timeouts");
    }
    let kinds = sum([block.timeouts, block.resets, block.errors, block.slow]);
    match stream.basis.counts {
        Counts::Probes if kinds != u64::from(block.bad) => {
            Some("has bad probes that are not of one kind each")
        }
        Counts::Requests if kinds > u64::from(block.bad) => {
            Some("has more kinds of bad requests than bad ones")
        }
        Counts::Gauge { .. } if block.values.len() as u64 != u64::from(block.valid) => {
            Some("has another number of readings than it counts")
        }
        _ => None,
    }
}

/// Ledgers, volumes and loads that are twice, of nobody, off the grid, or more than there was.
pub(super) fn of_records(evidence: &Evidence<'_>) -> Vec<String> {
    let mut words = Vec::new();
    let mut ledgers = BTreeSet::new();
    for ledger in &evidence.ledgers {
        let why = of_ledger(evidence, ledger).or_else(|| {
            let first = ledgers.insert((&ledger.cell, &ledger.probe));
            (!first).then_some("its writes were read back twice")
        });
        words.extend(why.map(|why| format!("{}/{}: {why}", ledger.cell, ledger.probe)));
    }
    words.extend(of_agents(evidence));
    words.extend(of_late_ends(evidence));
    words.extend(of_what_is_behind_the_end(evidence));
    words.extend(of_volumes(evidence));
    words.extend(of_loads(evidence));
    words
}

fn of_ledger(evidence: &Evidence<'_>, ledger: &Ledger) -> Option<&'static str> {
    let mut streams = evidence.header.streams.iter();
    let is_known = streams.any(|stream| {
        stream.is_probed()
            && !is_attributed(stream)
            && stream.cell.as_ref() == Some(&ledger.cell)
            && stream.probe == ledger.probe
    });
    if !is_known {
        return Some("writes of a cell and probe that no stream is of");
    }
    // Every write is found in one way.
    let found = [
        ledger.lost,
        ledger.duplicated,
        ledger.resurrected,
        ledger.stale,
        ledger.unread,
    ];
    let found = found.into_iter().fold(0, u64::saturating_add);
    let changed = ledger.updated.max(ledger.deleted);
    (found.max(changed) > ledger.acknowledged).then_some("more writes than were acknowledged")
}

/// What an agent tells is of a cell that the plan or a stream knows.
fn of_agents(evidence: &Evidence<'_>) -> Vec<String> {
    let header = evidence.header;
    let steps = header.plan.steps.iter().flat_map(|step| step.cells.keys());
    let streams = header
        .streams
        .iter()
        .filter_map(|stream| stream.cell.as_ref());
    let known = steps.chain(streams).chain(&header.plan.target.cells);
    let known: BTreeSet<&String> = known.collect();
    let told = evidence.agents.iter().map(|event| &event.cell);
    let strangers: BTreeSet<&String> = told.filter(|cell| !known.contains(cell)).collect();
    let strangers = strangers.into_iter();
    strangers
        .map(|cell| format!("an agent of {cell}, which is no cell of the drill"))
        .collect()
}

/// Only what was told as a timeout while it was under way may end late.
fn of_late_ends(evidence: &Evidence<'_>) -> Vec<String> {
    let mut sums: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let impossible = evidence.late.iter();
    let impossible = impossible.filter(|late| late.server_errors > late.errors);
    let mut words: Vec<String> = impossible
        .map(|late| {
            let (stream, at) = (&late.stream, late.start_ms);
            format!("{stream}: of the block at {at} ms more 5xx than errors ended late")
        })
        .collect();
    for late in &evidence.late {
        let sum = sums.entry((&late.stream, late.start_ms)).or_default();
        for count in [late.timeouts, late.slow, late.resets, late.errors] {
            *sum = sum.saturating_add(u64::from(count));
        }
    }
    // Nobody told how many were under way before format 3.
    let told = evidence.header.format >= 3;
    let most = |stream: &str, start_ms: u64| {
        let block = evidence.series(None, stream)?.get(&start_ms)?;
        let under_way = told || block.under_way > 0;
        Some(u64::from(if under_way {
            block.under_way
        } else {
            block.timeouts
        }))
    };
    let more = sums
        .into_iter()
        .filter(|((stream, at), sum)| *sum > most(stream, *at).unwrap_or(0));
    words.extend(more.map(|((stream, at), _)| {
        format!("{stream}: of the block at {at} ms more ended late than were under way")
    }));
    words
}

/// What nobody watches any more would be judged by nobody.
fn of_what_is_behind_the_end(evidence: &Evidence<'_>) -> Vec<String> {
    let ended = evidence.ended.unwrap_or(u64::MAX);
    let streams = evidence.header.streams.iter();
    let behind = streams.filter(|stream| {
        let series = evidence.all_series(&stream.name);
        let mut last = series
            .into_iter()
            .filter_map(|blocks| blocks.keys().next_back());
        last.any(|start| *start >= ended)
    });
    behind
        .map(|stream| format!("{}: it has blocks behind the end of the watch", stream.name))
        .collect()
}

fn of_volumes(evidence: &Evidence<'_>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut words = Vec::new();
    for volume in &evidence.volumes {
        let block_ms = coverage::block_ms_of(evidence, &volume.traffic);
        let ended = evidence.ended.unwrap_or(u64::MAX);
        let mut streams = evidence.header.streams.iter();
        let why = if !volume.start_ms.is_multiple_of(block_ms) {
            "is not on the block grid of its traffic"
        } else if volume.start_ms.saturating_add(block_ms) > ended {
            "is behind the end of the watch"
        } else if !streams.any(|stream| stream.cell.as_ref() == Some(&volume.cell)) {
            "is of no cell of the drill"
        } else if !seen.insert((&volume.cell, &volume.traffic, volume.start_ms)) {
            "is there twice"
        } else if volume.covered > volume.requests {
            "covers more requests than there were"
        } else {
            continue;
        };
        words.push(format!(
            "{}/{}: the volume at {} ms {why}",
            volume.cell, volume.traffic, volume.start_ms
        ));
    }
    words
}

fn of_loads(evidence: &Evidence<'_>) -> Vec<String> {
    let mut seen: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let mut words = Vec::new();
    for second in &evidence.load {
        let why = if !second.start_ms.is_multiple_of(evidence.block_ms()) {
            "is not on the block grid"
        } else if !seen
            .entry(&second.cell)
            .or_default()
            .insert(second.start_ms)
        {
            "is there twice"
        } else if second.answered > second.sent || second.sent > second.due {
            "has impossible counts"
        } else {
            continue;
        };
        words.push(format!(
            "{}: the load at {} ms {why}",
            second.cell, second.start_ms
        ));
    }
    words
}
