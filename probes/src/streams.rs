//! Which streams a fleet has: cell x probe, entrypoints, and the controls that judge the prober.

use std::time::Duration;

use scenarios::fleet::{Entrypoint, Fleet, Plane, Probe};
use scenarios::history::{Basis, Role, Stream};

use crate::metered_streams;

/// Name of the control that never leaves this process.
pub(crate) const LOOPBACK: &str = "loopback";
/// Reference hosts are `reference-1`, `reference-2`, ... in the order of the fleet.
pub(crate) const REFERENCE: &str = "reference-";

/// Until a fleet declares a probe; also what a control waits where nothing says more.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// What the prober may add where no stream declares an slo.
const LOOPBACK_SLO_MS: u64 = 100;
const LOOPBACK_SLO_MIN_MS: u64 = 50;

/// All streams of a drill on `target_cells`, in a fixed order: cells, entrypoints, what is not probed
/// (traffic, gauges, slow answers), controls.
///
/// An entrypoint has `E/dns` (answering) and `E@CELL` for each cell of its region that has a share
/// (what its users meet there). Controls run at the rate of the fastest stream. The loopback may
/// take half of the smallest declared slo: a prober that adds more cannot judge with that slo.
pub fn streams(fleet: &Fleet, target_cells: &[String]) -> Vec<Stream> {
    let role = |cell: &String| {
        if target_cells.contains(cell) {
            Role::Target
        } else {
            Role::Other
        }
    };
    let mut streams = Vec::new();
    for cell in fleet.cells.keys() {
        for (name, probe) in &fleet.probes {
            streams.push(Stream {
                name: format!("{cell}/{name}"),
                role: role(cell),
                plane: probe.plane,
                cell: Some(cell.clone()),
                probe: name.clone(),
                rate: probe.rate,
                slo_ms: probe.slo.map(millis),
                timeout_ms: millis(probe.timeout),
                basis: Basis {
                    requests: requests(probe),
                    ..Basis::default()
                },
            });
        }
    }
    for (name, entrypoint) in &fleet.entrypoints {
        let of_entrypoint = |stream: String, role, cell: Option<String>, rate| Stream {
            name: stream,
            role,
            plane: Plane::Entrypoint,
            cell,
            probe: name.clone(),
            rate,
            slo_ms: entrypoint.slo.map(millis),
            timeout_ms: millis(entrypoint.timeout),
            basis: Basis::default(),
        };
        streams.push(of_entrypoint(
            format!("{name}/dns"),
            Role::Other,
            None,
            entrypoint.rate,
        ));
        for (cell, share) in shares(fleet, entrypoint) {
            let rate = entrypoint.rate * share;
            let stream = format!("{name}@{cell}");
            streams.push(of_entrypoint(stream, role(cell), Some(cell.clone()), rate));
        }
    }
    let controls = controls(fleet, &streams);
    streams.extend(metered_streams::streams(fleet, target_cells));
    streams.extend(controls);
    streams
}

/// What one of its probes asks for, unless that is one request. One in six updates a write where that is
/// declared, and reads it again at once.
fn requests(probe: &Probe) -> Option<f64> {
    let reads = if probe.rewrites.update.is_some() {
        1.0 / 6.0
    } else {
        0.0
    };
    let requests = probe.ask.requests() as f64 + reads;
    (requests != 1.0).then_some(requests)
}

/// The cells of the entrypoint's region that have a share of its answers.
pub(crate) fn shares<'a>(
    fleet: &'a Fleet,
    entrypoint: &'a Entrypoint,
) -> impl Iterator<Item = (&'a String, f64)> {
    let in_region = |cell: &String| {
        fleet
            .cells
            .get(cell)
            .is_some_and(|cell| cell.region == entrypoint.region)
    };
    entrypoint
        .shares
        .iter()
        .filter(move |(cell, share)| **share > 0.0 && in_region(cell))
        .map(|(cell, share)| (cell, *share))
}

fn controls(fleet: &Fleet, streams: &[Stream]) -> Vec<Stream> {
    let fastest = streams.iter().map(|stream| stream.rate).fold(1.0, f64::max);
    let slowest = streams.iter().map(|stream| stream.timeout_ms).max();
    let timeout_ms = slowest.unwrap_or(millis(DEFAULT_TIMEOUT));
    let strictest = streams.iter().filter_map(|stream| stream.slo_ms).min();
    let loosest = streams.iter().filter_map(|stream| stream.slo_ms).max();
    let control = |name: String, slo_ms| Stream {
        name: format!("control/{name}"),
        role: Role::Control,
        plane: Plane::Data,
        cell: None,
        probe: name,
        rate: fastest,
        slo_ms,
        timeout_ms,
        basis: Basis::default(),
    };
    let loopback_slo = strictest.map_or(LOOPBACK_SLO_MS, |slo| (slo / 2).max(LOOPBACK_SLO_MIN_MS));
    let mut controls = vec![control(LOOPBACK.to_owned(), Some(loopback_slo))];
    let references = (1..=fleet.references.len()).map(|n| format!("{REFERENCE}{n}"));
    controls.extend(references.map(|name| control(name, loosest)));
    controls
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
