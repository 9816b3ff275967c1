//! Labs that were built wrong on purpose: with each flaw the drill must not pass.

use proof::drill::{Drill, SHORT, run};
use proof::lab::Lab;

fn drill_with(flaw: &str, scenario: &str) -> Drill {
    let lab = Lab::up(flaw, &[flaw]);
    run(&lab, scenario, &SHORT)
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_shared_config_fails_both_other_cells() {
    let drill = drill_with("shared-config", "black-hole-cloud");
    drill.assert_exit(1);
    drill.assert_reason(&["gd-tencent", "checkout", "after fire"]);
    drill.assert_reason(&["gd-aws", "checkout", "after fire"]);
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_shared_resolver_fails_both_other_cells() {
    let drill = drill_with("shared-resolver", "black-hole-cloud");
    drill.assert_exit(1);
    drill.assert_reason(&["gd-tencent", "checkout", "after fire"]);
    drill.assert_reason(&["gd-aws", "checkout", "after fire"]);
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_database_in_the_lost_cloud_fails_the_cell_that_uses_it() {
    let lab = Lab::up("managed-database", &["managed-database"]);
    let drill = run(&lab, "black-hole-cloud", &SHORT);
    drill.assert_exit(1);
    drill.assert_reason(&["gd-tencent", "orders", "after fire"]);
    let blamed = drill
        .verdict
        .reasons
        .iter()
        .filter(|reason| reason.contains("fell"));
    assert!(
        blamed.clone().all(|reason| !reason.contains("gd-aws")),
        "{:?}",
        drill.verdict.reasons
    );

    // The same lab with the second side of the black hole left out: nothing was proved.
    let drill = run(&lab, "black-hole-cloud-one-side", &SHORT);
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
