//! What lies beside a drill: another agent's drill on the same thing, a journal that is taken away, and
//! things under a journal's name that are none.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use scenarios::change::{CgroupLimit, Change, FileAct, FileChange, Instead, Limit};

use crate::support::*;

fn chmod(path: &Path, mode: u32) -> Change {
    Change::File(FileChange {
        path: path.display().to_string(),
        act: FileAct::Chmod { mode },
    })
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn in_force(host: &Host, change: &Change, lasts: &str) -> Changing {
    let mut changing = host.change("d", std::slice::from_ref(change), lasts);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    changing
}

/// A file with mode 644 on this machine's disk, which all hosts of a test see.
fn file() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "text\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    (folder, path)
}

#[test]
#[ignore = "needs root: mount namespaces"]
fn what_another_agents_drill_has_altered_is_refused_until_it_is_over() {
    let (one, other) = (Host::new(), Host::new());
    let (_folder, path) = file();
    let mut first = in_force(&one, &chmod(&path, 0o000), "2s");
    let (code, text) = other.change("e", &[chmod(&path, 0o001)], "5s").ends();
    assert_eq!(code, Some(70), "{text}");
    assert!(text.contains("drill d of another agent"), "{text}");
    assert_eq!(mode(&path), 0o000);
    first.ends_clean();
    assert_eq!(mode(&path), 0o644);
    other
        .change("f", &[chmod(&path, 0o001)], "200ms")
        .ends_clean();
    assert_eq!(mode(&path), 0o644);
}

/// Nobody holds its journal any more, but what it keeps lies beside the file.
#[test]
#[ignore = "needs root: mount namespaces"]
fn what_a_dead_agent_has_put_in_a_files_place_is_refused() {
    let (one, other) = (Host::new(), Host::new());
    let (folder, path) = file();
    let act = FileAct::Replace {
        content: "its fault".into(),
    };
    let replace = Change::File(FileChange {
        path: path.display().to_string(),
        act,
    });
    let mut first = in_force(&one, &replace, "1h");
    until("it bites", || {
        one.read(&path).as_deref() == Some("its fault")
    });
    let beside = folder.path().join("beside");
    std::fs::write(&beside, "").unwrap();
    let free = mode(&beside) ^ 0o1;
    other
        .change("e", &[chmod(&beside, free)], "100ms")
        .ends_clean();
    first.crash_with_guardian();
    let (code, text) = other.change("f", &[chmod(&path, 0o001)], "5s").ends();
    assert_eq!(code, Some(70), "{text}");
    assert!(
        text.contains("of drill d, which no agent here holds"),
        "{text}"
    );
    one.revert_clean();
    assert_eq!(one.read(&path).as_deref(), Some("text\n"));
    other
        .change("g", &[chmod(&path, 0o001)], "200ms")
        .ends_clean();
    assert_eq!(mode(&path), 0o644);
}

#[test]
#[ignore = "needs root: v1 control groups"]
fn two_agents_do_not_limit_one_group_needs_v1() {
    let group = Group::new("cpu").expect("a v1 hierarchy with limits");
    let limit = |millis| {
        Change::Cgroup(CgroupLimit {
            path: group.path(),
            limit: Limit::Cpu { millis },
        })
    };
    let (one, other) = (Host::new(), Host::new());
    let mut first = in_force(&one, &limit(500), "1500ms");
    let (code, text) = other.change("e", &[limit(200)], "5s").ends();
    assert_eq!(code, Some(70), "{text}");
    assert!(text.contains("cpu.cfs_quota_us"), "{text}");
    first.ends_clean();
    assert_eq!(group.read("cpu.cfs_quota_us"), "-1");
}

/// By another path, by a hard link, and by an agent whose program has another name.
#[test]
#[ignore = "needs root: mount namespaces, v1 control groups"]
fn the_same_thing_under_another_name_is_the_same_needs_v1() {
    let (one, other) = (Host::new(), Host::new());
    let group = Group::new("cpu").expect("a v1 hierarchy with limits");
    let limit = |path: String, millis| {
        let limit = Limit::Cpu { millis };
        Change::Cgroup(CgroupLimit { path, limit })
    };
    let (folder, path) = file();
    let (link, agent) = (folder.path().join("link"), folder.path().join("agent-2"));
    std::fs::hard_link(&path, &link).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_cellwall-agent"), &agent).unwrap();
    let around = format!("shift; exec {} \"$@\"", agent.display());
    let around = ["sh", "-c", &around, "sh"];
    let parent = group.path.parent().unwrap().display().to_string();
    let name = group.path.file_name().unwrap().to_str().unwrap();
    let dotted = format!("{parent}/./{name}");
    for (number, (first, second)) in [
        (limit(group.path(), 500), limit(dotted, 100)),
        (chmod(&path, 0o000), chmod(&link, 0o400)),
        (chmod(&path, 0o000), chmod(&path, 0o400)),
    ]
    .into_iter()
    .enumerate()
    {
        let drill = format!("d{number}");
        let mut changing = one.change(&drill, &[first], "1500ms");
        assert!(changing.says("in force"), "{:?}", changing.ends());
        let (code, text) = other
            .change_in(&around, &drill, &[second], "3s", &[])
            .ends();
        assert_eq!(code, Some(70), "{text}");
        assert!(text.contains("of another agent"), "{text}");
        changing.ends_clean();
        assert_eq!(
            (mode(&path), group.read("cpu.cfs_quota_us")),
            (0o644, "-1".into())
        );
    }
}

