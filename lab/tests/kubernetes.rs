//! Cells that are real Kubernetes clusters: they serve, keep what they have, and leave nothing.

mod support;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use support::{Inventory, TestRoot, eventually, group_of, kill, namespaces_of, pid};

const LIMIT: Duration = Duration::from_secs(5);
/// Clients of an API server that was away come back within 30 s.
const PATIENCE: Duration = Duration::from_secs(60);
const SHOP: &str = "198.51.100.11:80";

fn up(root: &TestRoot) -> serde_json::Value {
    root.up(&["--kind", "kubernetes", "--cells", "1"])
}

/// kubectl of the lab, where the operator stands. Fails the test if it fails.
fn kubectl(root: &TestRoot, arguments: &[&str]) -> String {
    let exec = ["exec", "operator", "--", "kubectl", "--namespace", "shop"];
    root.ok(&[&exec[..], arguments].concat())
}

/// What the checkout of the only cell says things cost.
fn price(root: &TestRoot) -> Option<String> {
    let (status, body) = root.request(SHOP, "GET /checkout")?;
    (status == 200).then_some(body)
}

#[test]
#[ignore = "needs root and the programs of a cluster: starts real clusters"]
fn a_cell_serves_from_pods_and_keeps_what_it_has() {
    let root = TestRoot::new("pods");
    up(&root);

    let version = kubectl(
        &root,
        &["exec", "deployment/front", "--", "/shop", "--version"],
    );
    assert!(version.starts_with("shop "), "{version}");
    let logged = kubectl(&root, &["logs", "deployment/pricing"]);
    assert!(logged.contains("listening [::]:8081"), "{logged}");
    let families = kubectl(
        &root,
        &[
            "get",
            "pods",
            "--output",
            "jsonpath={.items[*].status.podIPs[*].ip}",
        ],
    );
    assert!(
        families.contains("10.1.64.") && families.contains("fd00:0:1:64:"),
        "{families}"
    );
    // What kubectl learns of this cell goes with the lab, not into its caller's home.
    let labs = std::fs::read_dir(&root.path).unwrap().flatten();
    let learnt = labs.filter(|lab| lab.path().join("kubectl-cache/discovery").is_dir());
    assert_eq!(learnt.count(), 1, "{}", root.path.display());
    let budget = kubectl(
        &root,
        &[
            "get",
            "pdb",
            "front",
            "--output",
            "jsonpath={.status.currentHealthy}",
        ],
    );
    assert_eq!(budget, "2");

    let file = root.path.join("kubeconfig-copy");
    root.ok(&["kubeconfig", "--out", file.to_str().unwrap()]);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let by_file = [
        "--kubeconfig",
        file.to_str().unwrap(),
        "--context",
        "gd-aliyun",
    ];
    let nodes = kubectl(
        &root,
        &[&by_file[..], &["get", "nodes", "--output", "name"]].concat(),
    );
    assert_eq!(nodes.trim(), "node/n1.gd-aliyun");

    an_order_outlives_the_pod_that_took_it(&root);
    prices_are_the_last_good_ones(&root);
    std::fs::remove_file(&file).unwrap();
}

fn an_order_outlives_the_pod_that_took_it(root: &TestRoot) {
    let order = "POST /orders\n\n{\"id\":\"kept-1\"}";
    assert_eq!(
        root.request(SHOP, order).map(|(status, _)| status),
        Some(201)
    );
    kubectl(root, &["delete", "pod", "store-0", "--wait"]);
    eventually("the order is read again", PATIENCE, || {
        root.request(SHOP, "GET /orders/kept-1")
            .is_some_and(|(status, _)| status == 200)
    });
}

fn prices_are_the_last_good_ones(root: &TestRoot) {
    let set = |price: &str| {
        let patch = format!("{{\"data\":{{\"price\":\"{price}\"}}}}");
        kubectl(root, &["patch", "configmap", "pricing", "--patch", &patch]);
    };
    set("5100");
    eventually("the new price is asked", PATIENCE, || {
        price(root).is_some_and(|body| body.contains("5100"))
    });
    set("cheap");
    kubectl(root, &["delete", "configmap", "pricing"]);
    std::thread::sleep(Duration::from_secs(3));
    assert!(price(root).is_some_and(|body| body.contains("5100")));
    // A pod that never saw a price is not ready and gets no users; the old one goes on.
    kubectl(root, &["rollout", "restart", "deployment/pricing"]);
    std::thread::sleep(Duration::from_secs(3));
    let new = kubectl(
        root,
        &[
            "get",
            "deployment",
            "pricing",
            "--output",
            "jsonpath={.status.unavailableReplicas}",
        ],
    );
    assert_eq!(new, "1");
    assert!(price(root).is_some_and(|body| body.contains("5100")));
    kubectl(
        root,
        &["create", "configmap", "pricing", "--from-literal=price=77"],
    );
    kubectl(
        root,
        &["rollout", "status", "deployment/pricing", "--timeout=60s"],
    );
    eventually("the newest price is asked", PATIENCE, || {
        price(root).is_some_and(|body| body.contains("77"))
    });
}

