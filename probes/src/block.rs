//! One second of one stream: what was sent in it, what became of that, and the record it makes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use scenarios::effects::{ClientKind, UserCount, UsersSeen};
use scenarios::history::{BadSample, Block};
use tokio::time::Instant;

use crate::outcome::Outcome;
use crate::stalls::Stalls;

/// Bad samples kept per block, and characters of each.
const SAMPLES: usize = 3;
const SAMPLE_TEXT: usize = 300;

/// The limit above which an answer is bad, as it was set for one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    pub stream: String,
    pub tau_ms: u64,
}

/// What a stream tolerates.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Slower is bad; `None` until the baseline has set it, when only failures are bad.
    pub tau: Option<Duration>,
    pub timeout: Duration,
}

impl Limits {
    /// When the last probe of a block is decided, counted from the end of the block.
    pub fn decided_after(&self) -> Duration {
        self.tau.unwrap_or(self.timeout).min(self.timeout)
    }
}

struct Slot {
    intended: Instant,
    /// `None`: still under way.
    ended: Option<(Instant, Outcome)>,
    /// What it was waiting for when it became too slow to be good.
    stage: Option<String>,
}

impl Slot {
    fn new(intended: Instant) -> Self {
        Self {
            intended,
            ended: None,
            stage: None,
        }
    }
}

/// A second that is not closed yet.
#[derive(Default)]
pub struct OpenBlock {
    slots: Vec<Slot>,
    answers: BTreeMap<String, u32>,
    users: BTreeMap<ClientKind, Vec<Slot>>,
    /// The longest TTL of an answer, in seconds.
    ttl_s: u32,
}

impl OpenBlock {
    /// Counts a probe as scheduled; returns its place for [`OpenBlock::end`].
    pub fn schedule(&mut self, intended: Instant) -> usize {
        self.slots.push(Slot::new(intended));
        self.slots.len() - 1
    }

    pub fn end(&mut self, slot: usize, at: Instant, outcome: Outcome) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.ended = Some((at, outcome));
        }
    }

    /// Keeps what a probe is waiting for, should its second close before it ends.
    pub fn note(&mut self, slot: usize, stage: String) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.stage = Some(stage);
        }
    }

    /// Counts a user's request; returns its place for [`OpenBlock::end_user`].
    pub fn user(&mut self, kind: ClientKind, intended: Instant) -> usize {
        let slots = self.users.entry(kind).or_default();
        slots.push(Slot::new(intended));
        slots.len() - 1
    }

    pub fn end_user(&mut self, kind: ClientKind, slot: usize, at: Instant, outcome: Outcome) {
        let slots = self.users.get_mut(&kind);
        if let Some(slot) = slots.and_then(|slots| slots.get_mut(slot)) {
            slot.ended = Some((at, outcome));
        }
    }

    /// Counts a DNS answer that pointed to `cell` and may be kept for so long.
    pub fn answer(&mut self, cell: &str, ttl_s: u32) {
        self.ttl_s = self.ttl_s.max(ttl_s);
        *self.answers.entry(cell.to_owned()).or_insert(0) += 1;
    }

    /// The record. A probe still under way at `now` is bad: it is older than the threshold. Told as a timeout
    /// it stays in `under_way`, for it may still end otherwise.
    pub fn close(self, head: Head<'_>, limits: Limits, stalls: &Stalls, now: Instant) -> Closed {
        let mut block = Block {
            scheduled: u32::try_from(self.slots.len()).unwrap_or(u32::MAX),
            answers: self.answers,
            users: users(&self.users, self.ttl_s, limits, stalls, now),
            ..Block::empty(head.stream, head.start_ms)
        };
        let mut samples = Vec::new();
        let mut latencies = BTreeMap::new();
        let mut under_way = BTreeSet::new();
        for (place, slot) in self.slots.into_iter().enumerate() {
            let judged = judge(&slot, limits, stalls, now);
            if let Judged::Invalid = judged {
                continue;
            }
            if slot.ended.is_none() {
                under_way.insert(place);
                block.under_way += 1;
            }
            block.valid += 1;
            if let Some((at, Outcome::Answered)) = slot.ended {
                let latency = at.saturating_duration_since(slot.intended);
                *latencies.entry(rounded_us(latency)).or_insert(0) += 1;
            }
            let (counter, what) = match judged {
                Judged::Good | Judged::Invalid => continue,
                Judged::Timeout(what) => (&mut block.timeouts, what),
                Judged::Reset(what) => (&mut block.resets, what),
                Judged::Error(what) => (&mut block.errors, what),
                Judged::ServerError(what) => {
                    block.server_errors += 1;
                    (&mut block.errors, what)
                }
                Judged::Slow(what) => (&mut block.slow, what),
            };
            *counter += 1;
            block.bad += 1;
            if samples.len() < SAMPLES {
                let at = slot.intended.saturating_duration_since(head.origin);
                samples.push(BadSample {
                    stream: head.stream.to_owned(),
                    vantage: None,
                    at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
                    what: what.chars().take(SAMPLE_TEXT).collect(),
                });
            }
        }
        block.latency_us = latencies.into_iter().collect();
        Closed {
            block,
            samples,
            under_way,
        }
    }
}

