//! A history sorted for judging: marks, blocks by stream and time, and what is wrong with it.

mod tally;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::consistency;
use super::derive::{self, Counted, Limit};
use super::roll::Roll;
use crate::effects::LoadSecond;
use crate::history::{
    AgentEvent, Alarm, Block, ClockStep, Header, Interrupted, LateEnds, Ledger, Phase,
    READABLE_FORMATS, Record, Residue, Role, Stream, Volume, foreign_format,
};

pub(super) use tally::Tally;

/// A drill of more blocks than this is not believed (11 days of seconds).
const MAX_BLOCKS: u64 = 1_000_000;

/// The blocks of one stream by their start.
pub(super) type Series<'a> = BTreeMap<u64, Counted<'a>>;

/// Everything that the verdict is made from.
pub(super) struct Evidence<'a> {
    pub header: &'a Header,
    pub before: Option<u64>,
    pub thresholds: Option<u64>,
    pub fire: Option<u64>,
    pub reverted: Option<u64>,
    pub ended: Option<u64>,
    /// What is judged, as each stream counts it: the conductor's blocks, or, where others look too,
    /// those that speak for all. Those of slow answers and gauges are made from others.
    pub blocks: BTreeMap<&'a str, Series<'a>>,
    /// The streams of the header by their names: a million blocks look theirs up.
    known: HashMap<&'a str, &'a Stream>,
    /// Limits of the streams that count by one.
    pub limits: BTreeMap<&'a str, Limit>,
    pub volumes: Vec<&'a Volume>,
    pub roll: Roll,
    /// Vantages without a vote.
    pub left_out: BTreeSet<String>,
    /// Slow answers as those who ask for them vote, where vantages do (see `jury`).
    voiced: BTreeMap<&'a str, Series<'a>>,
    /// As the conductor saw it, where it is not the only one who looks.
    own: BTreeMap<&'a str, Series<'a>>,
    /// As each vantage saw it.
    seen: BTreeMap<&'a str, BTreeMap<&'a str, Series<'a>>>,
    pub alarms: Vec<&'a Alarm>,
    pub clock_steps: Vec<&'a ClockStep>,
    pub ledgers: Vec<&'a Ledger>,
    pub load: Vec<&'a LoadSecond>,
    pub late: Vec<&'a LateEnds>,
    pub residues: Vec<&'a Residue>,
    pub agents: Vec<&'a AgentEvent>,
    pub interrupted: Vec<&'a Interrupted>,
    /// Contradictions in the history, in plain words; any of them denies a pass.
    pub damage: Vec<String>,
}

/// Blocks that start in `[from, to)`, ms since the drill began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub from: u64,
    pub to: u64,
}

impl Span {
    pub fn holds(self, at: u64) -> bool {
        (self.from..self.to).contains(&at)
    }
}

