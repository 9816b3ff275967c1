//! Cells with a control plane: each plane of each cell is judged, and each can deny the pass.

use super::drill::{
    FAULT, RATE, class, expect, header, header_mut, history, history_of, sound, stream,
};
use super::{CellPlane, Class, Outcome, Verdict, Window};
use crate::change::{Change, Direction, FirewallCut, Management, Peers};
use crate::fleet::Plane;
use crate::history::{Header, Role, Stream};

fn api(cell: &str, probe: &str, role: Role) -> Stream {
    Stream {
        plane: Plane::Control,
        ..stream(&format!("{cell}/{probe}"), role)
    }
}

/// The drill of all tests with two API streams per cell, and a cut from everyone.
fn two_planes() -> Header {
    let mut header = header();
    let probes = ["api-list", "api-ready"];
    for (cell, role) in [
        ("ali", Role::Target),
        ("tencent", Role::Other),
        ("aws", Role::Other),
    ] {
        header
            .streams
            .extend(probes.map(|probe| api(cell, probe, role)));
    }
    let cut = Change::Firewall(FirewallCut {
        peers: Peers::AllBut(Vec::new()),
        direction: Direction::Both,
        management: Management::Keep,
    });
    let target = header.plan.steps[0].cells.get_mut("ali").unwrap();
    target.changes.push(cut);
    header
}

fn both_dead(name: &str, second: i64) -> u32 {
    let in_fault = (0..FAULT as i64).contains(&second);
    match name {
        "ali/api-list" | "ali/api-ready" if in_fault => RATE,
        _ => sound(name, second),
    }
}

fn line<'a>(verdict: &'a Verdict, cell: &str, plane: Plane) -> &'a CellPlane {
    let mut lines = verdict.planes.iter();
    lines
        .find(|line| line.cell == cell && line.plane == plane)
        .unwrap_or_else(|| panic!("no line {cell} {plane:?}"))
}

#[test]
fn a_cell_that_fell_on_both_planes_passes_and_says_so() {
    let verdict = expect(
        &history_of(two_planes(), &both_dead),
        Outcome::Pass,
        &[
            "ali degraded on data and control by at least",
            "isolated on data, control and entrypoint with U <= 0.4 %",
        ],
    );
    assert_eq!(
        class(&verdict, "ali/api-list", Window::After),
        Class::Recovered
    );
    let ali = line(&verdict, "ali", Plane::Control);
    assert_eq!(
        (ali.class, ali.recovery),
        (Class::Effective, Some(Class::Recovered))
    );
    assert!(ali.bound > 0.9, "{ali:?}");
    for (cell, plane) in [("tencent", Plane::Data), ("aws", Plane::Control)] {
        let line = line(&verdict, cell, plane);
        assert_eq!((line.class, line.recovery), (Class::Isolated, None));
        assert!(line.bound < 0.02, "{line:?}");
    }
    assert_eq!(
        verdict.planes.len(),
        8,
        "3 cells on 2 planes, 2 of them behind the entrypoint"
    );
}

#[test]
fn a_neighbour_whose_api_alone_fell_fails_by_cell_and_plane() {
    let records = history_of(two_planes(), &|name, second| match name {
        "tencent/api-list" if (1..30).contains(&second) => RATE,
        _ => both_dead(name, second),
    });
    let verdict = expect(
        &records,
        Outcome::Fail,
        &[
            "tencent fell on control:",
            "tencent/api-list degraded 5 s after fire",
        ],
    );
    assert_eq!(
        line(&verdict, "tencent", Plane::Control).class,
        Class::Degraded
    );
    assert_ne!(
        line(&verdict, "tencent", Plane::Data).class,
        Class::Degraded
    );
    assert!(
        verdict
            .reasons
            .iter()
            .all(|reason| !reason.contains("aws fell"))
    );
}

#[test]
fn a_target_whose_api_went_on_answering_is_no_pass() {
    let records = history_of(two_planes(), &sound);
    let verdict = expect(
        &records,
        Outcome::Ineffective,
        &["ali/api-list", "not proved degraded on control"],
    );
    assert_eq!(
        line(&verdict, "ali", Plane::Control).class,
        Class::Ineffective
    );
    assert_eq!(line(&verdict, "ali", Plane::Data).class, Class::Effective);
}

/// One of two API streams that went on is one too many.
#[test]
fn every_stream_of_the_control_plane_must_fall() {
    let records = history_of(two_planes(), &|name, second| match name {
        "ali/api-ready" => 0,
        _ => both_dead(name, second),
    });
    expect(
        &records,
        Outcome::Ineffective,
        &["ali/api-ready", "on control"],
    );
}

#[test]
fn an_api_that_does_not_come_back_fails() {
    let records = history_of(two_planes(), &|name, second| match name {
        "ali/api-list" if second >= 0 => RATE,
        _ => both_dead(name, second),
    });
    expect(
        &records,
        Outcome::Fail,
        &["recovery, not isolation: ali/api-list"],
    );
}

/// A cut towards some peers says nothing about the API; then only named probes must fall.
#[test]
fn a_narrow_cut_is_not_meant_to_hit_the_control_plane() {
    let mut header = two_planes();
    for change in &mut header.plan.steps[0].cells.get_mut("ali").unwrap().changes {
        let Change::Firewall(cut) = change else {
            continue;
        };
        cut.peers = Peers::Only(vec!["198.51.100.0/24".parse().unwrap()]);
    }
    let verdict = expect(
        &history_of(header, &sound),
        Outcome::Pass,
        &["ali degraded on data by"],
    );
    assert_eq!(line(&verdict, "ali", Plane::Control).class, Class::Reported);
}

/// The hypothesis has the last word on a plane of which it names a probe.
#[test]
fn a_named_probe_stands_for_its_plane() {
    let mut records = history_of(two_planes(), &|name, second| match name {
        "ali/api-ready" => 0,
        _ => both_dead(name, second),
    });
    header_mut(&mut records)
        .judgement
        .degraded
        .push("api-list".into());
    expect(&records, Outcome::Pass, &["on data and control"]);
}

#[test]
fn a_fleet_without_a_control_plane_is_judged_as_before() {
    let mut header = two_planes();
    header
        .streams
        .retain(|stream| stream.plane != Plane::Control);
    let with_cut = expect(
        &history_of(header, &sound),
        Outcome::Pass,
        &["ali degraded by at least"],
    );
    let verdict = expect(
        &history(&sound),
        Outcome::Pass,
        &["every other stream isolated with"],
    );
    assert_eq!(with_cut.rows, verdict.rows);
    assert!(
        verdict
            .planes
            .iter()
            .all(|line| line.plane != Plane::Control)
    );
}
