//! Everything of a scene that a fault could alter, as text, and what differs between two of them.

mod files;
mod groups;
mod network;
mod processes;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use processes::{Process, list as processes};

use crate::world::World;

const REST: Duration = Duration::from_millis(100);
const REST_PATIENCE: Duration = Duration::from_secs(5);

/// What a line of the inventory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Section {
    Links,
    Addresses,
    Routes,
    Rules,
    Qdiscs,
    Nft,
    Sysctls,
    Processes,
    Groups,
    Files,
    Volumes,
    Mounts,
    State,
}

impl Section {
    /// Kinds of change of which one must be in the journal before this section may differ; none: no
    /// change has business there. Empty for what is not looked at while the agent is in the middle.
    pub fn altered_by(self) -> Option<&'static [&'static str]> {
        Some(match self {
            Section::Nft => &["firewall", "canary"],
            Section::Routes => &["route"],
            Section::Qdiscs => &["qdisc"],
            Section::Processes => &["process", "helper"],
            Section::Groups => &["process", "cgroup"],
            Section::Files => &["file"],
            Section::Volumes | Section::Mounts => &["filesystem"],
            // The kernel gives a device without a queue length one with its first qdisc.
            Section::Links => &["qdisc"],
            Section::Addresses | Section::Rules => &[],
            Section::Sysctls | Section::State => return None,
        })
    }
}

/// Lines by section. The order within a section counts: routes of one destination are tried in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory(BTreeMap<Section, Vec<String>>);

impl Inventory {
    pub fn take(world: &World) -> Result<Self, String> {
        let mut all = Self::during(world)?;
        all.0.insert(Section::Sysctls, network::sysctls()?);
        all.0
            .insert(Section::State, files::state(&world.place.state())?);
        Ok(all)
    }

    /// Without what need not be as before while an agent works, and without sysctls: a thousand
    /// files, which no change has business with; [`Self::take`] sees them at the end of every drill.
    pub fn during(world: &World) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        network::take(&world.devices, &mut all)?;
        all.insert(Section::Processes, processes::take(world)?);
        all.insert(Section::Groups, groups::take(&world.groups)?);
        all.insert(Section::Files, files::tree(&world.place.files())?);
        all.insert(Section::Volumes, files::volumes(world)?);
        all.insert(Section::Mounts, files::mounts()?);
        Ok(Self(all))
    }

    /// Network and files of a machine that has no other world than this.
    pub fn of_machine(devices: &[&str], files: &Path) -> Result<Self, String> {
        let mut all = Self::of_network(devices)?;
        all.0.insert(Section::Files, files::tree(files)?);
        Ok(all)
    }

    /// Of the network namespace alone that this process is in.
    pub fn of_network(devices: &[&str]) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        network::take(devices, &mut all)?;
        all.insert(Section::Sysctls, network::sysctls()?);
        Ok(Self(all))
    }

    /// Takes it until a new world has come to rest: links tell of their carrier up to a second late.
    pub fn at_rest(take: impl Fn() -> Result<Self, String>) -> Result<Self, String> {
        let begun = Instant::now();
        let mut before = take()?;
        loop {
            std::thread::sleep(REST);
            let now = take()?;
            let carriers = now.0.get(&Section::Links).into_iter().flatten();
            if now == before && !carriers.into_iter().any(|line| line.contains("NO-CARRIER")) {
                return Ok(now);
            }
            if begun.elapsed() > REST_PATIENCE {
                let moving = before.differences(&now);
                return Err(format!("the new world does not come to rest: {moving:?}"));
            }
            before = now;
        }
    }

    /// Leaves out the lines of a section that are not wanted.
    pub fn keep(&mut self, section: Section, wanted: impl Fn(&str) -> bool) {
        if let Some(lines) = self.0.get_mut(&section) {
            lines.retain(|line| wanted(line));
        }
    }

    /// What is there now and was not, and the other way round, by section.
    pub fn differences(&self, now: &Self) -> Vec<(Section, String)> {
        let none = Vec::new();
        let sections = self.0.keys().chain(now.0.keys());
        let sections: std::collections::BTreeSet<Section> = sections.copied().collect();
        let compared = sections.into_iter().filter_map(|section| {
            let before = self.0.get(&section).unwrap_or(&none);
            let after = now.0.get(&section).unwrap_or(&none);
            Some((section, difference(before, after)?))
        });
        compared.collect()
    }
}

/// In the manner of diff: `-` was, `+` is.
fn difference(before: &[String], after: &[String]) -> Option<String> {
    if before == after {
        return None;
    }
    let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
    for line in before {
        *balance.entry(line).or_default() -= 1;
    }
    for line in after {
        *balance.entry(line).or_default() += 1;
    }
    let mut text = String::new();
    for line in before.iter().filter(|line| balance[line.as_str()] < 0) {
        let _ = writeln!(text, "  - {line}");
    }
    for line in after.iter().filter(|line| balance[line.as_str()] > 0) {
        let _ = writeln!(text, "  + {line}");
    }
    if text.is_empty() {
        let moved = before.iter().zip(after).find(|(was, is)| was != is);
        let (was, is) = moved.unwrap_or((&before[0], &after[0]));
        let _ = writeln!(text, "  in another order, first:\n  - {was}\n  + {is}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn differences_are_told_with_their_side() {
        let was = lines(&["a", "b", "b", "c"]);
        assert_eq!(difference(&was, &was), None);
        let now = lines(&["a", "b", "c", "d"]);
        assert_eq!(difference(&was, &now).unwrap(), "  - b\n  - b\n  + d\n");
        let turned = difference(&was, &lines(&["b", "a", "b", "c"])).unwrap();
        assert!(turned.contains("in another order"), "{turned}");
        assert_eq!(difference(&[], &lines(&["x"])).unwrap(), "  + x\n");
    }

    #[test]
    fn a_section_that_is_missing_is_a_difference() {
        let with = Inventory(BTreeMap::from([(Section::Nft, lines(&["table"]))]));
        let without = Inventory::default();
        assert_eq!(without.differences(&with)[0].0, Section::Nft);
        assert_eq!(with.differences(&without).len(), 1);
        assert!(with.differences(&with).is_empty());
    }
}