impl<'a> Evidence<'a> {
    /// Fails, in plain words, only where nothing at all can be read from the history.
    pub fn read(records: &'a [Record]) -> Result<Evidence<'a>, String> {
        let Some(Record::Header(header)) = records.first() else {
            return Err("the history does not begin with a header".into());
        };
        let header: &Header = header;
        if !READABLE_FORMATS.contains(&header.format) {
            return Err(foreign_format(header.format));
        }
        if let Some(why) = consistency::unusable(header) {
            return Err(why);
        }
        let mut evidence = Evidence::empty(header);
        if evidence.blocks.len() != header.streams.len() {
            evidence
                .damage
                .push("two streams of the header have the same name".into());
        }
        evidence.call_the_roll();
        for record in &records[1..] {
            evidence.take(record);
        }
        evidence.check_marks();
        evidence.damage.extend(consistency::of_header(header));
        let records = consistency::of_records(&evidence);
        evidence.damage.extend(records);
        // By what the conductor saw: slow answers are not compared between places.
        evidence.count_by_limits();
        evidence.leave_out(BTreeSet::new());
        let last = evidence.last_block_end().max(evidence.ended.unwrap_or(0));
        if last / header.judgement.block_ms > MAX_BLOCKS {
            return Err(format!(
                "the history claims to last more than {MAX_BLOCKS} blocks"
            ));
        }
        Ok(evidence)
    }

    /// Of a drill of which nothing is known but its header.
    fn empty(header: &'a Header) -> Evidence<'a> {
        Evidence {
            header,
            before: None,
            thresholds: None,
            fire: None,
            reverted: None,
            ended: None,
            blocks: header
                .streams
                .iter()
                .map(|s| (s.name.as_str(), BTreeMap::new()))
                .collect(),
            known: header
                .streams
                .iter()
                .map(|s| (s.name.as_str(), s))
                .collect(),
            limits: BTreeMap::new(),
            volumes: Vec::new(),
            roll: Roll::of(header),
            left_out: BTreeSet::new(),
            voiced: BTreeMap::new(),
            own: BTreeMap::new(),
            seen: BTreeMap::new(),
            alarms: Vec::new(),
            clock_steps: Vec::new(),
            ledgers: Vec::new(),
            load: Vec::new(),
            late: Vec::new(),
            residues: Vec::new(),
            agents: Vec::new(),
            interrupted: Vec::new(),
            damage: Vec::new(),
        }
    }

    fn take(&mut self, record: &'a Record) {
        match record {
            Record::Header(_) => self.damage.push("the history has a second header".into()),
            Record::Phase(mark) => {
                let slot = match mark.phase {
                    Phase::Before => &mut self.before,
                    Phase::Thresholds => &mut self.thresholds,
                    Phase::Fire => &mut self.fire,
                    Phase::Reverted => &mut self.reverted,
                    Phase::End => &mut self.ended,
                };
                if slot.is_some() {
                    self.damage
                        .push(format!("the mark {:?} is there twice", mark.phase));
                } else {
                    *slot = Some(mark.at_ms);
                }
            }
            Record::Block(block) => self.take_block(block),
            Record::Volume(volume) => self.volumes.push(volume),
            Record::Alarm(alarm) => self.alarms.push(alarm),
            Record::Clock(step) => self.clock_steps.push(step),
            Record::Load(second) => self.load.push(second),
            Record::Late(late) => self.take_late(late),
            Record::Ledger(ledger) => self.ledgers.push(ledger),
            Record::Residue(residue) => self.take_residue(residue),
            Record::Torn => self.damage.push("the history ends within a line".into()),
            Record::Agent(event) => self.agents.push(event),
            Record::Interrupted(interrupted) => self.interrupted.push(interrupted),
            // For people: the verdict is made anew from the blocks.
            Record::Sample(_) | Record::SoFar(_) | Record::Verdict(_) => {}
        }
    }

    fn take_late(&mut self, late: &'a LateEnds) {
        match self.known.contains_key(late.stream.as_str()) {
            true => self.late.push(late),
            false => {
                let stream = &late.stream;
                self.damage
                    .push(format!("late ends of the unknown stream {stream}"));
            }
        }
    }

    fn take_block(&mut self, block: &'a Block) {
        let name = match &block.vantage {
            Some(vantage) => &format!("{} as seen from {vantage}", block.stream),
            None => block.stream.as_str(),
        };
        let at = block.start_ms;
        let stream = self.known.get(block.stream.as_str()).copied();
        let block_ms = stream.map_or(self.block_ms(), |stream| self.block_ms_of(stream));
        if !at.is_multiple_of(block_ms) {
            self.damage.push(format!(
                "{name}: the block at {at} ms is not on the block grid"
            ));
        } else if block.bad > block.valid || block.valid > block.scheduled {
            self.damage.push(format!(
                "{name}: the block at {at} ms has impossible counts"
            ));
        } else {
            // It counts all the same: what it shows to be degraded stays so.
            let why = stream.and_then(|stream| consistency::of_block(stream, block));
            if let Some(why) = why {
                self.damage
                    .push(format!("{name}: the block at {at} ms {why}"));
            }
            let seen = match block.vantage.as_deref() {
                None => self.blocks.get_mut(block.stream.as_str()),
                Some(vantage) => self
                    .seen
                    .get_mut(vantage)
                    .and_then(|streams| streams.get_mut(block.stream.as_str())),
            };
            match seen {
                None => self
                    .damage
                    .push(format!("{name}: blocks of a stream not in the header")),
                Some(blocks) => {
                    if blocks.insert(at, Counted::Recorded(block)).is_some() {
                        self.damage
                            .push(format!("{name}: the block at {at} ms is there twice"));
                    }
                }
            }
        }
    }

    /// What a node holds before the fault says nothing of what the fault leaves.
    fn take_residue(&mut self, residue: &'a Residue) {
        if self.fire.is_none() {
            let Residue { cell, node, .. } = residue;
            self.damage.push(format!(
                "{cell}/{node}: its residue is recorded before the fault"
            ));
        }
        self.residues.push(residue);
    }

    pub fn stream(&self, name: &str) -> Option<&'a Stream> {
        self.header.streams.iter().find(|s| s.name == name)
    }

    fn check_marks(&mut self) {
        let block_ms = self.header.judgement.block_ms;
        if self.fire.is_some_and(|fire| !fire.is_multiple_of(block_ms)) {
            self.damage.push("fire was not on a block boundary".into());
        }
        for stream in &self.header.streams {
            let own = self.block_ms_of(stream);
            if own != block_ms && self.fire.is_some_and(|fire| !fire.is_multiple_of(own)) {
                let name = &stream.name;
                self.damage
                    .push(format!("{name}: fire was not on a boundary of its blocks"));
            }
        }
        let marks: Vec<u64> = [
            self.before,
            self.thresholds,
            self.fire,
            self.reverted,
            self.ended,
        ]
        .into_iter()
        .flatten()
        .collect();
        if marks.windows(2).any(|pair| pair[0] > pair[1]) {
            self.damage
                .push("the marks of the drill are out of order".into());
        }
        self.damage.dedup();
    }

    /// Slow answers and gauges, by the limits that their baselines give.
    fn count_by_limits(&mut self) {
        let header = self.header;
        let half = self.before.unwrap_or(0)..self.thresholds.or(self.fire).unwrap_or(0);
        for stream in &header.streams {
            let blocks = self.blocks.get(stream.counted_from()).into_iter();
            let first = blocks
                .flat_map(|blocks| blocks.range(half.start..half.end.max(half.start)))
                .map(|(_, block)| &**block);
            if let Some(limit) = Limit::of(stream, first) {
                self.limits.insert(&stream.name, limit);
            }
        }
        derive::count_all(&header.streams, &self.limits, &mut self.blocks);
    }

    fn last_block_end(&self) -> u64 {
        let ends = self.header.streams.iter().filter_map(|stream| {
            let blocks = self.blocks.get(stream.name.as_str())?;
            let start = blocks.keys().next_back()?;
            Some(start.saturating_add(self.block_ms_of(stream)))
        });
        ends.max().unwrap_or(0)
    }

    pub fn block_ms(&self) -> u64 {
        self.header.judgement.block_ms
    }

    pub fn block_ms_of(&self, stream: &Stream) -> u64 {
        stream.block_ms(self.block_ms())
    }

    /// The margin of one stream.
    pub fn margin_of(&self, stream: &Stream) -> f64 {
        stream.margin(&self.header.judgement)
    }

    /// End of the watch on the block grid: the End mark, else where the blocks end.
    pub fn end(&self) -> u64 {
        let end = self.ended.unwrap_or_else(|| self.last_block_end());
        end / self.block_ms() * self.block_ms()
    }

    /// When the plan's last step was to end, ms since the drill began.
    pub fn planned_end(&self, fire: u64) -> u64 {
        let steps = self.header.plan.steps.iter();
        let longest = steps.map(|s| s.ends_ms()).max().unwrap_or(0);
        fire.saturating_add(longest)
    }

    /// Where a stream's baseline begins; what needs a limit gets it from the first half.
    pub fn baseline_from(&self, stream: &Stream) -> Option<u64> {
        if stream.needs_thresholds() {
            self.thresholds
        } else {
            self.before
        }
    }

    /// The baseline of a stream: up to fire, or up to its last block before there is a mark.
    pub fn baseline(&self, stream: &Stream) -> Tally {
        let blocks = self.blocks.get(stream.name.as_str());
        self.baseline_of(blocks, stream, 0)
    }

    fn baseline_of(&self, blocks: Option<&Series<'a>>, stream: &Stream, early_ms: u64) -> Tally {
        let Some(from) = self.baseline_from(stream) else {
            return Tally::default();
        };
        let last = blocks.and_then(|b| b.keys().next_back());
        let to = self
            .fire
            .map(|fire| fire.saturating_sub(early_ms))
            .or_else(|| last.map(|start| start.saturating_add(self.block_ms_of(stream))));
        let to = to.unwrap_or(from);
        self.tally_of(blocks, stream, Span { from, to })
    }

    /// Blocks belong to the span in which they start. Longer blocks than the judgement's that would
    /// end behind the End mark are not expected.
    pub fn tally(&self, stream: &Stream, span: Span) -> Tally {
        self.tally_of(self.blocks.get(stream.name.as_str()), stream, span)
    }

    fn tally_of(&self, blocks: Option<&Series<'a>>, stream: &Stream, span: Span) -> Tally {
        let block_ms = self.block_ms_of(stream);
        let span = self.up_to_the_last(block_ms, span);
        let (from, to) = (span.from.div_ceil(block_ms), span.to.div_ceil(block_ms));
        let mut tally = Tally {
            expected: to.saturating_sub(from),
            ..Tally::default()
        };
        tally.missing = tally.expected;
        let Some(blocks) = blocks else {
            return tally;
        };
        if span.from >= span.to {
            return tally;
        }
        for (start, block) in blocks.range(span.from..span.to) {
            tally.missing = tally.missing.saturating_sub(1);
            tally.bad += u64::from(block.bad);
            tally.valid += u64::from(block.valid);
            tally.scheduled += u64::from(block.scheduled);
            tally.pairs.push((block.bad, block.valid));
            tally.blind += u64::from(is_blind(stream, block_ms, block));
            if tally.episode_ms.is_none() && block_is_half_bad(block) {
                tally.episode_ms = Some(*start);
            }
        }
        tally
    }

    fn up_to_the_last(&self, block_ms: u64, span: Span) -> Span {
        let Some(ended) = self.ended.filter(|_| block_ms > self.block_ms()) else {
            return span;
        };
        let last = ended / block_ms * block_ms;
        let cut = span.to > last && span.to - last < block_ms;
        Span {
            to: if cut { last.max(span.from) } else { span.to },
            ..span
        }
    }

    /// Whatever is recorded that kept the drill from its planned course, ms since it began.
    pub fn stops(&self) -> impl Iterator<Item = u64> {
        let alarms = self.alarms.iter().map(|alarm| alarm.at_ms);
        let interrupted = self.interrupted.iter().map(|i| i.at_ms);
        let stepped = self.clock_steps.iter().map(|step| step.at_ms);
        alarms.chain(interrupted).chain(stepped)
    }

    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &'a Stream> {
        self.header
            .streams
            .iter()
            .filter(move |stream| stream.role == role)
    }
}

