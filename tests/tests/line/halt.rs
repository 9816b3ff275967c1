//! The kill switch of a fleet on real traffic: it ends what is held and refuses what comes.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proof::drill::{LONG, assert_says, cli, start};
use proof::lab::Lab;

use crate::users::{users_lost_target, users_reach_target};

#[test]
#[ignore = "needs root: a lab in network namespaces"]
fn halt_ends_a_drill_and_refuses_the_next_until_resume() {
    let lab = Lab::up("halted", &[]);
    let on_lab = |words: &[&str]| cli(&[words, &["--lab", &lab.name]].concat());
    let running = start(&lab, "black-hole-cloud", &LONG);
    running.until_fired();
    assert!(users_lost_target(&lab), "the fault bites");
    let halted = on_lab(&["halt", "--reason", "wrong cloud"]);
    assert_says(&halted, 0, &["gd-aliyun", "halted", &running.drill_id()]);
    assert!(users_reach_target(&lab), "over when halt is");
    let drill = running.finish();
    drill.assert_exit(3);
    drill.assert_reason(&["ended its part of the fault early", "halt"]);

    assert_says(&on_lab(&["status"]), 0, &["halted: wrong cloud"]);
    assert_says(
        &on_lab(&["run", "black-hole-cloud"]),
        3,
        &[
            "is halted (wrong cloud)",
            "cellwall resume",
            "nothing was altered",
        ],
    );
    let plan = ["plan", "black-hole-cloud", "--live"];
    assert_says(&on_lab(&plan), 3, &["would be refused", "wrong cloud"]);

    // Whether an agent that hangs holds anything is not known: that counts as residue.
    let hung = Pid::from_raw(lab.agent_pid("gd-aws", "front-1"));
    kill(hung, Signal::SIGSTOP).expect("the agent is there");
    let halted = on_lab(&["halt"]);
    kill(hung, Signal::SIGCONT).expect("the agent is there");
    assert_says(&halted, 4, &["gd-aws/front-1: not verified"]);

    assert_says(&on_lab(&["resume"]), 0, &["resumed", "wrong cloud"]);
    assert_says(&on_lab(&["resume"]), 0, &["was not halted"]);
    assert_says(&on_lab(&plan), 0, &["gd-aliyun"]);
}
