//! Who looks at a stream, and whose block speaks for it when several look.
//!
//! One rule for the online abort and the final verdict, and one second at a time. A vantage votes in
//! a second in which all of its own controls were seen and none of them was half bad. The votes of a
//! stream are ordered by their share of bad probes, and the lower of those in the middle speaks: at
//! least half of those who look must see a damage before the stream shows it. One alone is no
//! evidence; with fewer than two votes the stream is blind.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::evidence::{block_is_half_bad, is_blind};
use crate::history::{Block, Header, Role, Stream};

/// A vantage by its name; `None` is the conductor.
pub(super) type Observer<'a> = Option<&'a str>;

/// The vantages of a drill that may vote; those in a target cell are cut off by the fault itself.
#[derive(Clone, Debug)]
pub(super) struct Roll {
    pub members: Vec<Member>,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub name: String,
    pub skew_us: u64,
    pub controls: Vec<Stream>,
    /// Streams that must not notice, in the order of the header.
    pub streams: Vec<Stream>,
    known: BTreeSet<String>,
}

/// Only probes of what must not notice, and controls: what is made from others, or comes in longer
/// blocks, is the conductor's alone.
pub(super) fn may_be_asked(header: &Header, stream: &Stream) -> bool {
    let block_ms = header.judgement.block_ms;
    matches!(stream.role, Role::Other | Role::Control)
        && stream.is_probed()
        && stream.block_ms(block_ms) == block_ms
}

impl Member {
    pub fn asks(&self, stream: &str) -> bool {
        self.known.contains(stream)
    }

    /// Whether its own controls were well in one second.
    fn is_well<'b>(
        &self,
        block_ms: u64,
        find: &impl Fn(Observer<'_>, &str) -> Option<&'b Block>,
    ) -> bool {
        let well = |control: &Stream| {
            find(Some(&self.name), &control.name).is_some_and(|block| {
                !is_blind(control, block_ms, block) && !block_is_half_bad(block)
            })
        };
        !self.controls.is_empty() && self.controls.iter().all(well)
    }
}

impl Roll {
    pub fn of(header: &Header) -> Roll {
        let in_target = |cell: &String| header.plan.target.cells.contains(cell);
        let members = header.vantages.iter().filter(|v| !in_target(&v.cell));
        let members = members.map(|vantage| {
            let asked = |role: Role| {
                let streams = header.streams.iter();
                streams
                    .filter(|s| s.role == role && may_be_asked(header, s))
                    .filter(|s| vantage.streams.contains(&s.name))
                    .cloned()
                    .collect::<Vec<Stream>>()
            };
            let streams = asked(Role::Other);
            Member {
                name: vantage.name.clone(),
                skew_us: vantage.skew_us,
                controls: asked(Role::Control),
                known: streams.iter().map(|s| s.name.clone()).collect(),
                streams,
            }
        });
        Roll {
            members: members.collect(),
        }
    }

    /// Whether others than the conductor look at this stream.
    pub fn covers(&self, stream: &str) -> bool {
        self.members.iter().any(|member| member.asks(stream))
    }

    /// Who votes in one second; `find` gives the blocks of that second.
    pub fn voters<'b>(
        &self,
        block_ms: u64,
        left_out: &BTreeSet<String>,
        find: &impl Fn(Observer<'_>, &str) -> Option<&'b Block>,
    ) -> Vec<&Member> {
        let members = self.members.iter();
        members
            .filter(|m| !left_out.contains(&m.name) && m.is_well(block_ms, find))
            .collect()
    }

    /// The block that speaks for a stream in one second.
    pub fn voice<'b>(
        &self,
        stream: &Stream,
        block_ms: u64,
        voters: &[&Member],
        find: &impl Fn(Observer<'_>, &str) -> Option<&'b Block>,
    ) -> Option<&'b Block> {
        let own = find(None, &stream.name);
        if !self.covers(&stream.name) {
            return own;
        }
        let asking = voters.iter().filter(|member| member.asks(&stream.name));
        let others = asking.filter_map(|member| find(Some(&member.name), &stream.name));
        let mut votes: Vec<&Block> = own.into_iter().chain(others).collect();
        votes.retain(|block| !is_blind(stream, block_ms, block));
        if votes.len() < 2 {
            return None;
        }
        votes.sort_by(|a, b| by_bad_share(a, b));
        votes.get((votes.len() - 1) / 2).copied()
    }
}