/// `ENTRYPOINT@CELL`: gets as many probes as DNS pointed to the cell.
pub(super) fn is_attributed(stream: &Stream) -> bool {
    let cell = stream.name.strip_prefix(&stream.probe);
    let cell = cell.and_then(|rest| rest.strip_prefix('@'));
    cell.is_some() && cell == stream.cell.as_deref()
}

/// Expected probes in one block.
pub(super) fn expected_per_block(stream: &Stream, block_ms: u64) -> f64 {
    let expected = stream.rate * block_ms as f64 / 1000.0;
    if expected.is_finite() {
        expected.max(0.0)
    } else {
        0.0
    }
}

/// Fewer than half of the probes that should be here. Attributed streams are drawn by DNS: there a
/// block is blind only if chance would not leave so few (Poisson tail of 1 in 10,000).
pub(super) fn is_blind(stream: &Stream, block_ms: u64, block: &Block) -> bool {
    let expected = expected_per_block(stream, block_ms);
    let (valid, scheduled) = (u64::from(block.valid), u64::from(block.scheduled));
    if valid == 0 || valid * 2 < scheduled {
        return true;
    }
    if is_attributed(stream) {
        return (valid as f64) < expected / 2.0 && rarer_than_chance(valid, expected);
    }
    // Whole probes: 2.5 expected may fall as 2 and 3.
    (valid * 2) < expected as u64
}

/// Whether a Poisson count of mean `expected` is `count` or less at most once in 10,000 times.
fn rarer_than_chance(count: u64, expected: f64) -> bool {
    if expected > 500.0 {
        return true; // below half of 500 is more than 11 standard deviations away
    }
    let mut term = (-expected).exp();
    let mut sum = term;
    for k in 1..=count {
        term *= expected / k as f64;
        sum += term;
    }
    sum <= 1e-4
}

pub(super) fn block_is_half_bad(block: &Block) -> bool {
    block.valid > 0 && u64::from(block.bad) * 2 >= u64::from(block.valid)
}
