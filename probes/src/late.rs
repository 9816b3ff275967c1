//! How probes ended that were too late to count as good: silence is told from an answer that came late.

use std::collections::{BTreeMap, BTreeSet};

use scenarios::history::LateEnds;

use crate::BLOCK_MS;
use crate::outcome::Outcome;

/// Blocks for which late ends are waited for; no timeout is as long.
const BLOCKS: usize = 64;

/// Of one stream.
#[derive(Debug, Default)]
pub struct Late {
    /// Places of the probes of a closed block that are still under way.
    under_way: BTreeMap<u64, BTreeSet<usize>>,
    ended: BTreeMap<u64, LateEnds>,
}

impl Late {
    /// These of the block were told as timeouts before they had ended.
    pub fn expect(&mut self, block: u64, under_way: BTreeSet<usize>) {
        if !under_way.is_empty() {
            self.under_way.insert(block, under_way);
        }
        while self.under_way.len() > BLOCKS {
            self.under_way.pop_first();
        }
    }

    /// What is not known to have been told as a timeout is no news, nor is what the prober itself spoilt.
    pub fn end(&mut self, block: u64, place: usize, outcome: &Outcome) {
        let known = self.under_way.get_mut(&block);
        if !known.is_some_and(|places| places.remove(&place)) {
            return;
        }
        if matches!(outcome, Outcome::Invalid) {
            return;
        }
        let ended = self.ended.entry(block).or_default();
        match outcome {
            Outcome::Answered => ended.slow += 1,
            Outcome::Reset(_) => ended.resets += 1,
            Outcome::Error(_) | Outcome::ServerError(_) => ended.errors += 1,
            Outcome::Timeout(_) => ended.timeouts += 1,
            Outcome::Invalid => {}
        }
        ended.server_errors += u32::from(matches!(outcome, Outcome::ServerError(_)));
    }

    /// What has ended since this was asked last.
    pub fn take(&mut self, stream: &str) -> Vec<LateEnds> {
        let ended = std::mem::take(&mut self.ended).into_iter();
        let told = ended.map(|(block, ends)| LateEnds {
            stream: stream.to_owned(),
            start_ms: block * BLOCK_MS,
            ..ends
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_as_a_timeout_is_told_again_when_it_has_ended() {
        let mut late = Late::default();
        late.expect(7, BTreeSet::from([1, 2, 3, 4]));
        late.end(7, 0, &Outcome::Answered);
        late.end(8, 1, &Outcome::Answered);
        assert_eq!(late.take("a/home"), []);
        late.end(7, 1, &Outcome::Timeout(String::new()));
        late.end(7, 1, &Outcome::Answered);
        late.end(7, 2, &Outcome::Answered);
        late.end(7, 3, &Outcome::ServerError(String::new()));
        late.end(7, 4, &Outcome::Reset(String::new()));
        let told = LateEnds {
            stream: "a/home".into(),
            start_ms: 7_000,
            timeouts: 1,
            slow: 1,
            resets: 1,
            errors: 1,
            server_errors: 1,
        };
        assert_eq!(late.take("a/home"), [told]);
        assert_eq!(late.take("a/home"), []);
    }
}