/// What the users of an entrypoint met; `None` where there are none.
fn users(
    users: &BTreeMap<ClientKind, Vec<Slot>>,
    ttl_s: u32,
    limits: Limits,
    stalls: &Stalls,
    now: Instant,
) -> Option<UsersSeen> {
    let count = |slots: &Vec<Slot>| {
        let mut count = UserCount::default();
        for slot in slots {
            let judged = judge(slot, limits, stalls, now);
            count.requests += u32::from(!matches!(judged, Judged::Invalid));
            count.bad += u32::from(!matches!(judged, Judged::Invalid | Judged::Good));
        }
        count
    };
    (!users.is_empty()).then(|| UsersSeen {
        ttl_s,
        kinds: users
            .iter()
            .map(|(kind, slots)| (*kind, count(slots)))
            .collect(),
    })
}

/// Which block a record is of.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub stream: &'a str,
    pub origin: Instant,
    pub start_ms: u64,
}

pub struct Closed {
    pub block: Block,
    pub samples: Vec<BadSample>,
    /// Places of probes that were told as timeouts before they had ended.
    pub under_way: BTreeSet<usize>,
}

enum Judged {
    Good,
    Invalid,
    Timeout(String),
    Reset(String),
    Error(String),
    ServerError(String),
    Slow(String),
}

fn judge(slot: &Slot, limits: Limits, stalls: &Stalls, now: Instant) -> Judged {
    let ended = slot.ended.as_ref().map_or(now, |(at, _)| *at);
    let latency = ended.saturating_duration_since(slot.intended);
    let limit = limits.decided_after();
    // Late only because the prober stood still: without that the probe might have been good.
    let own_fault =
        || latency.saturating_sub(stalls.within(slot.intended, ended)) < limit && latency >= limit;
    match slot.ended.as_ref().map(|(_, outcome)| outcome) {
        Some(Outcome::Invalid) => Judged::Invalid,
        Some(Outcome::Reset(what)) => Judged::Reset(what.clone()),
        Some(Outcome::Error(what)) => Judged::Error(what.clone()),
        Some(Outcome::ServerError(what)) => Judged::ServerError(what.clone()),
        Some(Outcome::Answered) if limits.tau.is_none_or(|tau| latency <= tau) => Judged::Good,
        _ if own_fault() => Judged::Invalid,
        Some(Outcome::Answered) => {
            Judged::Slow(format!("answered after {} ms", latency.as_millis()))
        }
        Some(Outcome::Timeout(what)) => Judged::Timeout(what.clone()),
        None => {
            let stage = slot.stage.as_ref().map(|stage| format!(", {stage}"));
            let stage = stage.unwrap_or_default();
            Judged::Timeout(format!(
                "no answer within {} ms{stage}",
                latency.as_millis()
            ))
        }
    }
}

/// Microseconds with three significant digits, which is what a reader of a latency can use.
fn rounded_us(latency: Duration) -> u64 {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let digits = micros.checked_ilog10().unwrap_or(0);
    let unit = 10_u64.pow(digits.saturating_sub(2));
    micros / unit * unit
}

