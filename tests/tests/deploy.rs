//! What is deployed fits the programs: units run commands that exist, and systemd understands them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use proof::binary;

const USAGE: i32 = 64;
const UNITS: [&str; 2] = ["cellwall-agent.service", "cellwall-agent-boot.service"];
/// Of systemd 254; older ones warn and go on.
const NEW_KEYS: [&str; 1] = ["DelegateSubgroup"];

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every command of a unit, as words.
fn commands(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with("Exec"));
    let commands = lines.filter_map(|line| line.split_once('='));
    commands
        .map(|(_, command)| command.split_whitespace().map(str::to_owned).collect())
        .collect()
}

/// Runs a command of a unit where it finds no journals and no certificates, so that it does nothing.
fn tried(words: &[String], state: &Path) -> Output {
    let word = |word: &String| {
        word.replace("${CELL}", "a")
            .replace("${NODE}", "n1")
            .replace("${LISTEN}", "[::1]:7443")
            .replace("/etc/cellwall", "/nowhere")
    };
    Command::new(binary("cellwall-agent"))
        .args(words[1..].iter().map(word))
        .arg("--state-dir")
        .arg(state)
        .output()
        .expect("the agent runs")
}

#[test]
fn the_units_commands_are_the_agents() {
    let state = tempfile::tempdir().expect("a folder");
    let mut found = 0;
    for name in UNITS {
        for words in commands(&unit(name)) {
            assert_eq!(words[0], "/usr/bin/cellwall-agent", "{name}");
            let output = tried(&words, state.path());
            assert_ne!(
                output.status.code(),
                Some(USAGE),
                "{name}: {words:?}: {output:?}"
            );
            let mut wrong = words.clone();
            wrong.push("--sell".to_owned());
            let output = tried(&wrong, state.path());
            assert_eq!(output.status.code(), Some(USAGE), "{name}: {wrong:?}");
            found += 1;
        }
    }
    assert_eq!(found, 3, "run, and revert --all after it and at boot");
}

#[test]
fn the_units_hold_what_ends_a_fault() {
    for (name, lines) in [
        (
            UNITS[0],
            &[
                "Restart=always",
                "ExecStopPost=/usr/bin/cellwall-agent revert --all",
                "LimitCORE=0",
                "StateDirectory=cellwall",
                "StateDirectoryMode=0700",
            ][..],
        ),
        (
            UNITS[1],
            &[
                "ExecStart=/usr/bin/cellwall-agent revert --all",
                "RequiresMountsFor=/var/lib/cellwall",
                "DefaultDependencies=no",
            ][..],
        ),
    ] {
        let text = unit(name);
        for wanted in lines {
            assert!(text.lines().any(|line| line == *wanted), "{name}: {wanted}");
        }
    }
}

/// What systemd says to the units, with the built agent in the place of the installed one.
fn verified(edit: impl Fn(&str) -> String) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let agent = binary("cellwall-agent");
    let paths: Vec<PathBuf> = UNITS.iter().map(|name| folder.path().join(name)).collect();
    for (name, path) in UNITS.iter().zip(&paths) {
        let text =
            edit(&unit(name)).replace("/usr/bin/cellwall-agent", &agent.display().to_string());
        std::fs::write(path, text).expect("a unit");
    }
    let mut command = Command::new("systemd-analyze");
    let output = command.args(["verify", "--man=no", "--recursive-errors=no"]);
    let output = output.args(&paths).output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours = text
        .lines()
        .filter(|line| line.contains("cellwall") && !NEW_KEYS.iter().any(|key| line.contains(key)));
    Some(ours.collect::<Vec<_>>().join("\n"))
}

/// Where there is no systemd nobody can be asked, and nobody would use the units.
#[test]
fn systemd_understands_the_units() {
    let Some(said) = verified(str::to_owned) else {
        return;
    };
    assert_eq!(said, "");
    let wrong = verified(|text| text.replace("LimitCORE=0", "LimitCore=0")).expect("as before");
    assert!(wrong.contains("LimitCore"), "{wrong}");
}
