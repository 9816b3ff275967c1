//! A lab leaves nothing on the host: after `down`, and when its processes are killed at any step.

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use support::{
    Guest, Inventory, TestRoot, eventually, kill, namespaces_of, network_namespaces, pid,
};

/// What the issue allows.
const LIMIT: Duration = Duration::from_secs(5);

/// Waits until the host is as it was and none of the lab's namespaces is anyone's any more.
fn assert_gone(
    root: &TestRoot,
    before: &Inventory,
    namespaces: &std::collections::BTreeSet<String>,
    limit: Duration,
) {
    let begun = std::time::Instant::now();
    loop {
        let now = Inventory::take(&root.path);
        let left: Vec<_> = network_namespaces()
            .intersection(namespaces)
            .cloned()
            .collect();
        if now == *before && left.is_empty() {
            return;
        }
        assert!(
            begun.elapsed() < limit,
            "left after {limit:?}: namespaces {left:?}\nbefore {before:#?}\nnow {now:#?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn down_leaves_nothing() {
    let root = TestRoot::new("down");
    let before = Inventory::take(&root.path);
    let report = root.up(&[]);
    let namespaces = namespaces_of(&root.path);
    // 18 nodes, 3 databases, 2 references, DNS, and the hub: the inventory does see a lab.
    assert_eq!(namespaces.len(), 25);
    assert_ne!(before, Inventory::take(&root.path));
    assert_eq!(report["labs"][0]["cells"].as_array().unwrap().len(), 3);
    root.ok(&["down"]);
    // `down` has waited: no patience here.
    assert_gone(&root, &before, &namespaces, Duration::from_millis(1));
    let again = root.run(&["down"]);
    assert_eq!(again.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&again.stderr).contains("no lab is up"));
}

/// Starts `up` so that it stays at a step, and kills the holder there.
fn kill_holder_at(step: &str) {
    let root = TestRoot::new(&format!("kill-{step}"));
    let before = Inventory::take(&root.path);
    let mut up = root
        .command(&["up", "--hold-at", step])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut holder = 0;
    eventually(step, Duration::from_secs(30), || {
        let Some(record) = root.record("default") else {
            return false;
        };
        holder = record["holder"]["pid"].as_i64().unwrap_or(0) as i32;
        record["step"] == step
    });
    let namespaces = namespaces_of(&root.path);
    assert!(
        !namespaces.is_empty(),
        "at {step} the lab stands in no namespace"
    );
    // At `up` the command gets its answer, which the record does not wait for.
    let answered = (step == "up").then(|| up.wait().unwrap());
    kill(holder);
    // The record of `up` itself is the last to go.
    let ended = answered.unwrap_or_else(|| up.wait().unwrap());
    assert_gone(&root, &before, &namespaces, LIMIT);
    assert_eq!(ended.code(), Some(if step == "up" { 0 } else { 70 }));
    assert!(root.labs().is_empty());
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn a_holder_killed_in_fresh_namespaces_leaves_nothing() {
    kill_holder_at("holder");
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn a_holder_killed_with_namespaces_leaves_nothing() {
    kill_holder_at("namespaces");
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn a_holder_killed_with_links_leaves_nothing() {
    kill_holder_at("links");
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn a_holder_killed_with_starting_services_leaves_nothing() {
    kill_holder_at("services");
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn a_holder_killed_when_all_is_up_leaves_nothing() {
    kill_holder_at("up");
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn a_killed_janitor_takes_the_lab_with_it_and_its_files_are_swept() {
    let root = TestRoot::new("janitor");
    let before = Inventory::take(&root.path);
    let report = root.up(&["--cells", "1"]);
    let namespaces = namespaces_of(&root.path);
    kill(pid(&report["labs"][0]["janitor_pid"]));
    eventually("the processes end", LIMIT, || {
        namespaces_of(&root.path).is_empty()
    });
    assert!(
        root.record("default").is_some(),
        "nobody was there to remove the files"
    );
    assert!(root.labs().is_empty());
    assert_gone(&root, &before, &namespaces, LIMIT);
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn an_up_that_is_interrupted_leaves_nothing() {
    let root = TestRoot::new("interrupted");
    let before = Inventory::take(&root.path);
    let mut up = root
        .command(&["up", "--cells", "1", "--hold-at", "links"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("links", Duration::from_secs(30), || {
        root.record("default")
            .is_some_and(|record| record["step"] == "links")
    });
    let namespaces = namespaces_of(&root.path);
    assert!(!namespaces.is_empty());
    kill(up.id() as i32);
    up.wait().unwrap();
    assert_gone(&root, &before, &namespaces, LIMIT);
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn a_process_that_entered_the_lab_does_not_keep_it_alive() {
    let root = TestRoot::new("guest");
    let before = Inventory::take(&root.path);
    let report = root.up(&["--cells", "1"]);
    let namespaces = namespaces_of(&root.path);
    // `exec` becomes the command, and the shell becomes the sleeper, so none has a child that
    // a failing test would leave.
    let start = |command: &mut Command| Guest(command.spawn().unwrap());
    let mut polite = start(&mut root.command(&["exec", "users", "--", "sleep", "600"]));
    let deaf = [
        "exec",
        "store.gd-aliyun",
        "--",
        "sh",
        "-c",
        "trap '' TERM; exec sleep 600",
    ];
    let mut stubborn = start(&mut root.command(&deaf));
    let mut outside = start(Command::new("sleep").arg("600"));
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    for guest in [&polite, &stubborn] {
        let link = format!("/proc/{}/ns/net", guest.0.id());
        eventually("the guest enters", LIMIT, || {
            std::fs::read_link(&link).unwrap() != own
        });
    }
    kill(pid(&report["labs"][0]["holder_pid"]));
    // A zombie stands in no namespace, so the guests need not be reaped for this.
    assert_gone(&root, &before, &namespaces, LIMIT);
    assert!(!polite.0.wait().unwrap().success());
    assert!(!stubborn.0.wait().unwrap().success());
    assert!(
        outside.0.try_wait().unwrap().is_none(),
        "a process of the host was ended"
    );
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn an_up_that_fails_says_why_and_leaves_nothing() {
    let root = TestRoot::new("failing");
    // A shop that ends at once.
    let programs = root.path.join("programs");
    std::fs::create_dir(&programs).unwrap();
    let shop = programs.join("shop");
    std::fs::write(&shop, "#!/bin/sh\necho out of stock >&2\nexit 3\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&shop, executable).unwrap();
    let agent = support::programs().join("cellwall-agent");
    std::os::unix::fs::symlink(agent, programs.join("cellwall-agent")).unwrap();
    let before = Inventory::take(&root.path);
    let output = root.run(&["up", "--bin-dir", programs.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(70));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("exit code 3") && errors.contains("out of stock"),
        "{errors}"
    );
    assert_gone(
        &root,
        &before,
        &Default::default(),
        Duration::from_millis(1),
    );
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn what_is_not_a_labs_survives_status_up_and_down() {
    let root = TestRoot::new("others");
    let empty = root.path.join("empty");
    let file = root.path.join(".gone-mine/data/f");
    std::fs::create_dir(&empty).unwrap();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "precious").unwrap();
    let commands: [&[&str]; 4] = [&["status"], &["up", "--cells", "1"], &["status"], &["down"]];
    for command in commands {
        root.ok(command);
        assert!(empty.is_dir(), "after {command:?}");
        assert!(file.is_file(), "after {command:?}");
    }
}
