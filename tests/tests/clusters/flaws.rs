//! Clusters that were wired wrong on purpose: between real pods, too, the drill must not pass.

use proof::drill::{COARSE_CLUSTERS, Drill};
use proof::lab::Lab;
use proof::seen::run;

fn drill_with(flaw: &str) -> Drill {
    let lab = Lab::clusters(flaw, &[flaw]);
    let drill = run(&lab, "black-hole-cloud", &COARSE_CLUSTERS);
    drill.assert_exit(1);
    // A flaw of the data plane is no flaw of the control plane.
    let fell = drill
        .verdict
        .reasons
        .iter()
        .filter(|reason| reason.contains("fell"));
    for reason in fell {
        assert!(!reason.contains("api-"), "{:#?}", drill.verdict.reasons);
    }
    // An alarm ends the drill early; what was looked at until then is whole. Found by review.
    let gaps = |reason: &String| reason.contains("blocks are missing");
    assert!(
        !drill.verdict.reasons.iter().any(gaps),
        "{:#?}",
        drill.verdict.reasons
    );
    drill
}

pub fn shared_config() {
    let drill = drill_with("shared-config");
    for cell in ["gd-tencent", "gd-aws"] {
        drill.assert_reason(&[cell, "checkout", "data", "after fire"]);
    }
}

pub fn shared_resolver() {
    let drill = drill_with("shared-resolver");
    for cell in ["gd-tencent", "gd-aws"] {
        drill.assert_reason(&[cell, "checkout", "data", "after fire"]);
    }
}

pub fn managed_database() {
    let drill = drill_with("managed-database");
    drill.assert_reason(&["gd-tencent", "orders", "data", "after fire"]);
    let mut fell = drill
        .verdict
        .reasons
        .iter()
        .filter(|reason| reason.contains("fell"));
    assert!(
        fell.all(|reason| !reason.contains("gd-aws")),
        "{:#?}",
        drill.verdict.reasons
    );
}
