//! Where guardians live, apart from their agent, and what protects them there.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::READY_PATIENCE;
use crate::kernel::hierarchies;
use crate::kernel::process::readable_within;

/// A guardian looks every 200 ms whether its drill is over.
const LEAVING_LOOKS: u32 = 100;
const LEAVING_PAUSE: Duration = Duration::from_millis(10);

/// The control groups of this agent's guardians, one for each hierarchy.
#[derive(Clone, Debug, Default)]
pub struct Home {
    groups: Vec<PathBuf>,
}

impl Home {
    /// Those that were named, else the one beside an agent that systemd has given a subtree.
    pub fn of(named: Vec<PathBuf>) -> Self {
        let groups = match named.is_empty() {
            true => hierarchies::beside_agent().into_iter().collect(),
            false => named,
        };
        let home = Self { groups };
        home.tidy();
        home
    }

    pub(super) fn arguments(&self) -> impl Iterator<Item = PathBuf> {
        let each = |group: &PathBuf| [PathBuf::from("--cgroup"), group.clone()];
        self.groups
            .clone()
            .into_iter()
            .flat_map(move |group| each(&group))
    }

    /// Removes the groups that a guardian has left, if nothing is in them: one that was killed could not.
    pub fn tidy(&self) {
        for group in &self.groups {
            hierarchies::remove_if_empty(group);
        }
    }

    /// Waits a little until the last guardian has gone from there by itself, or was killed in going.
    pub async fn until_left(&self) {
        for _ in 0..LEAVING_LOOKS {
            self.tidy();
            if !self.groups.iter().any(|group| group.exists()) {
                return;
            }
            tokio::time::sleep(LEAVING_PAUSE).await;
        }
    }

    /// What a guardian will have: one is started that only says so.
    pub fn tried(&self) -> Protection {
        let failed = |why: &str| Protection {
            cgroup: Some(why.to_owned()),
            oom: Some(why.to_owned()),
        };
        let child = Command::new("/proc/self/exe")
            .args(["guardian", "--trial"])
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(cause) => return failed(&format!("cannot try it: {cause}")),
        };
        let mut line = String::new();
        let said = child.stdout.take().and_then(|mut pipe| {
            // In a group that stands still it would never answer.
            readable_within(&pipe, READY_PATIENCE)
                .ok()
                .filter(|ready| *ready)?;
            pipe.read_to_string(&mut line).ok()?;
            Protection::read(&line)
        });
        if said.is_none() {
            let _ = child.kill();
        }
        let _ = child.wait();
        let protection = said.unwrap_or_else(|| failed("a guardian that was tried did not answer"));
        protection.log();
        protection
    }
}

/// What keeps a guardian alive when the agent is not; a reason where it is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protection {
    /// Its own control groups: what freezes, limits or kills the agent's does not reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The kernel never chooses it when memory runs out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom: Option<String>,
}

impl Protection {
    /// The guardian's first words: a line of JSON, which says that it is ready.
    pub(super) fn say(&self) -> Result<(), String> {
        let line = serde_json::to_string(self).map_err(|error| error.to_string())?;
        let mut out = std::io::stdout();
        let said = writeln!(out, "{line}").and_then(|()| out.flush());
        said.map_err(|error| error.to_string())
    }

    pub(super) fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line.strip_suffix('\n')?).ok()
    }

    pub(super) fn log(&self) {
        for (what, missing) in [
            ("a control group of its own", &self.cgroup),
            ("protection from the OOM killer", &self.oom),
        ] {
            if let Some(why) = missing {
                tracing::warn!(why, "the guardian has not got {what}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guardian_is_ready_when_it_has_said_a_whole_line() {
        let missing = Protection {
            cgroup: Some("a: \"b\"\n".to_owned()),
            oom: None,
        };
        let line = serde_json::to_string(&missing).unwrap();
        assert_eq!(
            Protection::read(&line),
            None,
            "it died before the end of the line"
        );
        assert_eq!(Protection::read(&(line + "\n")), Some(missing));
        assert_eq!(Protection::read("{}\n"), Some(Protection::default()));
        assert_eq!(Protection::read("\n"), None);
        assert_eq!(Protection::read(""), None);
    }

    #[test]
    fn each_group_is_an_argument() {
        let groups = ["/a", "/b"].map(PathBuf::from);
        let arguments: Vec<PathBuf> = Home::of(groups.to_vec()).arguments().collect();
        let expected = ["--cgroup", "/a", "--cgroup", "/b"].map(PathBuf::from);
        assert_eq!(arguments, expected);
    }
}
