//! The streams of a fleet that nobody probes for: real requests, gauges, and slow answers.

use scenarios::fleet::Fleet;
use scenarios::history::{Basis, Counts, Role, Stream};

use crate::streams::millis;

/// In the order of cells. Slow answers are judged of cells that must not notice alone: the target's
/// fall and recovery are told by its slo.
pub fn streams(fleet: &Fleet, target_cells: &[String]) -> Vec<Stream> {
    let mut streams = Vec::new();
    for cell in fleet.cells.keys() {
        let role = match target_cells.contains(cell) {
            true => Role::Target,
            false => Role::Other,
        };
        streams.extend(slow(fleet, cell, role));
        streams.extend(requests(fleet, cell, role));
        streams.extend(gauges(fleet, cell, role));
    }
    streams
}

fn slow<'a>(fleet: &'a Fleet, cell: &'a str, role: Role) -> impl Iterator<Item = Stream> + 'a {
    let judged = fleet.probes.iter().filter(move |_| role == Role::Other);
    judged.filter_map(move |(name, probe)| {
        let margin = probe.slower_within?;
        let of = format!("{cell}/{name}");
        Some(Stream {
            name: format!("{of}:slow"),
            role,
            plane: probe.plane,
            cell: Some(cell.to_owned()),
            probe: name.clone(),
            rate: probe.rate,
            slo_ms: None,
            timeout_ms: millis(probe.timeout),
            basis: Basis {
                counts: Counts::Slow { of },
                block_ms: None,
                margin: Some(margin),
                requests: None,
            },
        })
    })
}

fn requests<'a>(fleet: &'a Fleet, cell: &'a str, role: Role) -> impl Iterator<Item = Stream> + 'a {
    fleet.traffic.iter().flat_map(move |(name, traffic)| {
        let strata = traffic.streams(name).into_iter();
        strata.map(move |(stratum, _)| Stream {
            name: format!("{cell}/{stratum}"),
            role,
            plane: traffic.plane,
            cell: Some(cell.to_owned()),
            probe: stratum,
            rate: traffic.rate,
            slo_ms: None,
            timeout_ms: millis(traffic.timeout),
            basis: Basis {
                counts: Counts::Requests,
                block_ms: Some(millis(traffic.every)),
                margin: traffic.within,
                requests: None,
            },
        })
    })
}

fn gauges<'a>(fleet: &'a Fleet, cell: &'a str, role: Role) -> impl Iterator<Item = Stream> + 'a {
    fleet.gauges.iter().map(move |(name, gauge)| Stream {
        name: format!("{cell}/{name}"),
        role,
        plane: gauge.plane,
        cell: Some(cell.to_owned()),
        probe: name.clone(),
        rate: 1.0 / gauge.every.as_secs_f64(),
        slo_ms: None,
        timeout_ms: millis(gauge.timeout),
        basis: Basis {
            counts: Counts::Gauge { limit: gauge.limit },
            block_ms: Some(millis(gauge.block())),
            margin: Some(gauge.within),
            requests: None,
        },
    })
}