#[test]
#[ignore = "needs root: network and mount namespaces"]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let host = Host::with_ways();
    host.ip("route add 10.20.0.0/24 via 10.1.0.2");
    let before = host.routes();
    // As much as a pipe takes.
    let full = "head -c 65536 /dev/zero >&2; exec \"$@\"";
    for (drill, stopped) in [("d", false), ("e", true)] {
        let change = make::route("10.20.0.0/24", Some(Instead::Blackhole));
        let around = ["sh", "-c", full, "sh"];
        let mut changing = host.change_in(&around, drill, &[change], "1s", &[]);
        assert!(changing.says("in force"), "it waits for its log");
        if stopped {
            let agent = Pid::from_raw(changing.pid().cast_signed());
            kill(agent, Signal::SIGSTOP).unwrap();
        }
        host.closes(drill);
        assert_eq!(host.routes(), before);
    }
}

/// The guardian of a dead agent still has it: also the next agent must not take the fault for a value.
#[test]
#[ignore = "needs root: mount namespaces"]
fn a_journal_that_was_taken_away_is_walked_all_the_same() {
    for away in ["rm", "mv"] {
        let host = Host::new();
        let (_folder, path) = file();
        let mut changing = in_force(&host, &chmod(&path, 0o000), "60s");
        let journal = host.state().join("journal/d.journal");
        // The guardian looks every 200 ms.
        std::thread::sleep(std::time::Duration::from_millis(500));
        match away {
            "rm" => std::fs::remove_file(&journal).unwrap(),
            _ => std::fs::rename(&journal, host.path("elsewhere")).unwrap(),
        }
        changing.crash();
        until("the guardian has put it back", || mode(&path) == 0o644);
        // It has no name any more by which its drill could be known, and is whole all the same.
        if away == "mv" {
            until("the journal is closed", || {
                let text = std::fs::read_to_string(host.path("elsewhere")).unwrap();
                text.contains("\"closed\"")
            });
        }
    }
}

#[test]
#[ignore = "needs root: mount namespaces"]
fn a_pipe_under_a_journals_name_holds_nothing_up() {
    let host = Host::new();
    let (_folder, path) = file();
    let mut changing = in_force(&host, &chmod(&path, 0o000), "60s");
    changing.crash_with_guardian();
    let pipe = host.state().join("journal/a.journal");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let output = host.revert_all();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(
        text(&output).contains("not a regular file"),
        "{}",
        text(&output)
    );
    assert_eq!(mode(&path), 0o644, "the journals behind it are walked");
}

#[test]
#[ignore = "needs root: mount namespaces"]
fn a_journal_that_was_emptied_is_told_until_somebody_has_looked() {
    let host = Host::new();
    let (_folder, path) = file();
    let mut changing = in_force(&host, &chmod(&path, 0o000), "60s");
    changing.crash_with_guardian();
    let journal = host.state().join("journal/d.journal");
    std::fs::write(&journal, "").unwrap();
    for _ in 0..2 {
        let output = host.revert_all();
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
        assert!(
            text(&output).contains("its beginning is missing"),
            "{}",
            text(&output)
        );
    }
    // What an agent asks before it arms.
    let unfinished = agent::revert::unfinished(&host.state()).unwrap();
    assert_eq!(unfinished.len(), 1, "{unfinished:?}");
    std::fs::remove_file(&journal).unwrap();
    host.revert_clean();
}

#[test]
#[ignore = "needs root: mount namespaces"]
fn a_rehearsal_takes_no_strange_id_and_no_corrupt_journal_beside_it() {
    let host = Host::new();
    let (_folder, path) = file();
    let changes = host.path("changes.json");
    let json = serde_json::to_string(&[chmod(&path, 0o001)]).unwrap();
    std::fs::write(&changes, json).unwrap();
    let refused = |drill: &str, word: &str| {
        let (state, changes, drill) = (host.state(), changes.clone(), drill.to_owned());
        let output = host.run(move || {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cellwall-agent"));
            command.args(["change", "--drill", &drill, "--state-dir"]);
            command.arg(state).arg(changes).output().unwrap()
        });
        let told = text(&output);
        assert_eq!(
            (output.status.code(), mode(&path)),
            (Some(70), 0o644),
            "{told}"
        );
        assert!(
            told.contains(word) && told.contains("nothing was altered"),
            "{told}"
        );
    };
    for strange in ["", "..", "../d", "a b", "UPPER"] {
        refused(strange, "is no id of a drill");
    }
    std::fs::create_dir_all(host.state().join("journal")).unwrap();
    let corrupt = host.state().join("journal/a.journal");
    std::fs::write(&corrupt, "12 deadbeef {}\n").unwrap();
    refused("d", "a.journal is corrupt");
    std::fs::remove_file(corrupt).unwrap();
    host.change("d", &[chmod(&path, 0o001)], "200ms")
        .ends_clean();
}

#[test]
#[ignore = "needs root: mount namespaces"]
fn nothing_is_armed_with_a_state_directory_that_others_can_write() {
    let host = Host::new();
    let (_folder, path) = file();
    for loose in ["state", "state/journal"] {
        let directory = host.path(loose);
        std::fs::create_dir_all(host.path("state/journal")).unwrap();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).unwrap();
        let (code, text) = host.change("d", &[chmod(&path, 0o001)], "5s").ends();
        assert_eq!((code, mode(&path)), (Some(70), 0o644), "{text}");
        assert!(text.contains("its mode is 0777"), "{text}");
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
    }
    host.change("d", &[chmod(&path, 0o001)], "200ms")
        .ends_clean();
}
