//! Entrypoint arithmetic: which share of a region's requests failed, for whom, and for how long.
//!
//! The fault has three parts by what DNS said: it still answers with the target; it has stopped, and
//! its answers may still be kept; they may not. Reported with limits and never judged: how long
//! users may follow a dead address is the fleet's design, and no hypothesis of a drill.

use std::collections::BTreeMap;

use super::evidence::{Span, is_attributed};
use super::findings::{percent, seconds};
use super::frame::Frame;
use super::interval::Sample;
use super::{UserReport, UserRow, UserWindow};
use crate::effects::{ClientKind, UserCount};
use crate::history::{Block, Stream};

/// One report for each entrypoint whose users were counted by kind.
pub(super) fn reports(frame: &Frame<'_>, prober_is_sound: bool) -> Vec<UserReport> {
    let streams = frame.evidence.header.streams.iter();
    let dns =
        |stream: &&Stream| stream.cell.is_none() && stream.name == format!("{}/dns", stream.probe);
    streams
        .filter(dns)
        .filter_map(|dns| Region { frame, dns }.report(prober_is_sound))
        .collect()
}

/// One entrypoint of one drill.
struct Region<'a> {
    frame: &'a Frame<'a>,
    dns: &'a Stream,
}

/// When DNS stopped answering with the target.
struct Stop {
    /// `None`: it went on to the end of the fault.
    at: Option<u64>,
    /// From here no answer with the target may be kept.
    forgotten: u64,
}

