//! The online abort: the baseline gate before fire (`gate`), then one look at every block after it.
//!
//! Make a `Watch` twice: before fire, where a refusal means that nothing is fired, and again when
//! the last baseline block is closed, after the `Fire` mark is in the history; that one is exactly
//! what the final verdict replays. Then give it every second since fire once, in order, when all
//! streams have closed their block; a stream without a block in that second counts as blind. A block
//! that is longer than a second is given with the second with which it ends.

use std::collections::{BTreeSet, HashMap};

use super::bet::{Bet, p0_max};
use super::coverage;
use super::derive::{Counted, Limit};
use super::doubt::Doubt;
use super::evidence::{
    Evidence, Span, block_is_half_bad, expected_per_block, is_attributed, is_blind,
};
pub use super::gate::NotReady;
use super::gate::{bad_baseline, bet_on, gate, has_target, vantage_gates};
use super::harm::Meter;
use super::jury::Jury;
use super::roll::{Member, Observer, Roll};
use super::witness::{self, Witnesses};
use crate::history::{Alarm, AlarmCause, Block, Counts, Record, Role, Stream};

/// Blind blocks in a row that stop the fault.
const BLIND_RUN: u64 = 3;

/// State of the online abort of one drill.
#[derive(Clone, Debug)]
pub struct Watch {
    block_ms: u64,
    fire: Option<u64>,
    next_ms: Option<u64>,
    streams: Vec<Watched>,
    roll: Roll,
    /// The controls of the vantages, by the name of each.
    vantage_controls: Vec<(String, Watched)>,
    /// Vantages whose controls have alarmed: they have no vote any more.
    left_out: BTreeSet<String>,
    /// Once the prober is not to be trusted, nothing that it says about a cell counts.
    prober_unsound: bool,
    doubt: Doubt,
    /// Absent where references tell the prober's network from the cells.
    witnesses: Option<Witnesses>,
    harm: Option<Meter>,
}

#[derive(Clone, Debug)]
pub(super) struct Watched {
    stream: Stream,
    bet: Bet,
    /// Length of its blocks.
    block_ms: u64,
    limit: Option<Limit>,
    /// Who votes on slow answers, where several ask for them.
    jury: Option<Jury>,
    /// DNS stream of an attributed stream, which carries the evidence while it is itself bad.
    dns: Option<String>,
    blind_limit: u64,
    blind_run: u64,
    degraded: bool,
    blind: bool,
}

impl Watch {
    /// The baseline gate (verdict.md section 4, NOT_STARTED): header and baseline blocks so far.
    pub fn new(records: &[Record]) -> Result<Watch, NotReady> {
        let evidence = Evidence::read(records).map_err(NotReady::Unreadable)?;
        Watch::from_evidence(&evidence)
    }

    pub(super) fn from_evidence(evidence: &Evidence<'_>) -> Result<Watch, NotReady> {
        let others = evidence.with_role(Role::Other).count();
        if others == 0 {
            return Err(NotReady::NoOthers);
        }
        if evidence.with_role(Role::Control).next().is_none() {
            return Err(NotReady::NoControl);
        }
        has_target(evidence)?;
        coverage::gate(evidence)?;
        let judgement = &evidence.header.judgement;
        let (alpha, margin) = (judgement.alpha, judgement.margin);
        let planned = judgement.planned_blocks;
        let vantage_controls = vantage_gates(evidence)?;
        let mut streams = Vec::new();
        for stream in evidence.with_role(Role::Control) {
            let base = gate(evidence, stream).map_err(|e| NotReady::BadControl(Box::new(e)))?;
            let bet = Bet::on_control(base.sample(), alpha, margin, planned);
            streams.push(Watched::new(evidence, stream, bet));
        }
        // What the verdict only reports may be as it is.
        for stream in evidence.with_role(Role::Target).filter(|s| s.is_probed()) {
            gate(evidence, stream)?;
        }
        for stream in evidence.with_role(Role::Other) {
            let base = gate(evidence, stream)?;
            let voiced = evidence.voiced(stream, Span { from: 0, to: 0 });
            let base = voiced.map_or(base, |(_, base)| base);
            let bet = bet_on(evidence, stream, &base, others);
            let most = p0_max(stream);
            if bet.p0() > most {
                return Err(bad_baseline(stream, &base, bet.p0(), most));
            }
            streams.push(Watched::new(evidence, stream, bet));
        }
        Ok(Watch {
            block_ms: judgement.block_ms,
            fire: evidence.fire,
            next_ms: evidence.fire,
            streams,
            roll: evidence.roll.clone(),
            vantage_controls,
            left_out: BTreeSet::new(),
            prober_unsound: false,
            doubt: Doubt::default(),
            witnesses: Witnesses::new(evidence),
            harm: Meter::new(evidence),
        })
    }

