//! Slow answers where several ask: each by the limit of its own baseline, and together by the rule of `roll`.
//!
//! How long answers take differs from place to place, so nobody's limit is another's. Slow answers are the
//! conductor's to prove isolated; a damage is one only if those who look vote for it, as for any stream.

use std::collections::BTreeMap;

use super::derive::Limit;
use super::evidence::{Evidence, is_blind};
use super::roll::{self, Member, Observer};
use crate::history::{Block, Counts, Stream};

/// The limits of one stream of slow answers, by who looks.
#[derive(Clone, Debug)]
pub(super) struct Jury {
    own: Option<Limit>,
    theirs: BTreeMap<String, Limit>,
}

impl Jury {
    /// `None` where only the conductor asks for those answers.
    pub fn of(evidence: &Evidence<'_>, stream: &Stream) -> Option<Jury> {
        let Counts::Slow { of: source } = &stream.basis.counts else {
            return None;
        };
        if !evidence.roll.covers(source) {
            return None;
        }
        let marks = evidence.before.zip(evidence.thresholds);
        let (from, to) = marks.unwrap_or((0, 0));
        let limit = |by: Observer<'_>| {
            let half = evidence.series(by, source)?.range(from..to.max(from));
            Limit::of(stream, half.map(|(_, block)| &**block))
        };
        let members = evidence.roll.members.iter();
        let theirs = members
            .filter(|member| member.asks(source))
            .filter_map(|member| Some((member.name.clone(), limit(Some(&member.name))?)));
        Some(Jury {
            own: limit(None),
            theirs: theirs.collect(),
        })
    }

    /// What they say of one second; `find` gives the blocks of that second.
    pub fn voice<'b>(
        &self,
        stream: &Stream,
        block_ms: u64,
        voters: &[&Member],
        find: &impl Fn(Observer<'_>, &str) -> Option<&'b Block>,
    ) -> Option<Block> {
        let source = stream.counted_from();
        let vote = |by: Observer<'_>, limit: Option<&Limit>| {
            let block = find(by, source).filter(|block| !is_blind(stream, block_ms, block))?;
            Some(limit?.count(stream, block))
        };
        let own = vote(None, self.own.as_ref());
        let theirs = voters.iter().filter_map(|member| {
            let limit = self.theirs.get(&member.name);
            vote(Some(&member.name), limit)
        });
        let mut votes: Vec<Block> = own.into_iter().chain(theirs).collect();
        if votes.len() < 2 {
            return None;
        }
        votes.sort_by(roll::by_bad_share);
        let middle = (votes.len() - 1) / 2;
        Some(votes.swap_remove(middle))
    }
}