/// The threshold of `verdict.md` 6: twice the 99th percentile of a baseline, within 50 ms and half
/// the timeout. Failed probes count as infinitely slow, so that an ill baseline gives the ceiling.
pub fn threshold<'a>(baseline: impl Iterator<Item = &'a Block>, timeout: Duration) -> Duration {
    let mut latencies: BTreeMap<u64, u64> = BTreeMap::new();
    let mut count = 0_u64;
    for block in baseline {
        count += u64::from(block.valid);
        for &(micros, times) in &block.latency_us {
            *latencies.entry(micros).or_insert(0) += u64::from(times);
        }
    }
    let ceiling = timeout / 2;
    let floor = Duration::from_millis(50).min(ceiling);
    let rank = (count * 99).div_ceil(100).max(1);
    let mut seen = 0;
    let p99 = latencies.into_iter().find_map(|(micros, times)| {
        seen += times;
        (seen >= rank).then(|| Duration::from_micros(micros))
    });
    p99.map_or(ceiling, |p99| (2 * p99).clamp(floor, ceiling))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        tau: Some(Duration::from_millis(500)),
        timeout: Duration::from_secs(1),
    };

    fn close(slots: &[(u64, Option<(u64, Outcome)>)], stall: Option<(u64, u64)>) -> Closed {
        let origin = Instant::now();
        let at = |ms| origin + Duration::from_millis(ms);
        let mut stalls = Stalls::default();
        if let Some((from, to)) = stall {
            stalls.woke(at(from), at(to));
        }
        let mut block = OpenBlock::default();
        for (intended, ended) in slots {
            let slot = block.schedule(at(*intended));
            if let Some((ms, outcome)) = ended {
                block.end(slot, at(*ms), outcome.clone());
            }
        }
        let head = Head {
            stream: "a/b",
            origin,
            start_ms: 0,
        };
        block.close(head, LIMITS, &stalls, at(1500))
    }

    fn counts(block: &Block) -> [u32; 7] {
        let Block {
            scheduled,
            valid,
            bad,
            timeouts,
            resets,
            errors,
            slow,
            ..
        } = *block;
        [scheduled, valid, bad, timeouts, resets, errors, slow]
    }

    #[test]
    fn a_block_adds_up_whatever_became_of_its_probes() {
        let closed = close(
            &[
                (0, Some((20, Outcome::Answered))),
                (100, Some((601, Outcome::Answered))),
                (200, None),
                (300, Some((301, Outcome::Reset("refused".into())))),
                (400, Some((401, Outcome::ServerError("status 502".into())))),
                (450, Some((451, Outcome::Error("status 404".into())))),
                (500, Some((500, Outcome::Invalid))),
            ],
            None,
        );
        assert_eq!(counts(&closed.block), [7, 6, 5, 1, 1, 2, 1]);
        assert_eq!(closed.block.server_errors, 1);
        assert_eq!(closed.block.latency_us, [(20_000, 1), (501_000, 1)]);
        assert_eq!(closed.samples.len(), SAMPLES);
        assert_eq!(closed.samples[1].at_ms, 200);
    }

    #[test]
    fn what_the_prober_delayed_is_invalid_but_no_excuse_for_what_was_late_anyway() {
        // The stall covers [300, 900].
        let closed = close(
            &[
                (200, Some((910, Outcome::Answered))),
                (250, Some((260, Outcome::Answered))),
                (250, Some((900, Outcome::Reset("refused".into())))),
                // Late by far more than the stall: the cell's fault.
                (0, Some((1450, Outcome::Timeout("no answer".into())))),
            ],
            Some((300, 900)),
        );
        assert_eq!(counts(&closed.block), [4, 3, 2, 1, 1, 0, 0]);
    }

    fn baseline(latency_us: Vec<(u64, u32)>, failed: u32) -> Block {
        let mut block = close(&[], None).block;
        block.valid = latency_us.iter().map(|(_, times)| times).sum::<u32>() + failed;
        block.latency_us = latency_us;
        block
    }

    #[test]
    fn threshold_is_twice_p99_within_its_bounds() {
        let tau = |latencies, failed| {
            threshold([baseline(latencies, failed)].iter(), Duration::from_secs(1)).as_millis()
        };
        assert_eq!(tau(vec![(5_000, 100)], 0), 50, "floor");
        assert_eq!(tau(vec![(5_000, 98), (100_000, 2)], 0), 200);
        assert_eq!(
            tau(vec![(5_000, 99), (100_000, 1)], 0),
            50,
            "p99 is the 99th of 100"
        );
        assert_eq!(tau(vec![(400_000, 100)], 0), 500, "ceiling");
        assert_eq!(
            tau(vec![(5_000, 90)], 10),
            500,
            "failures are infinitely slow"
        );
        assert_eq!(tau(vec![], 0), 500, "nothing known");
    }

    #[test]
    fn latencies_keep_three_digits() {
        let rounded = |micros| rounded_us(Duration::from_micros(micros));
        assert_eq!(
            [0, 7, 999, 1_234, 123_456].map(rounded),
            [0, 7, 999, 1_230, 123_000]
        );
    }
}
