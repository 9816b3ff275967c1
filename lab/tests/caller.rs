//! A user behind sudo: the command in the lab is theirs, and of the lab's files only what it needs.

mod support;

use std::process::Output;

use support::TestRoot;

/// `nobody` of every Linux.
const USER: &str = "65534";

fn as_user(root: &TestRoot, arguments: &[&str]) -> Output {
    let mut command = root.command(arguments);
    command.env("SUDO_UID", USER).env("SUDO_GID", USER);
    command.output().unwrap()
}

fn printed(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn under_sudo_enter_is_the_caller_who_reads_the_conductors_files_and_no_others() {
    let root = TestRoot::new("caller");
    printed(&as_user(&root, &["up", "--cells", "1"]));
    let shell = |script: &str| as_user(&root, &["enter", "--", "sh", "-c", script]);

    let status = printed(&shell("cat /proc/self/status"));
    assert!(
        status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}")),
        "{status}"
    );
    assert!(!status.contains("Gid:\t0"), "{status}");
    assert!(status.contains(&format!("Groups:\t{USER} \n")), "{status}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let none = format!("{set}:\t0000000000000000");
        assert!(status.contains(&none), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let named = printed(&shell("echo $HOME $USER $LOGNAME"));
    assert!(named.ends_with(" nobody nobody\n") && !named.starts_with("/root"));

    let lab = root.path.join("default");
    let may_read = |file: &str| {
        let command = format!("cat {}", lab.join(file).display());
        shell(&command).status.success()
    };
    let conductors = ["ca.pem", "conductor.pem", "conductor.key"].map(|name| format!("tls/{name}"));
    for file in conductors.iter().map(String::as_str).chain(["fleet.yaml"]) {
        assert!(may_read(file), "{file}");
    }
    for file in [
        "lab.json",
        "layout.json",
        "holder.log",
        "tls/store.gd-aliyun.key",
        "nodes/store.gd-aliyun/policy.yaml",
        "nodes/store.gd-aliyun/agent.log",
    ] {
        assert!(lab.join(file).exists(), "{file}");
        assert!(!may_read(file), "{file}");
    }
    // Root itself has no capability in there either, and gets the files with the next `enter`.
    let key = lab.join("tls/conductor.key").display().to_string();
    root.ok(&["enter", "--", "cat", &key]);
    assert!(may_read("tls/conductor.key"));
    // `exec` stays root's.
    assert_eq!(
        printed(&as_user(&root, &["exec", "users", "--", "id", "-u"])),
        "0\n"
    );
}

#[test]
#[ignore = "needs root: makes namespaces"]
fn a_caller_without_an_entry_is_refused_before_anything_is_made() {
    let root = TestRoot::new("stranger");
    let mut up = root.command(&["up", "--cells", "1"]);
    let output = up.env("SUDO_UID", "4294000001").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("4294000001"), "{errors}");
    assert_eq!(std::fs::read_dir(&root.path).unwrap().count(), 0);
}
