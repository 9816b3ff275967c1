//! What this node's owner lets a conductor do: the agent's own file, which no conductor can override.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use scenarios::change::Change;
use serde::{Deserialize, Deserializer};

/// Read anew at each arm. There is no default: without a file everything but looking is refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Kinds of change that may be made, as `Change::kind` has them.
    #[serde(deserialize_with = "kinds")]
    pub allow: Vec<String>,
    /// For the whole drill and each of its steps, and for how long it may stay armed.
    #[serde(deserialize_with = "duration")]
    pub longest: Duration,
    /// How many target cells one plan may have.
    #[serde(default = "one")]
    pub cells: usize,
    #[serde(default)]
    pub protected: Protected,
    /// Whether a pod whose packets do not pass the host's nftables may be cut by tables in its own
    /// network namespace.
    #[serde(default = "yes")]
    pub pod_namespaces: bool,
    /// Whether a change without an undo (a killed process) may be made.
    #[serde(default)]
    pub irreversible: bool,
    /// Whether a drill may go without a lease: its fault then goes on to its deadline when the conductor
    /// is gone or cut off.
    #[serde(default)]
    pub no_lease: bool,
    /// Whether a cut may also cut the conductor's way to this agent.
    #[serde(default)]
    pub cut_management: bool,
    /// Whether a conductor may probe the fleet from this node, by a process without privileges.
    #[serde(default)]
    pub vantage: bool,
    /// Common names of the client certificates that may call.
    pub clients: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protected {
    /// Never cut, not in part either.
    #[serde(default)]
    pub cidrs: Vec<IpNet>,
    /// Files, file systems and control groups at or below these are never altered.
    #[serde(default)]
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error(
        "cannot read the policy file {path}: {cause}; everything but plan and status is refused"
    )]
    Read { path: String, cause: String },
    #[error("the policy file {path} is wrong: {cause}; everything but plan and status is refused")]
    Parse { path: String, cause: String },
}

impl Policy {
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|cause| Error::Read {
            path: name.clone(),
            cause: cause.to_string(),
        })?;
        serde_yaml::from_str(&text).map_err(|cause| Error::Parse {
            path: name,
            cause: cause.to_string(),
        })
    }
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn kinds<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let kinds = Vec::<String>::deserialize(from)?;
    let unknown = |kind: &&String| !Change::KINDS.contains(&kind.as_str());
    match kinds.iter().find(unknown) {
        Some(kind) => Err(serde::de::Error::custom(format!(
            "`{kind}` is no kind of change; there are {}",
            Change::KINDS.join(", ")
        ))),
        None => Ok(kinds),
    }
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|cause| {
        serde::de::Error::custom(format!(
            "`{text}` is not a duration such as `90s` or `1h`: {cause}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Policy::read(file.path())
    }

    const GOOD: &str = "allow: [firewall]\nlongest: 1h\ncells: 2\n\
                        protected: { cidrs: [10.0.0.0/8, \"2001:db8::/32\"] }\n\
                        clients: [conductor]\n";

    #[test]
    fn a_whole_policy_is_read() {
        let policy = read(GOOD).unwrap();
        assert_eq!(policy.longest, Duration::from_secs(3600));
        assert_eq!((policy.cells, policy.protected.cidrs.len()), (2, 2));
        assert_eq!(policy.clients, ["conductor"]);
    }

    #[test]
    fn the_budget_is_one_cell_unless_said() {
        let policy = read("allow: [firewall]\nlongest: 1h\nclients: [c]\n").unwrap();
        assert_eq!(policy.cells, 1);
        assert!(policy.pod_namespaces, "allowed unless said");
        assert!(
            !policy.no_lease && !policy.cut_management && !policy.vantage,
            "not unless said"
        );
        let bold = format!("{GOOD}no_lease: true\ncut_management: true\nvantage: true\n");
        let bold = read(&bold).unwrap();
        assert!(bold.no_lease && bold.cut_management && bold.vantage);
        let strict = "allow: []\nlongest: 1h\nclients: []\npod_namespaces: false\n";
        assert!(!read(strict).unwrap().pod_namespaces);
    }

    #[test]
    fn bad_policies_are_no_policies() {
        for (bad, word) in [
            ("", "unexpected end"),
            ("allow: [firewall]\nlongest: 1h\n", "clients"),
            ("allow: [firewal]\nlongest: 1h\nclients: [c]\n", "firewal"),
            ("allow: [firewall]\nlongest: 5\nclients: [c]\n", "duration"),
            (
                "allow: [firewall]\nlongest: 1h\nclients: [c]\nprotect: {}\n",
                "protect",
            ),
            (
                "allow: [firewall]\nlongest: 1h\nclients: [c]\nprotected: {cidrs: [10.0.0.0/40]}\n",
                "",
            ),
            (
                "allow: [firewall]\nlongest: 1h\nclients: [c]\nvantage: n1\n",
                "",
            ),
            (
                "allow: [firewall]\nlongest: 1h\nclients: [c]\ncells: -1\n",
                "",
            ),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(word), "{bad:?} gave {error}");
        }
    }

    #[test]
    fn a_missing_file_says_so() {
        let error = Policy::read(Path::new("/nowhere/policy.yaml"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nowhere/policy.yaml"), "{error}");
    }
}
