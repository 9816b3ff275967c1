//! What a plan holds, refuses and says about endpoints.

use std::time::Duration;

use super::*;
use crate::change::Change;
use crate::library;
use crate::plan::EndpointCut;
use crate::read::{read_fleet, read_scenario};

const DRILL: &str = "black-hole-cloud";

fn fleet() -> Fleet {
    read_fleet(include_str!("../../tests/fleet.yaml"), "fleet.yaml").unwrap()
}

fn drill(edit: impl Fn(&str) -> String) -> Scenario {
    read_scenario(&edit(library::get(DRILL).unwrap()), "drill.yaml").unwrap()
}

fn plan(edit: impl Fn(&str) -> String) -> Result<Plan, PlanError> {
    build(&fleet(), &drill(edit))
}

fn endpoint<'a>(plan: &'a Plan, name: &str) -> &'a EndpointCut {
    plan.endpoints
        .iter()
        .find(|endpoint| endpoint.name == name)
        .unwrap()
}

#[test]
fn both_sides_of_a_cloud_that_is_gone() {
    let plan = plan(str::to_owned).unwrap();
    assert_eq!(plan.target.cells, ["gd-aliyun"]);
    let cells = |step: usize| plan.steps[step].cells.keys().cloned().collect::<Vec<_>>();
    assert_eq!(cells(0), ["gd-aliyun"]);
    assert_eq!(cells(1), ["gd-aws", "gd-tencent", "gx-tencent"]);
    assert_eq!(plan.steps[0].cells["gd-aliyun"].nodes, ["n1", "n2"]);
    assert_eq!(plan.ends_ms(), 60_000);
    assert_eq!(plan.lease_ms, Some(5_000));
    let lines: Vec<String> = describe(&plan).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines[..2],
        [
            "step 0, gd-aliyun (n1, n2): cut from everyone but 2 IPv4 and 2 IPv6 prefixes, \
             both directions",
            "step 1, gd-aws (n1): cut from 2 IPv4 and 2 IPv6 prefixes, both directions",
        ]
    );
}

#[test]
fn without_a_lease_nothing_ends_by_it() {
    let leaseless = "allow: [others, no_lease]\n  lease: none";
    let plan = plan(|text| text.replace("allow: [others]", leaseless)).unwrap();
    assert_eq!(plan.lease_ms, None);
    for line in describe(&plan) {
        let ways = ["timer", "guardian", "gate", "owner", "journal"];
        assert_eq!(line.ends_by, ways);
    }
    let leased = super::build(&fleet(), &drill(str::to_owned)).unwrap();
    let with_lease = |line: &ChangeLine| line.ends_by.contains(&"lease");
    assert!(describe(&leased).iter().all(with_lease));
}

#[test]
fn a_cut_of_the_conductor_is_in_the_plan_and_in_words() {
    let edit = |text: &str| {
        text.replace("allow: [others]", "allow: [others, cut_management]")
            .replacen("peers: everyone,", "peers: everyone, management: cut,", 1)
    };
    let plan = plan(edit).unwrap();
    let lines: Vec<String> = describe(&plan).iter().map(ToString::to_string).collect();
    let said: Vec<bool> = lines
        .iter()
        .map(|line| line.contains("the conductor's way to the agent too"))
        .collect();
    assert_eq!(said, [true, false, false, false], "{lines:?}");
    assert!(plan.steps[0].title.contains("management"));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let json = || serde_json::to_string(&plan(str::to_owned).unwrap()).unwrap();
    let first = json();
    assert!((0..5).all(|_| json() == first));
}

#[test]
fn endpoints_in_the_target_are_cut_with_the_second_side_only() {
    let both = plan(str::to_owned).unwrap();
    assert_eq!(
        both.endpoints.len(),
        2,
        "the store in tencent is no business of this drill"
    );
    assert!(endpoint(&both, "pricing-db").cut && endpoint(&both, "pricing-db").survivor);

    let one_side = read_scenario(library::get("black-hole-cloud-one-side").unwrap(), "d").unwrap();
    let one_side = build(&fleet(), &one_side).unwrap();
    assert!(
        !endpoint(&one_side, "pricing-db").cut,
        "a host without an agent stays in reach"
    );
    assert!(
        endpoint(&one_side, "front").cut,
        "a node of the target drops its own packets"
    );
}

#[test]
fn a_node_of_the_target_cuts_those_it_names_and_nobody_else() {
    let one_side = |cell: &str| {
        let peers = format!("peers: {{ cell: {cell} }}");
        let mut scenario = drill(|text| text.replace("peers: everyone", &peers));
        scenario.method.pop();
        build(&fleet(), &scenario).unwrap()
    };
    assert!(endpoint(&one_side("gd-tencent"), "front").cut);
    assert!(!endpoint(&one_side("gd-aws"), "front").cut);
}

