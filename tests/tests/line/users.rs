//! What users of the target see.

use proof::lab::Lab;
use proof::traffic::connects;

/// The balancer of the target, as users reach it.
const TARGET: &str = "198.51.100.10";
const TARGET_V6: &str = "2001:db8:1::10";

pub fn users_reach_target(lab: &Lab) -> bool {
    connects(lab, "users", TARGET, 80) && connects(lab, "users", TARGET_V6, 80)
}

pub fn users_lost_target(lab: &Lab) -> bool {
    !connects(lab, "users", TARGET, 80) && !connects(lab, "users", TARGET_V6, 80)
}