/// Waits until the host is as it was and no process is in the lab's control groups.
fn assert_gone(root: &TestRoot, before: &Inventory) {
    let begun = std::time::Instant::now();
    loop {
        let now = Inventory::take(&root.path);
        if now == *before {
            return;
        }
        assert!(
            begun.elapsed() < LIMIT,
            "left after {LIMIT:?}:\nbefore {before:#?}\nnow {now:#?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs root and the programs of a cluster: starts real clusters"]
fn down_and_a_killed_holder_and_a_killed_janitor_leave_nothing_of_a_cluster() {
    for end in ["down", "holder", "janitor"] {
        let root = TestRoot::new(&format!("cluster-{end}"));
        let before = Inventory::take(&root.path);
        let report = up(&root);
        let with = Inventory::take(&root.path);
        assert!(
            format!("{with:?}").contains("containerd-shim"),
            "the inventory sees shims"
        );
        let group = group_of(&root.path.join("default"));
        assert!(
            format!("{with:?}").contains(group.trim_matches('/')),
            "and control groups"
        );
        let lab = &report["labs"][0];
        match end {
            "down" => drop(root.ok(&["down"])),
            "holder" => kill(pid(&lab["holder_pid"])),
            _ => {
                kill(pid(&lab["janitor_pid"]));
                eventually("the processes end", LIMIT, || {
                    namespaces_of(&root.path).is_empty()
                });
                // Nobody was there to remove the rest: whoever looks next does.
                assert!(root.labs().is_empty());
            }
        }
        assert_gone(&root, &before);
    }
}

#[test]
#[ignore = "needs root and the programs of a cluster: starts real clusters"]
fn a_holder_killed_while_pods_start_leaves_nothing() {
    let root = TestRoot::new("cluster-early");
    let before = Inventory::take(&root.path);
    let mut up = root
        .command(&["up", "--kind", "kubernetes", "--cells", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("a shim runs", PATIENCE, || {
        format!("{:?}", Inventory::take(&root.path)).contains("containerd-shim")
    });
    let record = root.record("default").unwrap();
    kill(pid(&record["holder"]["pid"]));
    assert_eq!(up.wait().unwrap().code(), Some(70));
    assert_gone(&root, &before);
}

#[test]
#[ignore = "needs root: looks for programs before anything else"]
fn what_a_cluster_lacks_is_named_with_the_command_that_brings_it() {
    let root = TestRoot::new("lacking");
    let before = Inventory::take(&root.path);
    let output = root
        .command(&["up", "--kind", "kubernetes"])
        .env("CELLWALL_CACHE", "/nonexistent")
        .env_remove("KUBEBUILDER_ASSETS")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let errors = String::from_utf8_lossy(&output.stderr);
    for word in [
        "kubelet",
        "containerd",
        "cni/bridge",
        "make setup",
        "Nothing was changed",
    ] {
        assert!(errors.contains(word), "{word}: {errors}");
    }
    assert!(before == Inventory::take(&root.path));
}

#[test]
#[ignore = "needs root: looks for programs before anything else"]
fn the_fields_own_variable_comes_first_and_the_cache_has_the_rest() {
    let root = TestRoot::new("assets");
    let assets = root.path.join(".assets");
    std::fs::create_dir(&assets).unwrap();
    for name in ["etcd", "kube-apiserver", "kubectl"] {
        std::fs::write(assets.join(name), "").unwrap();
        std::fs::set_permissions(assets.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    // What cannot be run is not there.
    std::fs::write(assets.join("kubelet"), "").unwrap();
    let output = root
        .command(&["up", "--kind", "kubernetes"])
        .env("CELLWALL_CACHE", "/nonexistent")
        .env("KUBEBUILDER_ASSETS", &assets)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let errors = String::from_utf8_lossy(&output.stderr);
    for has in ["/etcd", "/kube-apiserver", "/kubectl"] {
        assert!(!errors.contains(has), "{has}: {errors}");
    }
    assert!(errors.contains("current/kubelet"), "{errors}");
}