#[test]
fn half_a_cut_is_no_cut() {
    let second = |text: &str, from: &str, to: &str| {
        let (head, tail) = text.split_once("on: others").unwrap();
        format!("{head}on: others{}", tail.replacen(from, to, 1))
    };
    for way in ["ingress", "egress"] {
        let way = format!("direction: {way}");
        let plan = plan(|text| second(text, "direction: both", &way)).unwrap();
        assert!(!endpoint(&plan, "pricing-db").cut, "{way}");
    }
    let elsewhere = plan(|text| second(text, "peers: target", "peers: { cidrs: [10.1.0.0/24] }"));
    assert!(!endpoint(&elsewhere.unwrap(), "pricing-db").cut);
    let shorter = |text: &str| text.replacen("60s, on: others", "50s, on: others", 1);
    assert!(!endpoint(&plan(shorter).unwrap(), "pricing-db").cut);
    let later = |text: &str| {
        text.replacen(
            "at: 0s, duration: 60s, on: others",
            "at: 10s, duration: 50s, on: others",
            1,
        )
    };
    assert!(!endpoint(&plan(later).unwrap(), "pricing-db").cut);
}

#[test]
fn two_half_cuts_are_a_cut() {
    let plan = plan(|text| {
        let line = text
            .lines()
            .find(|line| line.contains("on: others, fault"))
            .unwrap();
        let half = |way: &str| line.replace("both", way);
        text.replace(line, &format!("{}\n{}", half("ingress"), half("egress")))
    });
    assert!(endpoint(&plan.unwrap(), "pricing-db").cut);
}

#[test]
fn cells_by_name_do_not_take_their_neighbours_with_them() {
    let plan = plan(|text| text.replace("{ cloud: aliyun }", "{ cells: [gd-tencent] }")).unwrap();
    assert!(
        plan.steps[1].cells.contains_key("gx-tencent"),
        "a survivor in the same cloud"
    );
    let neighbour = "198.51.100.70".parse().unwrap();
    assert!(!crate::prefixes::hold(&plan.target.prefixes, neighbour));
}

#[test]
fn a_budget_of_two_lets_two_cells_go() {
    let two = |text: &str| text.replace("{ cloud: aliyun }", "{ cloud: tencent }");
    assert_eq!(plan(two).unwrap_err().exit_code(), 3);
    let granted = |text: &str| two(text).replace("  allow:", "  budget: { cells: 2 }\n  allow:");
    assert_eq!(
        plan(granted).unwrap().target.cells,
        ["gd-tencent", "gx-tencent"]
    );
}

#[test]
fn a_fleet_without_survivors_proves_nothing() {
    let mut fleet = fleet();
    fleet.cells.retain(|name, _| name == "gd-aliyun");
    let error = build(&fleet, &drill(str::to_owned)).unwrap_err();
    assert!(matches!(error, PlanError::Refused(_)));
}

#[test]
fn a_scenario_made_by_code_has_errors_too() {
    let mut scenario = drill(str::to_owned);
    scenario.places = crate::places::Places::default();
    scenario.allow.clear();
    let text = build(&fleet(), &scenario).unwrap_err().to_string();
    assert!(text.starts_with("scenario: this step acts on"), "{text}");
}

#[test]
fn overrides_reach_every_window_and_rate() {
    let window = Duration::from_secs(20);
    let mut scenario = drill(str::to_owned);
    with_window(&mut scenario, window).unwrap();
    assert_eq!((scenario.before, scenario.after), (window, window));
    assert_eq!(build(&fleet(), &scenario).unwrap().ends_ms(), 20_000);
    assert!(with_window(&mut scenario, Duration::from_secs(7200)).is_err());

    let mut fleet = fleet();
    with_rate(&mut fleet, 50.0).unwrap();
    assert!(fleet.probes.values().all(|probe| probe.rate == 50.0));
    assert_eq!(fleet.entrypoints["shop"].rate, 150.0);
    for wrong in [0.0, 1e-300, 0.009, -1.0, f64::NAN, f64::INFINITY, 400.0] {
        assert!(with_rate(&mut fleet, wrong).is_err(), "{wrong}");
    }
    assert_eq!(
        fleet.entrypoints["shop"].rate, 150.0,
        "an error changes nothing"
    );
}

#[test]
fn what_has_no_undo_needs_consent() {
    use crate::change::{ProcessAct, ProcessChange, Processes};
    let process = |act| {
        let processes = Processes::Pids(vec![4711]);
        let change = Change::Process(ProcessChange { processes, act });
        vec![("gd-aliyun".to_owned(), vec![change])]
    };
    let mut scenario = drill(str::to_owned);
    let check = |scenario: &Scenario, act| check_undo(scenario, &process(act), "spec.method[0]");
    assert!(check(&scenario, ProcessAct::Freeze).is_ok());
    let refused = check(&scenario, ProcessAct::Kill).unwrap_err();
    assert_eq!(refused.exit_code(), 3);
    let text = refused.to_string();
    assert!(text.contains("allow: [irreversible]"), "{text}");
    assert!(text.contains("processes 4711 are killed"), "{text}");
    scenario.allow.push(Consent::Irreversible);
    assert!(check(&scenario, ProcessAct::Kill).is_ok());
}

#[test]
fn others_lose_nothing_but_sight_of_the_target() {
    use crate::change::{HelperChange, HelperWork};
    let fleet = fleet();
    let scenario = drill(str::to_owned);
    let target = Target::resolve(&fleet, &scenario.target).unwrap();
    let work = HelperWork::BurnCpu { threads: 1 };
    let changes = vec![(
        "gd-aws".to_owned(),
        vec![Change::Helper(HelperChange { work })],
    )];
    let refused = check_towards_target(&scenario, &target, &changes, "spec.method[1].fault");
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("burn the processors"), "{text}");
}