    /// All blocks that start at `start_ms`, in any order; returns every stream that alarms now.
    ///
    /// Controls are judged first: if one alarms or is blind, only that is returned, and no cell is
    /// called degraded from then on; while one looks ill, cells wait (`doubt`). A stream alarms once per cause. Seconds before fire, and
    /// seconds given before, are ignored; seconds left out count as blind for every stream.
    pub fn second<'b>(
        &mut self,
        start_ms: u64,
        blocks: impl IntoIterator<Item = &'b Block>,
    ) -> Vec<Alarm> {
        if self.fire.is_some_and(|fire| start_ms < fire)
            || self.next_ms.is_some_and(|next| start_ms < next)
        {
            return Vec::new();
        }
        let expected_ms = self.next_ms.unwrap_or(start_ms);
        let block_ms = self.block_ms;
        let at_ms = start_ms.saturating_add(block_ms);
        self.next_ms = Some(at_ms);
        let mut by_stream: HashMap<(Observer<'_>, &str), Vec<&Block>> = HashMap::new();
        for block in blocks {
            let key = (block.vantage.as_deref(), block.stream.as_str());
            by_stream.entry(key).or_default().push(block);
        }
        let seen = |by: Observer<'_>, name: &str, length: u64| {
            let mut blocks = by_stream.get(&(by, name))?.iter().copied();
            blocks.find(|b| b.start_ms.saturating_add(length) == at_ms)
        };
        let short = |by: Observer<'_>, name: &str| seen(by, name, block_ms);
        // Blocks that ended between the last second that was given and this one.
        let skipped = |length: u64| (start_ms / length).saturating_sub(expected_ms / length);
        self.look_at_vantages(at_ms, skipped(block_ms), &short);
        let voters = self.roll.voters(block_ms, &self.left_out, &short);
        let (mut prober, mut cells) = (Vec::new(), Vec::new());
        for watched in &mut self.streams {
            let dns_is_bad = watched
                .dns
                .as_deref()
                .and_then(|name| short(None, name))
                .is_some_and(block_is_half_bad);
            let ends = at_ms.is_multiple_of(watched.block_ms);
            let block = match ends {
                true if self.roll.covers(&watched.stream.name) => {
                    let voice = self.roll.voice(&watched.stream, block_ms, &voters, &short);
                    voice.map(Counted::Recorded)
                }
                true => watched.counted(block_ms, &voters, &seen),
                false => None,
            };
            let control = watched.stream.role == Role::Control;
            if control && ends {
                let (stream, length) = (&watched.stream, watched.block_ms);
                self.doubt.look(stream, length, block.as_deref(), at_ms);
            }
            let list = if control { &mut prober } else { &mut cells };
            watched.skip(skipped(watched.block_ms));
            if ends {
                watched.look(block.as_deref(), dns_is_bad);
            }
            list.extend(watched.alarms(at_ms));
        }
        // What vantages meet as well is not counted twice.
        let own = by_stream.iter().filter(|((by, _), _)| by.is_none());
        let own = own.flat_map(|(_, blocks)| blocks).copied();
        if let Some(witnesses) = &mut self.witnesses {
            witnesses.saw(own.clone());
        }
        self.said(prober, cells, (start_ms, at_ms), own)
    }

    /// Of the alarms of one second, those that count.
    fn said<'b>(
        &mut self,
        prober: Vec<Alarm>,
        cells: Vec<Alarm>,
        (start_ms, at_ms): (u64, u64),
        own: impl Iterator<Item = &'b Block>,
    ) -> Vec<Alarm> {
        if self.prober_unsound || !prober.is_empty() {
            self.prober_unsound = true;
            return prober;
        }
        let cells = self.doubt.pass(cells, self.block_ms, at_ms);
        let mut cells = witness::believed(self.witnesses.as_ref(), cells);
        if cells.iter().any(|alarm| alarm.cause == AlarmCause::Prober) {
            self.prober_unsound = true;
            return cells;
        }
        if let Some(harm) = &mut self.harm {
            cells.extend(harm.look(start_ms, at_ms, own));
        }
        cells
    }

    /// A vantage whose control alarms has no vote from this second on.
    fn look_at_vantages<'b>(
        &mut self,
        at_ms: u64,
        skipped: u64,
        find: &impl Fn(Observer<'_>, &str) -> Option<&'b Block>,
    ) {
        for (vantage, control) in &mut self.vantage_controls {
            let block = find(Some(vantage), &control.stream.name);
            control.skip(skipped);
            control.look(block, false);
            if control.alarms(at_ms).is_some() {
                self.left_out.insert(vantage.clone());
            }
        }
    }

    /// E of a stream that must not notice, or of a control, after the seconds given so far.
    pub fn e_value(&self, stream: &str) -> Option<f64> {
        self.streams
            .iter()
            .find(|w| w.stream.name == stream)
            .map(|w| w.bet.e_value())
    }
}

