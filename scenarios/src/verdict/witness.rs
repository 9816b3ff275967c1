//! Whether a damage can be told from a loss of the prober's own network.
//!
//! The loopback control never leaves the prober's machine. A fleet that names no references has nothing
//! that only shows the network, so there a damage is believed if some other stream was well while it lasted,
//! or if a vantage sees it too. What befell all that the prober asks beyond its machine is the prober's.

use std::collections::{BTreeMap, VecDeque};

use super::derive::{self, Limit};
use super::evidence::Evidence;
use super::frame::{Claim, Frame};
use super::roll::Roll;
use crate::history::{Alarm, AlarmCause, Block, Counts, Header, Role, Stream};

/// The control that every prober has, and that says nothing of its network.
const LOOPBACK: &str = "control/loopback";
/// The online abort looks so many blocks back.
const KEPT: usize = 60;
/// A witness was bad at most a quarter as often as what fell.
const WELL: u64 = 4;

/// Start, bad, valid.
type Seen = (u64, u32, u32);

/// Whether a control judges more than the prober's own machine.
pub(super) fn has_reference(header: &Header) -> bool {
    let mut streams = header.streams.iter();
    streams.any(|stream| stream.role == Role::Control && stream.name != LOOPBACK)
}

/// What is asked for by probes, and can fall with the prober's network; what a server has counted is no matter
/// of the way to it.
fn is_asked(stream: &Stream) -> bool {
    let answers = matches!(stream.basis.counts, Counts::Probes | Counts::Slow { .. });
    answers && stream.role != Role::Control
}

/// Above this the answers of any stream of probes are slow, as those of a stream of slow answers are: while a
/// network becomes slow, all answers may still be in time.
fn slow_limit(evidence: &Evidence<'_>, stream: &Stream) -> Option<Limit> {
    let to = evidence.thresholds.or(evidence.fire)?;
    let half = evidence.series(None, &stream.name)?;
    let half = half.range(evidence.before?..to.max(evidence.before?));
    derive::slow_limit(half.map(|(_, block)| &**block))
}

/// A block as a stream of slow answers would count it.
fn seen_slow(limit: Option<Limit>, stream: &Stream, block: &Block) -> Option<Seen> {
    let counted = limit?.count(stream, block);
    Some((counted.start_ms, counted.bad, counted.valid))
}

/// Whether vantages see the stream, or the one whose answers it counts.
fn is_confirmed(roll: &Roll, stream: &Stream) -> bool {
    roll.covers(stream.counted_from())
}

/// Whether `other` was well while something was as bad as `fallen` says (blocks with bad probes only).
fn was_well(fallen: &[Seen], other: impl Fn(u64) -> Option<(u32, u32)>) -> bool {
    let (mut ours, mut theirs) = ((0_u64, 0_u64), (0_u64, 0_u64));
    let mut asked = 0;
    for (start, bad, valid) in fallen {
        let Some((other_bad, other_valid)) = other(*start).filter(|(_, valid)| *valid > 0) else {
            continue;
        };
        asked += 1;
        ours = (ours.0 + u64::from(*bad), ours.1 + u64::from(*valid));
        theirs = (
            theirs.0 + u64::from(other_bad),
            theirs.1 + u64::from(other_valid),
        );
    }
    let product = |bad: u64, valid: u64| u128::from(bad) * u128::from(valid);
    let share_is_small = product(theirs.0 * WELL, ours.1) < product(ours.0, theirs.1);
    asked * 2 >= fallen.len() && asked > 0 && share_is_small
}

/// Whether the damage of a whole window may be the prober's own.
pub(super) fn is_alone(frame: &Frame<'_>, claim: &Claim<'_>) -> bool {
    let evidence = frame.evidence;
    if !is_asked(claim.stream)
        || has_reference(evidence.header)
        || is_confirmed(&evidence.roll, claim.stream)
    {
        return false;
    }
    let slow = !claim.stream.is_probed();
    let source = claim.stream.counted_from();
    let blocks = |stream: &Stream| -> BTreeMap<u64, Seen> {
        let limit = slow_limit(evidence, stream).filter(|_| slow);
        let span = claim.span.from..claim.span.to.max(claim.span.from);
        let series = evidence.series(None, &stream.name).into_iter();
        let blocks = series.flat_map(|series| series.range(span.clone()));
        let seen = blocks.filter_map(|(start, block)| match slow {
            true => seen_slow(limit, stream, block),
            false => Some((*start, block.bad, block.valid)),
        });
        seen.map(|seen| (seen.0, seen)).collect()
    };
    let Some(own) = evidence.stream(source) else {
        return false;
    };
    let fallen: Vec<Seen> = blocks(own)
        .into_values()
        .filter(|(_, bad, _)| *bad > 0)
        .collect();
    let streams = evidence.header.streams.iter();
    let mut others = streams.filter(|s| s.is_probed() && is_asked(s) && s.name != source);
    !fallen.is_empty()
        && !others.any(|other| {
            let seen = blocks(other);
            was_well(&fallen, |start| {
                seen.get(&start).map(|seen| (seen.1, seen.2))
            })
        })
}

