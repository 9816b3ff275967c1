//! Which points are met: all of them, or a sample drawn by a seed.

use serde::{Deserialize, Serialize};

use crate::point::{Cleaner, Point, Way, When};

/// System calls by which the machine can be altered; half of a sample is drawn from these.
const ALTERING: &[&str] = &[
    "sendto",
    "sendmsg",
    "sendmmsg",
    "write",
    "pwrite64",
    "writev",
    "fsync",
    "fdatasync",
    "openat",
    "openat2",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "fchownat",
    "truncate",
    "ftruncate",
    "fallocate",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "kill",
    "tgkill",
    "pidfd_send_signal",
    "ioctl",
    "mount",
    "umount2",
    "mount_setattr",
    "move_mount",
    "clone",
    "clone3",
    "fork",
    "vfork",
    "execve",
    "flock",
    "copy_file_range",
    "sendfile",
    "bpf",
    "setns",
    "prctl",
    "sched_setscheduler",
    "socket",
    "bind",
    "close",
    "exit_group",
    "exit",
];

/// What an undisturbed, traced run has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The agent's system calls by name, in order.
    pub agent: Vec<String>,
    /// After this many of them the intents are on disk.
    pub armed: u32,
    /// After this many of them the journal says that a change is in force.
    pub in_force: u32,
    /// The guardian's whole life, when the agent lives.
    pub guardian: u32,
    /// The guardian's calls from the agent's death to its own end, with the changes in force.
    pub take_over: u32,
}

impl Counts {
    fn last(&self) -> u32 {
        self.agent.len() as u32
    }

