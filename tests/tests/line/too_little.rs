//! Drills that prove nothing: without an effect, or without enough time.

use proof::drill::{COARSE, assert_says, cli};
use proof::lab::Lab;
use proof::seen::run;

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_fault_that_hits_nobody_is_ineffective() {
    let lab = Lab::up("unused", &[]);
    let drill = run(&lab, "aa-unused-address", &COARSE);
    drill.assert_exit(2);
    drill.assert_reason(&["gd-aliyun/checkout", "degraded"]);
    assert!(drill.text.contains("INEFFECTIVE"), "{}", drill.text);
}

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_drill_too_short_is_refused_with_the_window_it_needs() {
    let lab = Lab::up("short", &[]);
    let short = [
        "run",
        "black-hole-cloud",
        "--lab",
        &lab.name,
        "--window",
        "5s",
    ];
    assert_says(
        &cli(&short),
        3,
        &["needs >= ", "raise it to ", "nothing was altered"],
    );
    let plan = [
        "plan",
        "black-hole-cloud",
        "--lab",
        &lab.name,
        "--window",
        "5s",
    ];
    assert_says(&cli(&plan), 3, &["needs >= "]);
    let enough = ["plan", "black-hole-cloud", "--lab", &lab.name, "--live"];
    assert_says(
        &cli(&enough),
        0,
        &["gd-aliyun", "prefix", "lease", "guardian"],
    );
}
