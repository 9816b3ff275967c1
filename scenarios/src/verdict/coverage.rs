//! How much of the real requests of each cell some stream stands for; what nobody looks at is unknown.

use std::collections::{BTreeMap, BTreeSet};

use super::Outcome;
use super::evidence::{Evidence, Span};
use super::findings::{Findings, percent};
use super::gate::NotReady;
use super::ours;
use crate::history::{Counts, Role, Volume};

/// Share of the blocks of a traffic that may go uncounted, as of the blocks of its streams.
pub(super) const MISSING_MAX: f64 = 0.05;

/// Requests of one cell that are known to be of users: all, and those that a stream stands for, at least.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    counted: u64,
    all: u64,
    covered: u64,
    /// From the first block that was counted to the end of the last.
    span: Option<Span>,
}

impl Seen {
    fn take(&mut self, volume: &Volume, block_ms: u64) {
        self.all = self.all.saturating_add(volume.requests);
        let covered = volume.covered.min(volume.requests);
        self.covered = self.covered.saturating_add(covered);
        let (from, to) = (volume.start_ms, volume.start_ms.saturating_add(block_ms));
        let span = self.span.get_or_insert(Span { from, to });
        *span = Span {
            from: span.from.min(from),
            to: span.to.max(to),
        };
    }

    /// Without what cellwall itself asked for, all of which may have been covered.
    fn of_users(self, ours: u64) -> Seen {
        Seen {
            counted: self.all,
            all: self.all.saturating_sub(ours),
            covered: self.covered.saturating_sub(ours),
            ..self
        }
    }

    fn share(&self) -> Option<f64> {
        (self.all > 0).then(|| self.covered as f64 / self.all as f64)
    }
}

/// Every cell that must not notice with every traffic of a declared coverage, and its requests in
/// `[from, to)`. A census, not a
/// sample: no interval. Cells of the target are left out; nothing is claimed of their traffic.
fn seen<'a>(evidence: &Evidence<'a>, from: u64, to: u64) -> BTreeMap<(&'a str, &'a str), Seen> {
    let judgement = &evidence.header.judgement;
    let others = evidence.with_role(Role::Other);
    let cells: BTreeSet<&str> = others.filter_map(|stream| stream.cell.as_deref()).collect();
    let pairs = judgement.coverage.keys().flat_map(|traffic| {
        let pair = move |cell: &&'a str| ((*cell, traffic.as_str()), Seen::default());
        cells.iter().map(pair)
    });
    let mut sums: BTreeMap<(&str, &str), Seen> = pairs.collect();
    for volume in &evidence.volumes {
        let key = (volume.cell.as_str(), volume.traffic.as_str());
        if let Some(seen) = sums.get_mut(&key)
            && (from..to).contains(&volume.start_ms)
        {
            seen.take(volume, block_ms_of(evidence, &volume.traffic));
        }
    }
    for ((cell, traffic), seen) in &mut sums {
        let counted = |span| ours::counted(evidence, traffic, cell, span);
        let ours = seen.span.map_or(0, counted);
        *seen = seen.of_users(ours);
    }
    sums
}

/// Length of the blocks of a traffic; the judgement's if no stream is of it.
pub(super) fn block_ms_of(evidence: &Evidence<'_>, traffic: &str) -> u64 {
    let mut streams = evidence.header.streams.iter();
    let counted =
        streams.find(|s| s.basis.counts == Counts::Requests && traffic_of(&s.probe) == traffic);
    counted.map_or(evidence.block_ms(), |stream| evidence.block_ms_of(stream))
}

/// `requests.checkout` is the stratum `checkout` of the traffic `requests`.
pub(super) fn traffic_of(probe: &str) -> &str {
    probe.split_once('.').map_or(probe, |(traffic, _)| traffic)
}

