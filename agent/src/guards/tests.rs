//! The guards of the agent, each with what it must refuse.

use std::collections::BTreeMap;

use scenarios::change::{
    Direction, FileAct, FileChange, FilesystemAct, FilesystemChange, FirewallCut, HelperChange,
    HelperWork, Netem, ProcessAct, ProcessChange, RouteChange,
};
use scenarios::plan::{CellStep, PlanTarget};

use super::*;
use crate::policy::Protected;

fn me() -> Identity {
    Identity {
        cell: "a".into(),
        node: "n1".into(),
    }
}

fn policy() -> Policy {
    let protected = Protected {
        cidrs: vec!["192.0.2.0/24".parse().unwrap()],
        paths: vec!["/var/lib/cellwall".into()],
    };
    Policy {
        allow: vec!["firewall".to_owned()],
        longest: Duration::from_secs(3600),
        cells: 1,
        pod_namespaces: true,
        irreversible: false,
        no_lease: false,
        cut_management: false,
        vantage: false,
        protected,
        clients: vec!["conductor".into()],
    }
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn step(id: u32, side: Side, cell: &str, peers: Peers) -> Step {
    let change = Change::Firewall(FirewallCut {
        peers,
        direction: Direction::Both,
        management: Management::Keep,
    });
    let cell_step = CellStep {
        nodes: vec!["n1".into()],
        changes: vec![change],
    };
    Step {
        id,
        at_ms: 0,
        duration_ms: 60_000,
        side,
        title: String::new(),
        cells: BTreeMap::from([(cell.to_owned(), cell_step)]),
    }
}

/// Both sides of a black hole: target `a`, other cell `b`.
fn plan() -> Plan {
    Plan {
        format: PLAN_FORMAT,
        fleet: "f".into(),
        scenario: "s".into(),
        target: PlanTarget {
            cloud: "x".into(),
            cells: vec!["a".into()],
            prefixes: nets(&["10.1.0.0/16", "2001:db8:1::/48"]),
        },
        operator: vec!["203.0.113.10".parse().unwrap()],
        lease_ms: Some(5_000),
        steps: vec![
            step(
                0,
                Side::Target,
                "a",
                Peers::AllBut(nets(&["10.1.0.0/16", "192.0.2.0/24"])),
            ),
            step(
                1,
                Side::Others,
                "b",
                Peers::Only(nets(&["10.1.2.0/24", "2001:db8:1:2::/64"])),
            ),
        ],
        endpoints: Vec::new(),
    }
}

fn check(change: impl FnOnce(&mut Plan, &mut Policy)) -> Vec<String> {
    let (mut plan, mut policy) = (plan(), policy());
    change(&mut plan, &mut policy);
    refusals(&plan, &policy, &me())
}

/// Exactly one refusal, with this word.
fn refused(word: &str, change: impl FnOnce(&mut Plan, &mut Policy)) {
    only(&check(change), word);
}

fn only(refusals: &[String], word: &str) {
    assert!(
        refusals.len() == 1 && refusals[0].contains(word),
        "`{word}`: {refusals:?}"
    );
}

fn peers(plan: &mut Plan, step: usize) -> &mut Peers {
    let cell = plan.steps[step].cells.values_mut().next().unwrap();
    let Change::Firewall(cut) = &mut cell.changes[0] else {
        panic!("not a cut");
    };
    &mut cut.peers
}

#[test]
fn a_plan_with_both_sides_of_a_black_hole_passes_on_both_sides() {
    assert_eq!(check(|_, _| {}), Vec::<String>::new());
    let other = Identity {
        cell: "b".into(),
        node: "n1".into(),
    };
    assert_eq!(refusals(&plan(), &policy(), &other), Vec::<String>::new());
}

#[test]
fn each_guard_catches_its_own() {
    refused("2 cells", |plan, _| plan.target.cells.push("c".into()));
    refused("lease", |plan, _| plan.lease_ms = Some(999));
    refused("lease", |plan, _| plan.lease_ms = Some(60_001));
    refused("operator", |plan, _| plan.operator.clear());
    refused("one host", |plan, _| {
        plan.operator[0] = "0.0.0.0".parse().unwrap()
    });
    refused("one host", |plan, _| {
        plan.operator[0] = "::ffff:127.0.0.1".parse().unwrap()
    });
    refused("has id 7", |plan, _| plan.steps[1].id = 7);
    refused("no time", |plan, _| plan.steps[0].duration_ms = 0);
    refused("longest", |plan, _| plan.steps[0].duration_ms = 3_600_001);
    refused("longest", |plan, _| plan.steps[1].at_ms = 3_599_000);
    refused("2^64", |plan, _| plan.steps[1].at_ms = u64::MAX);
    refused("does not allow", |_, policy| policy.allow.clear());
    refused("nobody", |plan, _| {
        *peers(plan, 0) = Peers::Only(Vec::new())
    });
    refused("no change for node n1.a", |plan, _| {
        plan.steps[0].cells.get_mut("a").unwrap().nodes = vec!["n2".into()];
    });
    refused("400000 at most", |plan, _| {
        *peers(plan, 0) = Peers::AllBut(vec!["192.0.2.0/24".parse().unwrap(); 400_001]);
    });
}

#[test]
fn others_are_cut_from_the_target_and_nothing_else() {
    refused("others may only be cut from the target", |plan, _| {
        *peers(plan, 1) = Peers::AllBut(nets(&["10.1.0.0/16"]));
    });
    for outside in ["10.2.0.0/24", "10.0.0.0/8", "2001:db8:2::/64", "0.0.0.0/0"] {
        refused(outside, |plan, _| {
            *peers(plan, 1) = Peers::Only(nets(&["10.1.2.0/24", outside]))
        });
    }
    refused("cell a is a target", |plan, _| {
        plan.steps.push(step(
            2,
            Side::Others,
            "a",
            Peers::Only(nets(&["10.1.2.0/24"])),
        ))
    });
    refused("cell b is not a target", |plan, _| {
        plan.steps[1].side = Side::Target
    });
}

#[test]
fn protected_addresses_are_not_cut_in_part_or_whole() {
    for touching in ["192.0.2.0/24", "192.0.2.7/32", "192.0.0.0/16", "0.0.0.0/0"] {
        refused("protected", |plan, _| {
            *peers(plan, 0) = Peers::Only(nets(&[touching]))
        });
    }
    refused("protected", |plan, _| {
        *peers(plan, 0) = Peers::AllBut(nets(&["10.1.0.0/16"]))
    });
    refused("protected", |plan, _| {
        *peers(plan, 0) = Peers::AllBut(nets(&["192.0.2.0/25", "192.0.2.192/26"]));
    });
    let halves = nets(&["192.0.2.0/25", "192.0.2.128/25"]);
    assert_eq!(
        check(|plan, _| *peers(plan, 0) = Peers::AllBut(halves)),
        Vec::<String>::new()
    );
}

#[test]
fn plans_that_cannot_be_read_are_refused_in_words() {
    let good = serde_json::to_string(&plan()).unwrap();
    parse(good.as_bytes()).unwrap();
    for (bad, word) in [
        (good.replacen("\"format\":1", "\"format\":2", 1), "format 2"),
        (
            good.replacen("\"fleet\"", "\"extra\":1,\"fleet\"", 1),
            "extra",
        ),
        (good.replacen("firewall", "format_disk", 1), "format_disk"),
        (good[..good.len() - 2].to_owned(), "EOF"),
        ("[".repeat(100_000), "invalid"),
        ("\u{0}".into(), "expected"),
    ] {
        let error = parse(bad.as_bytes()).unwrap_err();
        assert!(error.contains(word), "`{word}`: {error}");
    }
}

#[test]
fn drill_ids_are_words() {
    for good in ["a", "drill-1", "0", &"a".repeat(63)] {
        assert!(is_word(good), "{good}");
    }
    for bad in [
        "",
        "-",
        "a-",
        "A",
        "a/b",
        "a.b",
        "..",
        "a b",
        "ä",
        &"a".repeat(64),
    ] {
        assert!(!is_word(bad), "{bad}");
    }
}

#[test]
fn what_is_protected_is_not_altered_by_any_kind() {
    let alone = |change: Change| {
        check(move |plan, policy| {
            policy.allow = Change::KINDS.iter().map(ToString::to_string).collect();
            plan.steps[0].cells.values_mut().next().unwrap().changes = vec![change.clone()];
        })
    };
    let file = |path: &str| {
        Change::File(FileChange {
            path: path.into(),
            act: FileAct::MoveAway,
        })
    };
    assert_eq!(alone(file("/etc/app.conf")), Vec::<String>::new());
    only(
        &alone(file("/var/lib/cellwall/journal/d.journal")),
        "protected",
    );
    only(&alone(file("etc/app.conf")), "absolute");
    only(&alone(file("/etc/../var/app.conf")), "absolute");
    let filesystem = |path: &str| {
        Change::Filesystem(FilesystemChange {
            path: path.into(),
            act: FilesystemAct::Freeze,
        })
    };
    only(&alone(filesystem("/var")), "/var/lib/cellwall is protected");
    let route = RouteChange {
        destination: "192.0.2.128/25".parse().unwrap(),
        table: 254,
        instead: None,
    };
    only(
        &alone(Change::Route(route)),
        "192.0.2.0/24, which is protected",
    );
    let kill = ProcessChange {
        processes: Processes::Pids(vec![2]),
        act: ProcessAct::Kill,
    };
    only(&alone(Change::Process(kill)), "irreversible: true");
}

#[test]
fn other_cells_get_no_other_kind_than_a_cut() {
    let helper = Change::Helper(HelperChange {
        work: HelperWork::BurnCpu { threads: 1 },
    });
    let refusals = check(move |plan, policy| {
        policy.allow.push("helper".into());
        let cell = plan.steps[1].cells.values_mut().next().unwrap();
        cell.changes.push(helper.clone());
    });
    only(&refusals, "others may only be cut from the target");
}

#[test]
fn what_is_protected_is_not_reached_through_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("f"), "").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&precious, &link).unwrap();
    let of = |protected: &Path, altered: PathBuf| {
        let protected = protected.to_owned();
        check(move |plan, policy| {
            policy.allow = Change::KINDS.iter().map(ToString::to_string).collect();
            policy.protected.paths = vec![protected.clone()];
            let change = Change::File(FileChange {
                path: altered.display().to_string(),
                act: FileAct::MoveAway,
            });
            plan.steps[0].cells.values_mut().next().unwrap().changes = vec![change];
        })
    };
    only(&of(&precious, link.join("f")), "protected");
    only(&of(&link, precious.join("f")), "protected");
    assert_eq!(of(&precious, folder.path().join("f")), Vec::<String>::new());
}

#[test]
fn what_leaves_for_the_protected_is_not_shaped() {
    let alone = |shape: Shape| {
        check(move |plan, policy| {
            policy.allow = Change::KINDS.iter().map(ToString::to_string).collect();
            let change = Change::Qdisc(QdiscChange {
                device: "up0".into(),
                shape: shape.clone(),
            });
            plan.steps[0].cells.values_mut().next().unwrap().changes = vec![change];
        })
    };
    let towards = |peer: &str| Shape::Towards {
        peers: vec![peer.parse().unwrap()],
        rate_bps: 1_000_000,
        netem: None,
    };
    let protected = "192.0.2.0/24, which is protected";
    only(&alone(towards("192.0.2.7/32")), protected);
    assert_eq!(alone(towards("198.51.100.0/24")), Vec::<String>::new());
    let told = alone(Shape::Netem(Netem::default())).join("; ");
    assert!(told.contains(protected), "{told}");
}