impl<'a> Region<'a> {
    fn blocks(&self, span: Span) -> impl Iterator<Item = &'a Block> {
        let blocks = self.frame.evidence.blocks.get(self.dns.name.as_str());
        let blocks = blocks.map(|blocks| blocks.range(span.from..span.to.max(span.from)));
        blocks.into_iter().flatten().map(|(_, block)| &**block)
    }

    fn report(&self, prober_is_sound: bool) -> Option<UserReport> {
        let whole = Span {
            from: 0,
            to: u64::MAX,
        };
        self.blocks(whole).find(|block| block.users.is_some())?;
        if let Some(unknown) = self.unknown(prober_is_sound) {
            return Some(unknown);
        }
        let stop = self.stop();
        let end = self.fault_end();
        let from = self.frame.fire;
        let at = stop.at.unwrap_or(end);
        let forgotten = stop.forgotten.min(end);
        let windows = [
            (UserWindow::Before, Span { from, to: at }),
            (
                UserWindow::During,
                Span {
                    from: at,
                    to: forgotten,
                },
            ),
            (
                UserWindow::After,
                Span {
                    from: forgotten,
                    to: end,
                },
            ),
        ];
        let mut words = vec![self.shares()];
        words.push(match stop.at {
            None => format!("{}: DNS never stopped answering with the target", self.dns.probe),
            Some(at) => format!(
                "{}: DNS stopped answering with the target {} after fire, and its last answers were \
                 kept until {}",
                self.dns.probe,
                seconds(at, from),
                seconds(stop.forgotten, from)
            ),
        });
        words.extend(self.worst_case());
        Some(UserReport {
            entrypoint: self.dns.probe.clone(),
            rows: windows
                .into_iter()
                .filter(|(_, span)| span.from < span.to)
                .flat_map(|(window, span)| self.rows(window, span))
                .collect(),
            words,
        })
    }

    /// What is said where nobody knows: the prober cannot be trusted, or DNS itself was not to be asked.
    fn unknown(&self, prober_is_sound: bool) -> Option<UserReport> {
        let name = &self.dns.probe;
        let report = |words: Vec<String>| UserReport {
            entrypoint: name.clone(),
            rows: Vec::new(),
            words,
        };
        if !prober_is_sound {
            let words = format!(
                "{name}: what its users met is not known, for the prober cannot be trusted"
            );
            return Some(report(vec![words]));
        }
        let unreachable_ms = self.unreachable_ms();
        // When it stopped, and what users would have met, nobody knows.
        let words = format!(
            "{name}: DNS itself could not be asked for {} after fire, so neither when it stopped answering \
             with the target nor the worst case of its users is known",
            seconds(unreachable_ms, 0)
        );
        (unreachable_ms > 0).then(|| report(vec![self.shares(), words]))
    }

    /// For how long, from fire to the end of the watch, no answer came to anyone who asked DNS.
    fn unreachable_ms(&self) -> u64 {
        let evidence = self.frame.evidence;
        let block_ms = evidence.block_ms();
        let span = Span {
            from: self.frame.fire,
            to: self.frame.end,
        };
        let missing = evidence.tally(self.dns, span).missing;
        let is_silent = |block: &&Block| {
            let asked = block.scheduled > 0;
            asked && block.answers.values().all(|count| *count == 0)
        };
        let silent = self.blocks(span).filter(is_silent).count() as u64;
        silent.saturating_add(missing).saturating_mul(block_ms)
    }

    fn fault_end(&self) -> u64 {
        let block_ms = self.frame.evidence.block_ms();
        let stop = self.frame.stop.unwrap_or(u64::MAX);
        stop.min(self.frame.fault_end) / block_ms * block_ms
    }

    fn is_target(&self, cell: &str) -> bool {
        let target = &self.frame.evidence.header.plan.target.cells;
        target.iter().any(|name| name == cell)
    }

    fn stop(&self) -> Stop {
        let (fire, end) = (self.frame.fire, self.fault_end());
        let block_ms = self.frame.evidence.block_ms();
        let fault = Span {
            from: fire,
            to: end,
        };
        let points = |block: &&Block| {
            let mut answers = block.answers.iter();
            answers.any(|(cell, count)| *count > 0 && self.is_target(cell))
        };
        let last = self.blocks(fault).filter(points).last();
        let at = last.map_or(fire, |block| block.start_ms.saturating_add(block_ms));
        // Answers are drawn: two blocks without the target at the end are no stop yet.
        if at.saturating_add(block_ms.saturating_mul(2)) > end {
            return Stop {
                at: None,
                forgotten: end,
            };
        }
        let before = Span { from: 0, to: at };
        let ttl_s = self.blocks(before).filter_map(|block| block.users.as_ref());
        let ttl_ms = u64::from(ttl_s.map(|users| users.ttl_s).max().unwrap_or(0)) * 1000;
        let kept = ttl_ms.div_ceil(block_ms).saturating_mul(block_ms);
        Stop {
            at: Some(at),
            forgotten: at.saturating_add(kept),
        }
    }

    fn rows(&self, window: UserWindow, span: Span) -> Vec<UserRow> {
        let mut kinds: BTreeMap<ClientKind, Sample> = BTreeMap::new();
        let mut all = Sample::new(0, 0);
        for block in self.blocks(span) {
            for (kind, UserCount { requests, bad }) in block.users.iter().flat_map(|u| &u.kinds) {
                let own = kinds.entry(*kind).or_insert(Sample::new(0, 0));
                for sample in [own, &mut all] {
                    sample.total += f64::from(*requests);
                    sample.bad += f64::from((*bad).min(*requests));
                }
            }
        }
        let whole = std::iter::once((None, all));
        let kinds = kinds.into_iter().map(|(kind, sample)| (Some(kind), sample));
        whole
            .chain(kinds)
            .map(|(client, sample)| self.row(window, span, client, sample))
            .collect()
    }

    fn row(
        &self,
        window: UserWindow,
        span: Span,
        client: Option<ClientKind>,
        sample: Sample,
    ) -> UserRow {
        let level = self.frame.alpha() / 2.0;
        UserRow {
            window,
            client,
            seconds: span.to.saturating_sub(span.from) as f64 / 1000.0,
            requests: sample.total as u64,
            bad: sample.bad as u64,
            rate: sample.rate(),
            low: sample.lower(level),
            high: sample.upper(level),
        }
    }

    /// The declared share of a cell, and of the whole target.
    fn declared(&self, cell: &str) -> Option<f64> {
        let streams = self.frame.evidence.header.streams.iter();
        let mut users = streams.filter(|s| is_attributed(s) && s.probe == self.dns.probe);
        let user = users.find(|user| user.cell.as_deref() == Some(cell))?;
        (self.dns.rate > 0.0).then(|| user.rate / self.dns.rate)
    }

    fn declared_target(&self) -> f64 {
        let cells = self.frame.evidence.header.plan.target.cells.iter();
        cells.filter_map(|cell| self.declared(cell)).sum()
    }

    /// The shares that DNS gave while all was well, against the declared ones.
    fn shares(&self) -> String {
        let baseline = Span {
            from: self.frame.evidence.before.unwrap_or(self.frame.fire),
            to: self.frame.fire,
        };
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (cell, count) in self.blocks(baseline).flat_map(|block| &block.answers) {
            *counts.entry(cell).or_default() += u64::from(*count);
        }
        let all: u64 = counts.values().sum();
        let level = self.frame.alpha() / 2.0 / counts.len().max(1) as f64;
        let mut refuted = Vec::new();
        for (cell, count) in &counts {
            let sample = Sample::new(*count, all);
            let (low, high) = (sample.lower(level), sample.upper(level));
            let declared = self.declared(cell).unwrap_or(0.0);
            if !(low..=high).contains(&declared) {
                refuted.push(format!(
                    "{cell} {} ({} to {}), declared {}",
                    percent(sample.rate()),
                    percent(low),
                    percent(high),
                    percent(declared)
                ));
            }
        }
        let name = &self.dns.probe;
        match (all, refuted.is_empty()) {
            (0, _) => format!("{name}: DNS gave no answer before the fault"),
            (_, true) => format!(
                "{name}: {all} answers of DNS before the fault agree with the declared shares"
            ),
            (_, false) => format!(
                "{name}: the declared shares are refuted by the answers of DNS before the fault: {}",
                refuted.join("; ")
            ),
        }
    }

    /// `worst case 35.1 % of the region's requests for 41 s, not 33.3 %`. It lasts from fire to the
    /// last second, of fault or recovery, in which at least half of the declared share failed.
    fn worst_case(&self) -> Option<String> {
        let (fire, block_ms) = (self.frame.fire, self.frame.evidence.block_ms());
        let declared = self.declared_target();
        let sum = |block: &Block| {
            let kinds = block.users.iter().flat_map(|users| users.kinds.values());
            kinds.fold((0u64, 0u64), |(bad, all), count| {
                let requests = u64::from(count.requests);
                (bad + u64::from(count.bad).min(requests), all + requests)
            })
        };
        let hurts = |block: &&Block| {
            let (bad, all) = sum(block);
            bad > 0 && bad as f64 >= all as f64 * declared / 2.0
        };
        let watched = Span {
            from: fire,
            to: self.frame.end,
        };
        let name = &self.dns.probe;
        if self.blocks(watched).all(|block| sum(block).1 == 0) {
            return Some(format!("users of {name}: nobody counted them since fire"));
        }
        let Some(last) = self.blocks(watched).filter(hurts).last() else {
            return Some(format!(
                "users of {name}: no second in which they were hurt"
            ));
        };
        let until = last.start_ms.saturating_add(block_ms);
        let hurt = self.blocks(Span {
            from: fire,
            to: until,
        });
        let (bad, all) = hurt
            .map(sum)
            .fold((0, 0), |(bad, all), (b, a)| (bad + b, all + a));
        let sample = Sample::new(bad, all);
        let worst = sample.upper(self.frame.alpha());
        let against = match worst > declared {
            true => format!("not {}", percent(declared)),
            false => format!("within the declared {}", percent(declared)),
        };
        Some(format!(
            "users of {name}: worst case {} of the region's requests for {}, {against} (measured {}, \
             {bad} of {all})",
            percent(worst),
            seconds(until, fire),
            percent(sample.rate())
        ))
    }
}
