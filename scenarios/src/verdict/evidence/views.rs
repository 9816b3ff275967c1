//! What each of those who look saw, and what is judged where several look (see `roll`).

use std::collections::{BTreeMap, BTreeSet};

use super::super::derive::Counted;
use super::super::jury::Jury;
use super::super::roll::{self, Observer};
use super::{Evidence, Series, Span, Tally};
use crate::history::Stream;

impl<'a> Evidence<'a> {
    /// A place for what each vantage saw.
    pub(super) fn call_the_roll(&mut self) {
        for vantage in &self.header.vantages {
            let name = vantage.name.as_str();
            let streams = vantage.streams.iter().map(String::as_str);
            for asked in streams.clone() {
                let stream = self.stream(asked);
                if !stream.is_some_and(|stream| roll::may_be_asked(self.header, stream)) {
                    let words = format!("vantage {name} asks {asked}, which is no stream for it");
                    self.damage.push(words);
                }
            }
            let places = streams.map(|stream| (stream, Series::new())).collect();
            if self.seen.insert(name, places).is_some() {
                self.damage
                    .push(format!("two vantages of the header are called {name}"));
            }
        }
    }

    /// Makes the judged blocks anew, without the votes of these vantages.
    pub fn leave_out(&mut self, left_out: BTreeSet<String>) {
        let covered: Vec<&'a Stream> = self
            .header
            .streams
            .iter()
            .filter(|stream| self.roll.covers(&stream.name))
            .collect();
        if covered.is_empty() {
            return; // the conductor alone looks
        }
        self.left_out = left_out;
        for stream in &covered {
            let name = stream.name.as_str();
            if !self.own.contains_key(name) {
                let own = self.blocks.remove(name).unwrap_or_default();
                self.own.insert(name, own);
            }
        }
        let header = self.header;
        let juries = header.streams.iter();
        let juries = juries.filter_map(|stream| Some((stream, Jury::of(self, stream)?)));
        let juries: Vec<(&'a Stream, Jury)> = juries.collect();
        let mut judged: BTreeMap<&'a str, Series<'a>> = BTreeMap::new();
        let mut voiced: BTreeMap<&'a str, Series<'a>> = BTreeMap::new();
        let starts = self.seen.values().flat_map(BTreeMap::values);
        let starts = starts.chain(self.own.values());
        let starts: BTreeSet<u64> = starts.flat_map(|series| series.keys().copied()).collect();
        let block_ms = self.block_ms();
        for start in starts {
            let find = |by: Observer<'_>, stream: &str| {
                let series = self.series(by, stream)?;
                series.get(&start).and_then(Counted::recorded)
            };
            let voters = self.roll.voters(block_ms, &self.left_out, &find);
            for stream in &covered {
                if let Some(block) = self.roll.voice(stream, block_ms, &voters, &find) {
                    let series = judged.entry(stream.name.as_str()).or_default();
                    series.insert(start, Counted::Recorded(block));
                }
            }
            for (stream, jury) in &juries {
                if let Some(block) = jury.voice(stream, block_ms, &voters, &find) {
                    let series = voiced.entry(stream.name.as_str()).or_default();
                    series.insert(start, Counted::Derived(Box::new(block)));
                }
            }
        }
        for (stream, _) in juries {
            voiced.entry(stream.name.as_str()).or_default();
        }
        self.voiced = voiced;
        for stream in covered {
            let name = stream.name.as_str();
            let judged = judged.remove(name).unwrap_or_default();
            self.blocks.insert(name, judged);
        }
    }

    /// A stream as one of those who look saw it; the conductor's own for streams that only it asks.
    pub fn series(&self, by: Observer<'_>, stream: &str) -> Option<&Series<'a>> {
        match by {
            None => self.own.get(stream).or_else(|| self.blocks.get(stream)),
            Some(vantage) => self.seen.get(vantage)?.get(stream),
        }
    }

    /// A stream as each of those who look saw it.
    pub fn all_series(&self, stream: &str) -> impl Iterator<Item = &Series<'a>> {
        let theirs = self.seen.values().filter_map(move |seen| seen.get(stream));
        self.series(None, stream).into_iter().chain(theirs)
    }

    pub fn tally_seen(&self, by: Observer<'_>, stream: &Stream, span: Span) -> Tally {
        self.tally_of(self.series(by, &stream.name), stream, span)
    }

    /// The baseline of a stream as one of those who look saw it. Of a vantage it ends a block before
    /// fire, because by the vantage's clock that block may hold the first of the fault.
    pub fn baseline_seen(&self, by: Observer<'_>, stream: &Stream) -> Tally {
        let early_ms = by.map_or(0, |_| self.block_ms());
        self.baseline_of(self.series(by, &stream.name), stream, early_ms)
    }

    /// Slow answers in a span and in their baseline as those who ask for them vote; `None` where only the
    /// conductor asks.
    pub fn voiced(&self, stream: &Stream, span: Span) -> Option<(Tally, Tally)> {
        let series = self.voiced.get(stream.name.as_str())?;
        let now = self.tally_of(Some(series), stream, span);
        Some((now, self.baseline_of(Some(series), stream, 0)))
    }

    /// Blocks of the shortest baseline of a stream among those who look.
    pub fn shortest_baseline(&self, stream: &Stream) -> u64 {
        let expected = self.baseline(stream).expected;
        expected.saturating_sub(u64::from(self.roll.covers(&stream.name)))
    }
}