impl Watched {
    pub fn new(evidence: &Evidence<'_>, stream: &Stream, bet: Bet) -> Watched {
        let block_ms = evidence.block_ms_of(stream);
        let attributed = is_attributed(stream);
        let expected = expected_per_block(stream, block_ms);
        // DNS may leave a slow stream without a probe for a while: 15 missing probes are no chance.
        let by_chance = if attributed {
            (15.0 / expected).ceil() as u64
        } else {
            0
        };
        Watched {
            stream: stream.clone(),
            bet,
            block_ms,
            limit: evidence.limits.get(stream.name.as_str()).copied(),
            jury: Jury::of(evidence, stream),
            dns: attributed.then(|| format!("{}/dns", stream.probe)),
            blind_limit: BLIND_RUN.max(by_chance),
            blind_run: 0,
            degraded: false,
            blind: false,
        }
    }

    /// The stream's block, counted as its basis says.
    fn counted<'b>(
        &self,
        block_ms: u64,
        voters: &[&Member],
        find: &impl Fn(Observer<'_>, &str, u64) -> Option<&'b Block>,
    ) -> Option<Counted<'b>> {
        if let Some(jury) = &self.jury {
            let short = |by: Observer<'_>, name: &str| find(by, name, block_ms);
            let voice = jury.voice(&self.stream, block_ms, voters, &short);
            return voice.map(|block| Counted::Derived(Box::new(block)));
        }
        let block = find(None, self.stream.counted_from(), self.block_ms)?;
        match (&self.stream.basis.counts, self.limit) {
            (Counts::Probes | Counts::Requests, _) => Some(Counted::Recorded(block)),
            (_, Some(limit)) => Some(Counted::Derived(Box::new(limit.count(&self.stream, block)))),
            (_, None) => None,
        }
    }

    fn skip(&mut self, blocks: u64) {
        self.blind_run = self.blind_run.saturating_add(blocks);
    }

    fn look(&mut self, block: Option<&Block>, dns_is_bad: bool) {
        match block {
            Some(block) if !is_blind(&self.stream, self.block_ms, block) => {
                self.blind_run = 0;
                self.bet
                    .block(f64::from(block.bad) / f64::from(block.valid));
            }
            _ if dns_is_bad => {}
            _ => self.blind_run = self.blind_run.saturating_add(1),
        }
    }

    fn alarms(&mut self, at_ms: u64) -> Option<Alarm> {
        let alarm = |cause| Alarm {
            at_ms,
            stream: self.stream.name.clone(),
            cause,
        };
        if self.bet.is_over() && !self.degraded {
            self.degraded = true;
            let control = self.stream.role == Role::Control;
            return Some(alarm(if control {
                AlarmCause::Prober
            } else {
                AlarmCause::Degraded
            }));
        }
        if self.blind_run >= self.blind_limit && !self.blind {
            self.blind = true;
            return Some(alarm(AlarmCause::Blind));
        }
        None
    }
}
