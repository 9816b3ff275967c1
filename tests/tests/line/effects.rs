//! What a drill costs users, data and survivors, and what ends one that costs too much.

use std::time::Duration;

use proof::drill::{COARSE, Drill, LONG, Size, library};
use proof::lab::Lab;
use proof::seen::run_text;
use scenarios::effects::{ClientKind, WritePhase};
use scenarios::history::{AlarmCause, Record};
use scenarios::verdict::UserWindow;

use crate::users::users_reach_target;

/// The library's drill with more said under `spec`.
fn drill_with(lab: &Lab, more: &str, size: &Size) -> Drill {
    let text = library("black-hole-cloud");
    let text = text.replace("  hypothesis:", &format!("{more}  hypothesis:"));
    run_text(lab, &text, size)
}

/// DNS stops answering with the dead cell about 2 s after fire, and its answers may be kept for 5 s.
#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn users_are_counted_by_kind_and_survivors_carry_the_load() {
    let lab = Lab::with_dns_failover("effects");
    let drill = drill_with(&lab, "  load: { probe: home, peak: 30/s }\n", &LONG);
    drill.assert_exit(0);
    drill.assert_reason(&[
        "capacity of the other cells: tested",
        "gd-aws",
        "45.5/s needed",
    ]);
    drill.assert_reason(&["users of shop: worst case", "of the region's requests for"]);
    drill.assert_reason(&["what the target's users saw: timeouts"]);

    let seen = &drill.verdict.users[0];
    let row = |window, client| {
        let mut rows = seen.rows.iter();
        rows.find(|row| row.window == window && row.client == client)
            .unwrap_or_else(|| panic!("{window:?} {client:?}: {:?}", seen.rows))
    };
    let before = row(UserWindow::Before, None);
    assert!(
        before.low > 0.1 && before.high < 0.6,
        "about a third: {before:?}"
    );
    let retries = row(UserWindow::Before, Some(ClientKind::Retries));
    assert!(retries.rate < before.rate / 2.0, "{retries:?}");
    let after = row(UserWindow::After, Some(ClientKind::HonoursTtl));
    assert_eq!(after.bad, 0, "{after:?}");
    let pinned = row(UserWindow::After, Some(ClientKind::Pinned));
    assert!(
        pinned.low > 0.1,
        "a third of those who never ask DNS: {pinned:?}"
    );

    for ledger in drill.ledgers() {
        let before = ledger.phases[&WritePhase::Before].acknowledged;
        let after = ledger.phases[&WritePhase::After].acknowledged;
        assert!(before > 100 && after > 100, "{ledger:?}");
        let during = ledger.phases.get(&WritePhase::During);
        let during = during.map_or(0, |counts| counts.acknowledged);
        assert_eq!(during > 100, ledger.cell != "gd-aliyun", "{ledger:?}");
    }
}

/// The target alone has 150 probes a second; the budget is spent within three.
#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_harm_budget_ends_the_fault_and_counts_the_target() {
    let lab = Lab::up("harm", &[]);
    let drill = drill_with(&lab, "  harm: { failedRequests: 300 }\n", &LONG);
    drill.assert_exit(3);
    drill.assert_reason(&["harm budget was exceeded", "failedRequests allows 300"]);
    let alarm = drill.records.iter().find_map(|record| match record {
        Record::Alarm(alarm) => Some(alarm),
        _ => None,
    });
    let alarm = alarm.expect("the alarm is in the history");
    assert_eq!(
        (alarm.cause, alarm.stream.as_str()),
        (AlarmCause::Harm, "harm/failedRequests")
    );
    assert!(users_reach_target(&lab), "reverted before the exit");
    let ended = drill.residue();
    assert!(
        ended.iter().all(|r| r.verified && r.left.is_empty()),
        "{ended:?}"
    );
    let reverted = drill.records.iter().find_map(|record| match record {
        Record::Agent(event) if event.state == "reverted" => Some(event.happened_ms()),
        _ => None,
    });
    let late = Duration::from_millis(reverted.expect("an agent reverted") - alarm.at_ms);
    assert!(
        late < Duration::from_secs(6),
        "the deadline is 14 s after fire: {late:?}"
    );
}

/// A cloud that is gone is silent. Whoever expects it to answer is told that it did not.
#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn a_target_that_fails_in_another_way_than_declared_is_no_pass() {
    let lab = Lab::up("symptom", &[]);
    let text = library("black-hole-cloud").replace(
        "byAtLeast: 10%",
        "byAtLeast: 10%, symptom: { only: [server_errors] }",
    );
    let drill = run_text(&lab, &text, &COARSE);
    drill.assert_exit(2);
    drill.assert_reason(&[
        "another fault was in force",
        "timeouts",
        "at least 90.0 % 5xx",
    ]);
}
