//! Labs that were built wrong on purpose: with each flaw the drill must not pass. Those between cells
//! are drilled on clusters (`tests/clusters/flaws.rs`).

use proof::drill::{COARSE, Drill};
use proof::lab::Lab;
use proof::seen::run;

fn drill_with(flaw: &str, scenario: &str) -> Drill {
    let lab = Lab::up(flaw, &[flaw]);
    run(&lab, scenario, &COARSE)
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn one_side_of_a_black_hole_proves_nothing_about_a_database_in_the_lost_cloud() {
    let drill = drill_with("managed-database", "black-hole-cloud-one-side");
    drill.assert_exit(2);
    drill.assert_reason(&["gd-tencent", "orders-db", "not cut"]);
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_store_that_loses_acknowledged_orders_fails() {
    let drill = drill_with("lossy-store", "black-hole-cloud");
    drill.assert_exit(1);
    drill.assert_reason(&["lost", "gd-tencent"]);
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_store_that_writes_orders_twice_fails() {
    let drill = drill_with("duplicating-store", "black-hole-cloud");
    drill.assert_exit(1);
    drill.assert_reason(&["twice", "gd-tencent"]);
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_store_that_forgets_updates_and_deletions_fails() {
    let drill = drill_with("resurrecting-store", "black-hole-cloud");
    drill.assert_exit(1);
    drill.assert_reason(&["gd-tencent/orders", "resurrected"]);
    let ledgers = drill.ledgers();
    for ledger in &ledgers {
        let flawed = ledger.cell == "gd-tencent";
        assert_eq!(ledger.resurrected > 0, flawed, "{ledger:?}");
        assert_eq!((ledger.lost, ledger.stale), (0, 0), "{ledger:?}");
        assert!(ledger.updated > 50 && ledger.deleted > 50, "{ledger:?}");
    }
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_store_that_serves_older_versions_fails() {
    let drill = drill_with("stale-store", "black-hole-cloud");
    drill.assert_exit(1);
    drill.assert_reason(&["gd-tencent/orders", "stale", "before fire"]);
    for ledger in drill.ledgers() {
        let flawed = ledger.cell == "gd-tencent";
        assert_eq!(ledger.stale > 0, flawed, "{ledger:?}");
        assert_eq!((ledger.lost, ledger.resurrected), (0, 0), "{ledger:?}");
    }
}