/// The same for the online abort: what the conductor has seen of late.
#[derive(Clone, Debug)]
pub(super) struct Witnesses {
    /// Streams of probes by name.
    asked: BTreeMap<String, Asked>,
    /// Of streams of slow answers, whose answers they are.
    sources: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Asked {
    stream: Stream,
    /// A vantage sees it as well.
    is_confirmed: bool,
    limit: Option<Limit>,
    bad: VecDeque<Seen>,
    slow: VecDeque<Seen>,
}

impl Witnesses {
    /// `None` where references witness.
    pub fn new(evidence: &Evidence<'_>) -> Option<Witnesses> {
        if has_reference(evidence.header) {
            return None;
        }
        let (mut asked, mut sources) = (BTreeMap::new(), BTreeMap::new());
        for stream in evidence
            .header
            .streams
            .iter()
            .filter(|stream| is_asked(stream))
        {
            if !stream.is_probed() {
                sources.insert(stream.name.clone(), stream.counted_from().to_owned());
                continue;
            }
            let own = Asked {
                stream: stream.clone(),
                is_confirmed: is_confirmed(&evidence.roll, stream),
                limit: slow_limit(evidence, stream),
                bad: VecDeque::new(),
                slow: VecDeque::new(),
            };
            asked.insert(stream.name.clone(), own);
        }
        Some(Witnesses { asked, sources })
    }

    /// The conductor's blocks of one second; those of controls are passed over.
    pub fn saw<'b>(&mut self, blocks: impl Iterator<Item = &'b Block>) {
        let is_any_slow = !self.sources.is_empty();
        for block in blocks {
            let Some(asked) = self.asked.get_mut(&block.stream) else {
                continue;
            };
            keep(&mut asked.bad, (block.start_ms, block.bad, block.valid));
            let limit = asked.limit.filter(|_| is_any_slow);
            if let Some(seen) = seen_slow(limit, &asked.stream, block) {
                keep(&mut asked.slow, seen);
            }
        }
    }

    /// Whether the damage of this stream may be the prober's own.
    pub fn is_alone(&self, stream: &str) -> bool {
        let source = self.sources.get(stream);
        let of = |asked: &'_ Asked| -> VecDeque<Seen> {
            match source {
                Some(_) => asked.slow.clone(),
                None => asked.bad.clone(),
            }
        };
        let name = source.map_or(stream, String::as_str);
        let Some(own) = self.asked.get(name).filter(|own| !own.is_confirmed) else {
            return false;
        };
        let fallen: Vec<Seen> = of(own).into_iter().filter(|(_, bad, _)| *bad > 0).collect();
        let mut others = self.asked.iter().filter(|(other, _)| *other != name);
        !fallen.is_empty()
            && !others.any(|(_, other)| {
                let seen = of(other);
                let find = |start: u64| seen.iter().find(|seen| seen.0 == start);
                was_well(&fallen, |start| find(start).map(|seen| (seen.1, seen.2)))
            })
    }
}

fn keep(seen: &mut VecDeque<Seen>, block: Seen) {
    if seen.len() >= KEPT {
        seen.pop_front();
    }
    seen.push_back(block);
}

/// The alarms of cells that can be believed; if there is none, one of the prober.
pub(super) fn believed(witnesses: Option<&Witnesses>, alarms: Vec<Alarm>) -> Vec<Alarm> {
    let Some(witnesses) = witnesses else {
        return alarms;
    };
    let is_doubtful =
        |alarm: &Alarm| alarm.cause == AlarmCause::Degraded && witnesses.is_alone(&alarm.stream);
    let (doubtful, mut alarms): (Vec<Alarm>, Vec<Alarm>) =
        alarms.into_iter().partition(is_doubtful);
    if let (true, Some(first)) = (alarms.is_empty(), doubtful.into_iter().next()) {
        alarms.push(Alarm {
            cause: AlarmCause::Prober,
            ..first
        });
    }
    alarms
}

/// What is said of it.
pub(super) const ALONE: &str = "all else that the prober asks beyond its own machine failed with it, and \
    without a reference nobody knows whose network that was: name references in the fleet";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_one_that_was_asked_and_was_well() {
        let fallen = [(0, 20, 20), (1000, 10, 20)];
        let well = |bad: [Option<u32>; 2]| {
            was_well(&fallen, |start| Some((bad[(start / 1000) as usize]?, 20)))
        };
        assert!(well([Some(0), Some(0)]));
        assert!(well([Some(7), Some(0)]), "7 of 40 against 30 of 40");
        assert!(!well([Some(8), Some(0)]));
        assert!(!well([Some(20), Some(10)]), "it fell too");
        assert!(well([None, Some(0)]), "asked in half of them");
        assert!(!well([None, None]));
        assert!(!was_well(&fallen, |_| Some((0, 0))), "nothing was sent");
        assert!(!was_well(&[], |_| Some((0, 20))));
    }
}
