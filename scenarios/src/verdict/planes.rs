//! What each cell showed on each plane: which planes a fault is meant to hit, and the summary.

use std::collections::BTreeMap;

use super::evidence::Evidence;
use super::{CellPlane, Class, Row, Window};
use crate::change::{Change, Peers};
use crate::fleet::Plane;
use crate::history::{Role, Stream};
use crate::scenario::Side;

/// Whether a pass needs this stream of the target proved degraded.
///
/// The hypothesis names probes. A cell that is cut from everyone must be seen to fall on its data
/// and its control plane; where the hypothesis names no probe of such a plane, every stream of it
/// counts. All of them must be proved, so alpha is not divided (intersection-union).
pub(super) fn must_degrade(evidence: &Evidence<'_>, stream: &Stream) -> bool {
    if stream.role != Role::Target {
        return false;
    }
    let named = &evidence.header.judgement.degraded;
    if named.contains(&stream.probe) {
        return true;
    }
    // Users who are sent elsewhere leave nothing to count where they no longer go.
    if !stream.is_probed() {
        return false;
    }
    let plane_is_named = evidence
        .with_role(Role::Target)
        .any(|other| other.plane == stream.plane && named.contains(&other.probe));
    !plane_is_named && is_meant(evidence, stream)
}

/// Whether the fault is meant to take this plane of this cell away.
fn is_meant(evidence: &Evidence<'_>, stream: &Stream) -> bool {
    let Some(cell) = stream.cell.as_deref() else {
        return false;
    };
    matches!(stream.plane, Plane::Data | Plane::Control)
        && evidence
            .header
            .plan
            .steps
            .iter()
            .filter(|step| step.side == Side::Target)
            .filter_map(|step| step.cells.get(cell))
            .flat_map(|step| &step.changes)
            .filter_map(Change::as_cut)
            .any(|cut| matches!(cut.peers, Peers::AllBut(_)))
}

/// One line for each cell and plane that has a stream, in the order of cells and planes.
pub(super) fn summary(evidence: &Evidence<'_>, rows: &[Row]) -> Vec<CellPlane> {
    let mut found: BTreeMap<(&str, Plane), Vec<&Stream>> = BTreeMap::new();
    for stream in &evidence.header.streams {
        if let (Some(cell), Role::Target | Role::Other) = (&stream.cell, stream.role) {
            found.entry((cell, stream.plane)).or_default().push(stream);
        }
    }
    let lines = found.into_iter().filter_map(|((cell, plane), streams)| {
        let is_ours = |row: &&Row| streams.iter().any(|stream| stream.name == row.stream);
        let ours: Vec<&Row> = rows.iter().filter(is_ours).collect();
        let of = |window: Window| ours.iter().copied().filter(move |row| row.window == window);
        let role = streams.first()?.role;
        let (class, bound, recovery) = match role {
            Role::Target => target(of(Window::Fault), of(Window::After))?,
            _ => other(&ours)?,
        };
        Some(CellPlane {
            cell: cell.to_owned(),
            plane,
            role,
            class,
            bound,
            recovery,
        })
    });
    lines.collect()
}

type Told = (Class, f64, Option<Class>);

/// The weakest proof that the target fell (its least L), and the worst of its recoveries.
fn target<'a>(
    fault: impl Iterator<Item = &'a Row>,
    after: impl Iterator<Item = &'a Row>,
) -> Option<Told> {
    let rank = |class: Class| match class {
        Class::Ineffective => 0,
        Class::Inconclusive => 1,
        Class::Effective => 2,
        _ => 3,
    };
    let worst = fault.min_by(|a, b| rank(a.class).cmp(&rank(b.class)).then(a.l.total_cmp(&b.l)))?;
    let recovery = after.map(|row| row.class).min_by_key(|class| match class {
        Class::NotRecovered => 0,
        Class::Inconclusive => 1,
        _ => 2,
    });
    Some((worst.class, worst.l, recovery))
}

/// The worst row decides; the bound is its L if it fell, else the greatest U.
fn other(rows: &[&Row]) -> Option<Told> {
    let rank = |class: Class| match class {
        Class::Degraded => 0,
        Class::Isolated => 2,
        _ => 1,
    };
    let worst = rows
        .iter()
        .min_by(|a, b| rank(a.class).cmp(&rank(b.class)).then(b.u.total_cmp(&a.u)))?;
    let bound = match worst.class {
        Class::Degraded => worst.l,
        _ => rows.iter().map(|row| row.u).fold(-1.0, f64::max),
    };
    Some((worst.class, bound, None))
}

/// ` on data and control`, or nothing where one plane is all there is.
pub(super) fn on_planes(planes: &[CellPlane], class: Class) -> String {
    let mut seen: Vec<Plane> = planes
        .iter()
        .filter(|line| line.class == class)
        .map(|line| line.plane)
        .collect();
    seen.sort();
    seen.dedup();
    let has_control = planes.iter().any(|line| line.plane == Plane::Control);
    match (has_control, seen.is_empty()) {
        (true, false) => format!(" on {}", listed(&seen)),
        _ => String::new(),
    }
}

/// `data`, `data and control`, `data, control and entrypoint`.
pub(super) fn listed(planes: &[Plane]) -> String {
    let words: Vec<&str> = planes.iter().map(|plane| plane.word()).collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}