    /// A call of the agent's behind the intents: there is something to take over.
    fn in_drill(&self, dice: &mut Dice) -> u32 {
        dice.within(self.armed.min(self.last()), self.last())
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
pub struct Dice(u64);

impl Dice {
    /// Scenes draw independently of each other, so that one can be repeated alone.
    pub fn of(seed: u64, scene: &str) -> Self {
        let mix = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(scene.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix))
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Of `first..=last`.
    pub fn within(&mut self, first: u32, last: u32) -> u32 {
        let many = u64::from(last.saturating_sub(first)) + 1;
        first + u32::try_from(self.roll() % many).unwrap_or(0)
    }

    /// One of `0..many` from each of `strata` equal parts.
    fn spread(&mut self, many: usize, strata: usize) -> Vec<usize> {
        let edge = |part: usize| part * many / strata;
        let pick = |part: usize| {
            let (from, to) = (edge(part), edge(part + 1));
            let width = (to - from).max(1) as u64;
            let one = usize::try_from(self.roll() % width).unwrap_or(0);
            (from + one).min(many.saturating_sub(1))
        };
        if many == 0 {
            return Vec::new();
        }
        (0..strata).map(pick).collect()
    }
}

/// How many points of a sample each way gets; the remainder goes to the first ways.
pub fn shares(points: usize) -> Vec<(Way, usize)> {
    let whole: usize = Way::ALL.iter().map(|(_, part)| part).sum();
    let mut shares: Vec<(Way, usize)> = Way::ALL
        .iter()
        .map(|(way, part)| (*way, points * part / whole))
        .collect();
    let given: usize = shares.iter().map(|(_, many)| many).sum();
    for share in shares.iter_mut().take(points - given) {
        share.1 += 1;
    }
    shares
}

/// A sample of so many points of one scene.
pub fn sample(scene: &str, counts: &Counts, points: usize, seed: u64) -> Vec<Point> {
    let mut dice = Dice::of(seed, scene);
    let mut chosen = Vec::new();
    for (way, many) in shares(points) {
        let calls = match way.cleaner {
            Cleaner::Agent => {
                let last = counts.guardian as usize;
                let calls = dice.spread(last, many);
                calls.into_iter().map(|call| call as u32 + 1).collect()
            }
            // Before the first intent there is nothing to take over.
            _ if way.take_over => (0..many).map(|_| counts.in_drill(&mut dice)).collect(),
            _ => agent_calls(counts, many, &mut dice),
        };
        for call in calls {
            let when = [When::Before, When::After][usize::from(dice.roll() % 2 == 1)];
            let take_over = way
                .take_over
                .then(|| dice.within(1, counts.take_over.max(1)));
            chosen.push(way.point(scene, call, when, take_over));
        }
    }
    chosen
}

/// Half of them anywhere, half at calls that can alter something.
fn agent_calls(counts: &Counts, many: usize, dice: &mut Dice) -> Vec<u32> {
    let altering: Vec<u32> = (1..)
        .zip(&counts.agent)
        .filter(|(_, name)| ALTERING.contains(&name.as_str()))
        .map(|(call, _)| call)
        .collect();
    let there = dice.spread(altering.len(), many / 2);
    let mut calls: Vec<u32> = there.into_iter().map(|index| altering[index]).collect();
    let rest = many - calls.len();
    let anywhere = dice.spread(counts.agent.len(), rest);
    calls.extend(anywhere.into_iter().map(|call| call as u32 + 1));
    calls.sort_unstable();
    calls
}

/// Every point. Only the take-over has two dimensions: there each call of the guardian is met once
/// for each cleaner, with the agent killed at a call drawn by the seed.
pub fn all(scene: &str, counts: &Counts, seed: u64) -> Vec<Point> {
    let mut dice = Dice::of(seed, scene);
    let mut chosen = Vec::new();
    for (way, _) in Way::ALL {
        let own = match (way.cleaner, way.take_over) {
            (Cleaner::Agent, _) => counts.guardian,
            (_, true) => counts.take_over,
            _ => counts.last(),
        };
        for number in 1..=own {
            for when in [When::Before, When::After] {
                let (call, take_over) = match way.take_over {
                    true => (counts.in_drill(&mut dice), Some(number)),
                    false => (number, None),
                };
                chosen.push(way.point(scene, call, when, take_over));
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn counts() -> Counts {
        let names = ["read", "poll", "poll", "poll", "sendto"];
        Counts {
            agent: (0..1000).map(|n| names[n % 5].to_owned()).collect(),
            armed: 300,
            in_force: 700,
            guardian: 200,
            take_over: 150,
        }
    }

    #[test]
    fn a_sample_is_as_large_as_asked_and_repeats_with_its_seed() {
        for points in [0, 1, 7, 11, 56] {
            let sample = sample("x", &counts(), points, 7);
            assert_eq!(sample.len(), points);
        }
        assert_eq!(sample("x", &counts(), 56, 7), sample("x", &counts(), 56, 7));
        assert_ne!(sample("x", &counts(), 56, 7), sample("x", &counts(), 56, 8));
        assert_ne!(
            sample("x", &counts(), 56, 7)[0].call,
            sample("y", &counts(), 56, 7)[0].call
        );
    }

    #[test]
    fn a_sample_has_every_way_and_stays_within_what_was_counted() {
        let sample = sample("x", &counts(), 110, 3);
        let ways: BTreeSet<Way> = sample.iter().map(Point::way).collect();
        assert_eq!(ways.len(), Way::ALL.len());
        for point in &sample {
            let last = if point.cleaner == Cleaner::Agent {
                200
            } else {
                1000
            };
            assert!((1..=last).contains(&point.call), "{point}");
            if let Some(call) = point.take_over {
                assert!((1..=150).contains(&call) && point.call >= 300, "{point}");
            }
        }
        let altering = sample
            .iter()
            .filter(|p| p.cleaner == Cleaner::Guardian && p.call % 5 == 0)
            .count();
        assert!(altering >= 14, "half at altering calls: {altering}");
        assert!(sample.iter().any(|p| p.when == When::Before));
        assert!(sample.iter().any(|p| p.when == When::After));
    }

    #[test]
    fn all_are_all() {
        let all = all("x", &counts(), 1);
        assert_eq!(all.len(), 2 * (3 * 1000 + 200 + 2 * 150));
        let met: BTreeSet<(u32, When)> = all
            .iter()
            .filter(|p| p.cleaner == Cleaner::Restart && p.take_over.is_none())
            .map(|p| (p.call, p.when))
            .collect();
        assert_eq!(met.len(), 2000);
    }

    #[test]
    fn the_edges_are_met_too() {
        let mut dice = Dice(1);
        let met: BTreeSet<u32> = (0..200).map(|_| dice.within(3, 6)).collect();
        assert_eq!(met, BTreeSet::from([3, 4, 5, 6]));
        assert_eq!(dice.within(9, 9), 9);
        assert_eq!(dice.spread(4, 4), [0, 1, 2, 3]);
        assert!(dice.spread(0, 4).is_empty());
    }
}