/// By the share of bad probes, then by what else is counted, so that names decide nothing.
pub(super) fn by_bad_share(a: &Block, b: &Block) -> Ordering {
    let (a_bad, a_valid) = (u64::from(a.bad), u64::from(a.valid));
    let (b_bad, b_valid) = (u64::from(b.bad), u64::from(b.valid));
    (a_bad * b_valid)
        .cmp(&(b_bad * a_valid))
        .then(a.valid.cmp(&b.valid))
        .then(a.scheduled.cmp(&b.scheduled))
}

#[cfg(test)]
mod tests {
    use super::super::drill::{RATE, block, header, stream};
    use super::*;
    use crate::history::Vantage;

    const STREAM: &str = "aws/checkout";
    const CONTROL: &str = "control/loopback";

    /// Bad probes of the stream as the conductor and each vantage see them, and of each vantage's control.
    fn speaks(own: Option<u32>, vantages: &[(Option<u32>, u32)]) -> Option<u32> {
        let mut header = header();
        let mut blocks = Vec::new();
        let mut add = |vantage: Option<String>, name: &str, bad: Option<u32>| {
            let of = |bad| Block {
                vantage,
                ..block(name, 70, bad)
            };
            blocks.extend(bad.map(of));
        };
        add(None, STREAM, own);
        for (index, (bad, control)) in vantages.iter().enumerate() {
            let name = format!("tencent/n{index}");
            add(Some(name.clone()), STREAM, *bad);
            add(Some(name.clone()), CONTROL, Some(*control));
            header.vantages.push(Vantage {
                name,
                cell: "tencent".into(),
                skew_us: 100,
                streams: vec![STREAM.into(), CONTROL.into()],
            });
        }
        let find = |by: Observer<'_>, name: &str| {
            let mut blocks = blocks.iter();
            blocks.find(|b| b.stream == name && b.vantage.as_deref() == by)
        };
        let roll = Roll::of(&header);
        let voters = roll.voters(1000, &BTreeSet::new(), &find);
        let stream = stream(STREAM, Role::Other);
        let voice = roll.voice(&stream, 1000, &voters, &find);
        voice.map(|block| block.bad)
    }

    #[test]
    fn the_lower_middle_speaks() {
        let well = |bad| (Some(bad), 0);
        assert_eq!(speaks(Some(7), &[]), Some(7), "nobody else looks");
        assert_eq!(speaks(Some(0), &[well(20), well(5)]), Some(5));
        assert_eq!(speaks(Some(20), &[well(0), well(20)]), Some(20));
        assert_eq!(speaks(Some(20), &[well(0), well(0)]), Some(0));
        assert_eq!(speaks(Some(20), &[well(0)]), Some(0), "both must see it");
        assert_eq!(speaks(Some(20), &[well(20), well(0), well(0)]), Some(0));
        assert_eq!(speaks(Some(20), &[well(9), well(20), well(0)]), Some(9));
    }

    #[test]
    fn one_alone_is_no_evidence() {
        assert_eq!(speaks(None, &[(Some(20), 0)]), None);
        assert_eq!(speaks(Some(20), &[(None, 0)]), None);
        assert_eq!(speaks(Some(20), &[(None, 0), (Some(19), 0)]), Some(19));
    }

    #[test]
    fn a_vantage_that_is_ill_itself_does_not_vote() {
        let ill = (Some(RATE), RATE / 2);
        assert_eq!(speaks(Some(0), &[ill, ill]), None, "only one vote is left");
        assert_eq!(speaks(Some(3), &[ill, ill, (Some(4), 1)]), Some(3));
    }

    #[test]
    fn none_in_a_target_cell_has_a_vote() {
        let mut header = header();
        header.vantages.push(Vantage {
            name: "ali/n1".into(),
            cell: "ali".into(),
            skew_us: 0,
            streams: vec![STREAM.into(), CONTROL.into()],
        });
        assert!(!Roll::of(&header).covers(STREAM));
    }
}
