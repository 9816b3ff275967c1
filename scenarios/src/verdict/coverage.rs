//! How much of the real requests of each cell some stream stands for; what nobody looks at is unknown.

use std::collections::{BTreeMap, BTreeSet};

use super::Outcome;
use super::evidence::Evidence;
use super::findings::{Findings, percent};
use super::gate::NotReady;
use crate::history::{Counts, Role};

/// Share of the blocks of a traffic that may go uncounted, as of the blocks of its streams.
pub(super) const MISSING_MAX: f64 = 0.05;

/// Requests of one cell: all, and those that a stream stands for.
type Seen = (u64, u64);

/// Every cell that must not notice with every traffic of a declared coverage, and its requests in
/// `[from, to)`. A census, not a
/// sample: no interval. Cells of the target are left out; nothing is claimed of their traffic.
fn seen<'a>(evidence: &Evidence<'a>, from: u64, to: u64) -> BTreeMap<(&'a str, &'a str), Seen> {
    let declared = evidence.header.judgement.coverage.keys();
    let others = evidence.with_role(Role::Other);
    let cells: BTreeSet<&str> = others.filter_map(|stream| stream.cell.as_deref()).collect();
    let mut sums: BTreeMap<(&str, &str), Seen> = declared
        .flat_map(|traffic| {
            cells
                .iter()
                .map(move |cell| ((*cell, traffic.as_str()), (0, 0)))
        })
        .collect();
    for volume in &evidence.volumes {
        let key = (volume.cell.as_str(), volume.traffic.as_str());
        if let Some((all, covered)) = sums.get_mut(&key)
            && (from..to).contains(&volume.start_ms)
        {
            *all = all.saturating_add(volume.requests);
            *covered = covered.saturating_add(volume.covered.min(volume.requests));
        }
    }
    sums
}

/// `requests.checkout` is the stratum `checkout` of the traffic `requests`.
pub(super) fn traffic_of(probe: &str) -> &str {
    probe.split_once('.').map_or(probe, |(traffic, _)| traffic)
}

fn share((all, covered): Seen) -> Option<f64> {
    (all > 0).then(|| covered as f64 / all as f64)
}

/// Before fire: a drill that looks at too little of the traffic is not begun.
pub(super) fn gate(evidence: &Evidence<'_>) -> Result<(), NotReady> {
    let from = evidence.before.unwrap_or(0);
    let to = evidence.fire.unwrap_or(u64::MAX);
    for ((cell, traffic), requests) in seen(evidence, from, to) {
        let wanted = declared(evidence, traffic);
        let covered = share(requests).unwrap_or(0.0);
        if covered < wanted {
            return Err(NotReady::Coverage {
                cell: cell.to_owned(),
                traffic: traffic.to_owned(),
                covered,
                wanted,
                requests: requests.0,
            });
        }
    }
    Ok(())
}

fn declared(evidence: &Evidence<'_>, traffic: &str) -> f64 {
    let declared = &evidence.header.judgement.coverage;
    declared.get(traffic).copied().unwrap_or(1.0)
}

/// From fire to the end of the watch.
pub(super) fn check(evidence: &Evidence<'_>, fire: u64, findings: &mut Findings) {
    let mut words = Vec::new();
    for ((cell, traffic), requests) in seen(evidence, fire, evidence.end()) {
        let wanted = declared(evidence, traffic);
        match share(requests) {
            None => words.push(format!(
                "coverage: no request of {traffic} was counted in {cell}, so nobody knows what was \
                 not looked at"
            )),
            Some(covered) if covered < wanted => words.push(format!(
                "coverage: streams and probes stand for {} of the {} requests of {traffic} in {cell}, \
                 declared are {}; judge the other strata as well",
                percent(covered),
                requests.0,
                percent(wanted)
            )),
            Some(_) => {}
        }
        let (missing, all) = uncounted(evidence, fire, (cell, traffic));
        if requests.0 > 0 && missing as f64 > MISSING_MAX * all as f64 {
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
    let mut streams = evidence.header.streams.iter();
    let counted =
        streams.find(|s| s.basis.counts == Counts::Requests && traffic_of(&s.probe) == traffic);
    let block_ms = counted.map_or(evidence.block_ms(), |stream| evidence.block_ms_of(stream));
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
        .fold(0_u64, |sum, (all, _)| sum.saturating_add(*all));
    let shares = seen.values().filter_map(|seen| share(*seen));
    let least = shares.fold(1.0, f64::min);
    (!seen.is_empty()).then(|| {
        format!(
            "{requests} real requests of the other cells counted; streams and probes stand for at \
             least {} of each cell's",
            percent(least)
        )
    })
}