/// Before fire: a drill that looks at too little of the traffic is not begun.
pub(super) fn gate(evidence: &Evidence<'_>) -> Result<(), NotReady> {
    let from = evidence.before.unwrap_or(0);
    let to = evidence.fire.unwrap_or(u64::MAX);
    for ((cell, traffic), seen) in seen(evidence, from, to) {
        if let Some(why) = obstacle(evidence, (cell, traffic), &seen) {
            return Err(NotReady::Coverage(why));
        }
    }
    Ok(())
}

fn declared(evidence: &Evidence<'_>, traffic: &str) -> f64 {
    let declared = &evidence.header.judgement.coverage;
    declared.get(traffic).copied().unwrap_or(1.0)
}

/// Why too little of a cell's traffic is known, if it is.
fn obstacle(evidence: &Evidence<'_>, (cell, traffic): (&str, &str), seen: &Seen) -> Option<String> {
    let wanted = declared(evidence, traffic);
    let Some(covered) = seen.share() else {
        let what = match seen.counted {
            0 => format!("no request of {traffic} was counted in {cell}"),
            all => format!(
                "none of the {all} requests of {traffic} in {cell} is known to be of a user, for cellwall \
                 may have sent them all"
            ),
        };
        return Some(format!("{what}, so nobody knows what was not looked at"));
    };
    (covered < wanted).then(|| {
        format!(
            "streams and probes are known to stand for {} of the {} users' requests of {traffic} in {cell}, \
             declared are {}; judge the other strata as well",
            percent(covered),
            seen.all,
            percent(wanted)
        )
    })
}

/// From fire to the end of the watch.
pub(super) fn check(evidence: &Evidence<'_>, fire: u64, findings: &mut Findings) {
    let mut words = Vec::new();
    for ((cell, traffic), seen) in seen(evidence, fire, evidence.end()) {
        let why = obstacle(evidence, (cell, traffic), &seen);
        words.extend(why.map(|why| format!("coverage: {why}")));
        let (missing, all) = uncounted(evidence, fire, (cell, traffic));
        if seen.counted > 0 && missing as f64 > MISSING_MAX * all as f64 {
            words.push(format!(
                "coverage: {missing} of {all} blocks of {traffic} in {cell} were not counted"
            ));
        }
    }
    findings.add_some(Outcome::Inconclusive, words);
}

/// Blocks from fire to the end whose requests nobody counted, and all of them. What one scrape misses
/// the next one counts, so a few may be missing.
fn uncounted(evidence: &Evidence<'_>, fire: u64, (cell, traffic): (&str, &str)) -> (u64, u64) {
    let block_ms = block_ms_of(evidence, traffic);
    let (first, last) = (fire.div_ceil(block_ms), evidence.end() / block_ms);
    let counted = evidence.volumes.iter().filter(|volume| {
        volume.cell == cell
            && volume.traffic == traffic
            && volume.start_ms.is_multiple_of(block_ms)
            && (first..last).contains(&(volume.start_ms / block_ms))
    });
    let starts: BTreeSet<u64> = counted.map(|volume| volume.start_ms).collect();
    let all = last.saturating_sub(first);
    (all.saturating_sub(starts.len() as u64), all)
}

/// What a pass says of it: the least share of any cell.
pub(super) fn on_pass(evidence: &Evidence<'_>, fire: u64) -> Option<String> {
    let seen = seen(evidence, fire, evidence.end());
    let requests = seen
        .values()
        .fold(0_u64, |sum, seen| sum.saturating_add(seen.all));
    let shares = seen.values().filter_map(Seen::share);
    let whose = match evidence.header.format >= ours::TAKEN_AWAY_SINCE {
        true => "users' requests",
        false => "real requests",
    };
    let least = shares.fold(1.0, f64::min);
    (!seen.is_empty()).then(|| {
        format!(
            "{requests} {whose} of the other cells counted; streams and probes stand for at \
             least {} of each cell's",
            percent(least)
        )
    })
}
