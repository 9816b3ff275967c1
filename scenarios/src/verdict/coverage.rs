//! How much of the real requests of each cell some stream stands for; what nobody looks at is unknown.

use std::collections::BTreeMap;

use super::Outcome;
use super::evidence::Evidence;
use super::findings::{Findings, percent};
use super::watch::NotReady;
use crate::history::Role;

/// Requests of one cell: all, and those that a stream stands for.
type Seen = (u64, u64);

/// Every (cell, traffic) with a declared coverage, and its requests in `[from, to)`. A census, not a
/// sample: no interval. Cells of the target are left out; nothing is claimed of their traffic.
fn seen<'a>(evidence: &Evidence<'a>, from: u64, to: u64) -> BTreeMap<(&'a str, &'a str), Seen> {
    let declared = &evidence.header.judgement.coverage;
    let others = evidence.with_role(Role::Other);
    let mut sums: BTreeMap<(&str, &str), Seen> = others
        .filter_map(|stream| {
            let (traffic, _) = declared.get_key_value(traffic_of(&stream.probe))?;
            Some(((stream.cell.as_deref()?, traffic.as_str()), (0, 0)))
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
fn traffic_of(probe: &str) -> &str {
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
    }
    findings.add_some(Outcome::Inconclusive, words);
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
