//! What a good file becomes: defaults, shares, and texts from other editors.

use std::time::Duration;

use super::*;
use crate::asks::Expectation;
use crate::effects::{ClientMix, DataLimits};
use crate::fleet::{Ask, HttpMethod, Rewrites};
use crate::scenario::{Consent, Side, TargetSelector};

const FLEET: &str = include_str!("../../tests/fleet.yaml");

#[test]
fn a_fleet_with_its_defaults() {
    let fleet = read_fleet(FLEET, "fleet.yaml").unwrap();
    let node = &fleet.cells["gd-aliyun"].nodes[0];
    assert_eq!(node.agent.to_string(), "198.51.100.5:7443");
    let order = &fleet.probes["order"];
    assert_eq!((order.rate, order.timeout), (20.0, Duration::from_secs(1)));
    let Ask::Http(http) = &order.ask else {
        panic!("{order:?}");
    };
    assert_eq!((http.method, order.slo), (HttpMethod::Post, None));
    let shop = &fleet.entrypoints["shop"];
    assert_eq!(shop.rate, 60.0, "20/s for each of its cells");
    assert_eq!(shop.dns.resolver.to_string(), "203.0.113.53:53");
    assert!((shop.shares.values().sum::<f64>() - 1.0).abs() < 1e-12);
    assert_eq!(
        fleet.tls.unwrap().key.to_str(),
        Some("tls/conductor.key"),
        "left as written"
    );
}

#[test]
fn a_scenario_with_its_defaults() {
    let least = "{ apiVersion: cellwall.dev/v1, kind: Scenario, metadata: { name: x }, spec: { \
        target: { cells: [a] }, method: [{ duration: 1m, fault: { net.blackhole: { peers: \
        everyone } } }], hypothesis: { target: { degraded: [p] } } } }";
    let scenario = read_scenario(least, "x.yaml").unwrap();
    assert_eq!(scenario.title, "x");
    assert_eq!(scenario.target, TargetSelector::Cells(vec!["a".to_owned()]));
    assert_eq!((scenario.before, scenario.after), (MINUTE, MINUTE));
    assert_eq!(
        (scenario.lease, scenario.budget_cells),
        (Some(Duration::from_secs(5)), 1)
    );
    assert_eq!(scenario.method[0].at, Duration::ZERO);
    assert_eq!(scenario.method[0].side, Side::Target);
    assert_eq!(
        scenario.method[0].fault.to_string(),
        "net.blackhole: everyone, both directions"
    );
    let hypothesis = scenario.hypothesis;
    assert_eq!(
        (hypothesis.by_at_least, hypothesis.isolated_within),
        (0.1, 0.02)
    );
    assert_eq!(
        (hypothesis.recovery_within, hypothesis.data),
        (2 * MINUTE, None)
    );
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_lease_is_a_duration_or_none() {
    let read = |lease: &str| {
        let text = crate::library::get("black-hole-cloud").unwrap();
        let text = text.replace("steadyState:", &format!("lease: {lease}\n  steadyState:"));
        read_scenario(&text, "x.yaml").map(|scenario| scenario.lease)
    };
    assert_eq!(read("none").unwrap(), None);
    assert_eq!(read("9s").unwrap(), Some(Duration::from_secs(9)));
    for (wrong, word) in [
        ("never", "or none"),
        ("0s", "1s to 1m"),
        ("None", "or none"),
    ] {
        let error = read(wrong).unwrap_err();
        assert!(error.to_string().contains(word), "{wrong}: {error}");
        assert!(error.position.is_some(), "{wrong}");
    }
}

#[test]
fn the_drill_of_the_design_page() {
    let text = crate::library::get("black-hole-cloud").unwrap();
    let scenario = read_scenario(text, "black-hole-cloud.yaml").unwrap();
    assert_eq!(scenario.target, TargetSelector::Cloud("aliyun".to_owned()));
    assert_eq!(scenario.allow, [Consent::Others]);
    assert_eq!(scenario.method[1].side, Side::Others);
    assert_eq!(scenario.hypothesis.data, Some(DataLimits::default()));
}

#[test]
fn a_mark_of_order_and_foreign_line_ends_do_no_harm() {
    let windows = format!("\u{feff}{}", FLEET.replace('\n', "\r\n"));
    assert_eq!(
        read_fleet(&windows, "f").unwrap(),
        read_fleet(FLEET, "f").unwrap()
    );
}

#[test]
fn an_error_knows_its_line_behind_a_mark_of_order() {
    let text = format!("\u{feff}{}", FLEET.replace("kind: Fleet", "kind: Flet"));
    let error = read_fleet(&text.replace('\n', "\r\n"), "f").unwrap_err();
    let position = error.position.unwrap();
    assert_eq!((position.line, position.column, position.length), (2, 7, 4));
    assert_eq!(error.source_line, "kind: Flet");
}

#[test]
fn anchors_may_be_used_sparingly() {
    let text = FLEET
        .replace("cloud: aws\n", "cloud: &aws aws\n")
        .replace("title: Four cells in three clouds", "title: Four");
    assert!(read_fleet(&text, "f").is_ok());
}

#[test]
fn a_cloud_of_forty_thousand_prefixes_is_read_and_its_overlap_found() {
    let prefix = |n: u32| format!("16.{}.{}.0/25", n / 256, n % 256);
    let list = |count| (0..count).map(prefix).collect::<Vec<_>>().join(", ");
    let with =
        |list: String| FLEET.replace("198.51.100.128/26", &format!("198.51.100.128/26, {list}"));
    let fleet = read_fleet(&with(list(40_000)), "f").unwrap();
    assert_eq!(fleet.clouds["aws"].prefixes.len(), 40_002);
    let clash = with(list(40_000)).replace("198.51.100.64/26", "198.51.100.64/26, 16.77.7.64/26");
    let error = read_fleet(&clash, "f").unwrap_err();
    assert!(
        error
            .message
            .contains("16.77.7.64/26 of cloud tencent overlaps"),
        "{error}"
    );
}

#[test]
fn what_is_done_to_writes_and_who_the_users_are() {
    let fleet = read_fleet(FLEET, "f").unwrap();
    assert_eq!(fleet.probes["order"].rewrites, Rewrites::default());
    let clients = fleet.entrypoints["shop"].clients;
    assert_eq!(clients, ClientMix::default());
    let text = FLEET
        .replace(
            "      readBack: \"http://{cell}/orders/{id}\"\n",
            "      readBack: \"http://{cell}/orders/{id}\"\n      update: { url: \
             \"http://{cell}/orders/{id}/{version}\", expect: { status: 204 } }\n      delete: { \
             method: POST, url: \"http://{cell}/delete\", body: '{\"id\":\"{id}\"}' }\n",
        )
        .replace(
            "http: { url: \"http://{address}/\" }",
            "http: { url: \"http://{address}/\" }\n      clients: { retries: 25%, honoursTtl: 75% }",
        );
    let fleet = read_fleet(&text, "f").unwrap();
    let Rewrites { update, delete } = &fleet.probes["order"].rewrites;
    let (update, delete) = (update.as_ref().unwrap(), delete.as_ref().unwrap());
    assert_eq!(
        (update.method, &update.expect),
        (HttpMethod::Put, &Expectation::status(204))
    );
    assert_eq!(
        (delete.method, &delete.expect),
        (HttpMethod::Post, &Expectation::status(200))
    );
    let clients = fleet.entrypoints["shop"].clients;
    assert_eq!((clients.retries, clients.honours_ttl), (0.25, 0.75));
    assert_eq!((clients.pinned, clients.ignores_ttl), (0.0, 0.0));
}
