//! The seconds of the conductor and of the vantages, put together before anything is made of them.
//!
//! A second waits for every vantage that is there, but not longer than `PATIENCE`; what comes later is
//! left out of the history as well, so that whoever judges it sees what the online abort saw.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use probes::vantage::Said;
use probes::{ProbeOut, Write};
use scenarios::fleet::Fleet;
use scenarios::history::{BadSample, Block, LateEnds, Volume};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Begun, Heard};

/// More than a vantage's second comes later than the conductor's own: two clocks and half a round trip.
const PATIENCE: Duration = Duration::from_secs(1);

/// One second of all who look.
#[derive(Debug, Default, PartialEq)]
pub struct Second {
    pub blocks: Vec<Block>,
    pub samples: Vec<BadSample>,
    pub volumes: Vec<Volume>,
    pub late: Vec<LateEnds>,
}

/// The next thing that is known.
#[derive(Debug, PartialEq)]
pub enum Merged {
    Second(Second),
    /// A vantage, and why nothing more comes from it.
    Lost(String, String),
}

struct Waiting {
    start_ms: u64,
    second: Second,
    until: Instant,
}

#[derive(Default)]
struct Theirs {
    /// Nothing more comes from it.
    lost: bool,
    /// It has told all of its writes.
    ended: bool,
    seconds: BTreeMap<u64, Second>,
    /// As they were told last, by id: each is of one vantage alone.
    writes: BTreeMap<String, Write>,
}

impl Theirs {
    fn learn(&mut self, writes: Vec<Write>) {
        let by_id = writes.into_iter().map(|write| (write.id.clone(), write));
        self.writes.extend(by_id);
    }
}

pub struct Seconds {
    own: mpsc::Receiver<ProbeOut>,
    vantages: Begun,
    waiting: VecDeque<Waiting>,
    theirs: Vec<Theirs>,
}

impl Seconds {
    pub fn new(own: mpsc::Receiver<ProbeOut>, vantages: Begun) -> Self {
        let theirs = vantages.names.iter().map(|_| Theirs::default());
        Self {
            own,
            waiting: VecDeque::new(),
            theirs: theirs.collect(),
            vantages,
        }
    }

    pub fn vantages(&self) -> &Begun {
        &self.vantages
    }

    /// Writes that the vantages' probes had acknowledged. One that did not end in good order may have
    /// deleted or updated any of its own in its last moments; that is no loss of the cell's.
    pub fn vantage_writes(&self, fleet: &Fleet) -> Vec<Write> {
        let mut all = Vec::new();
        for theirs in &self.theirs {
            for write in theirs.writes.values() {
                let mut write = write.clone();
                if let Some(probe) = fleet.probes.get(&write.probe).filter(|_| !theirs.ended) {
                    write.fate = write.fate.unsure(probe);
                }
                all.push(write);
            }
        }
        all
    }

    /// Waits until every vantage that was told to end has told its writes, and drops them all.
    pub async fn end_vantages(&mut self, within: Duration) {
        let until = Instant::now() + within;
        while self
            .theirs
            .iter()
            .any(|theirs| !theirs.ended && !theirs.lost)
        {
            match timeout_at(until, self.vantages.heard.recv()).await {
                // What was seen in the seconds after the end is of no drill.
                Ok(Some(heard)) => drop(self.take(heard)),
                Ok(None) | Err(_) => break,
            }
        }
        let (_, heard) = mpsc::channel(1);
        let names = std::mem::take(&mut self.vantages.names);
        self.vantages = Begun {
            names,
            links: Vec::new(),
            heard,
        };
        self.theirs.iter_mut().for_each(|theirs| theirs.lost = true);
    }

    /// `None` when the conductor's own prober has ended. Nothing is lost if it is not awaited to its end.
    pub async fn next(&mut self) -> Option<Merged> {
        loop {
            if let Some(second) = self.whole(Instant::now()) {
                return Some(Merged::Second(second));
            }
            let until = self.waiting.front().map(|waiting| waiting.until);
            tokio::select! {
                own = self.own.recv() => match own {
                    Some(ProbeOut::Second { start_ms, blocks, samples, volumes, late }) => {
                        let second = Second { blocks, samples, volumes, late };
                        self.wait(start_ms, second, Instant::now());
                    }
                    None => match self.waiting.pop_front() {
                        Some(waiting) => return Some(Merged::Second(self.merge(waiting))),
                        None => return None,
                    },
                },
                Some(heard) = self.vantages.heard.recv() => {
                    if let Some(lost) = self.take(heard) {
                        return Some(lost);
                    }
                }
                () = at(until) => {}
            }
        }
    }

    fn wait(&mut self, start_ms: u64, second: Second, now: Instant) {
        let until = now + PATIENCE;
        self.waiting.push_back(Waiting {
            start_ms,
            second,
            until,
        });
    }

    fn take(&mut self, heard: Heard) -> Option<Merged> {
        match heard {
            Heard::Said(
                from,
                Said::Second {
                    start_ms,
                    mut blocks,
                    mut samples,
                    writes,
                },
            ) => {
                let name = self.vantages.names.get(from)?.clone();
                let theirs = self.theirs.get_mut(from)?;
                // What was acknowledged must be there, however late that is known.
                theirs.learn(writes);
                // A block of another second would be in the history and not in the online abort.
                blocks.retain(|block| block.start_ms == start_ms);
                for block in &mut blocks {
                    block.vantage = Some(name.clone());
                }
                for sample in &mut samples {
                    sample.vantage = Some(name.clone());
                }
                let second = Second {
                    blocks,
                    samples,
                    ..Second::default()
                };
                theirs.seconds.insert(start_ms, second);
                None
            }
            Heard::Said(_, Said::Ready) => None,
            Heard::Said(from, Said::Ended { writes }) => {
                let theirs = self.theirs.get_mut(from)?;
                theirs.learn(writes);
                theirs.ended = true;
                None
            }
            Heard::Lost(from, why) => {
                self.theirs.get_mut(from)?.lost = true;
                Some(Merged::Lost(self.vantages.names.get(from)?.clone(), why))
            }
        }
    }

    /// The second that comes next, if nothing more is to be waited for.
    fn whole(&mut self, now: Instant) -> Option<Second> {
        let front = self.waiting.front()?;
        let is_there = |theirs: &Theirs| {
            // Its seconds follow each other: a later one says that this one does not come.
            let last = theirs.seconds.keys().next_back();
            theirs.lost || last.is_some_and(|last| *last >= front.start_ms)
        };
        if front.until > now && !self.theirs.iter().all(is_there) {
            return None;
        }
        let waiting = self.waiting.pop_front()?;
        Some(self.merge(waiting))
    }

    fn merge(&mut self, waiting: Waiting) -> Second {
        let mut second = waiting.second;
        for theirs in &mut self.theirs {
            let later = theirs.seconds.split_off(&waiting.start_ms);
            theirs.seconds = later; // what is earlier came too late
            if let Some(seen) = theirs.seconds.remove(&waiting.start_ms) {
                second.blocks.extend(seen.blocks);
                second.samples.extend(seen.samples);
            }
        }
        second
    }
}

async fn at(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use probes::Fate;

    use super::*;

    fn seconds(names: &[&str]) -> Seconds {
        let (_, own) = mpsc::channel(1);
        let (_, heard) = mpsc::channel(1);
        let vantages = Begun {
            names: names.iter().map(ToString::to_string).collect(),
            links: Vec::new(),
            heard,
        };
        Seconds::new(own, vantages)
    }

    fn second(start_ms: u64) -> Second {
        let text = format!(
            "{{\"stream\":\"a/b\",\"start_ms\":{start_ms},\"scheduled\":1,\"valid\":1,\"bad\":0,\
             \"timeouts\":0,\"resets\":0,\"errors\":0,\"slow\":0,\"latency_us\":[]}}"
        );
        Second {
            blocks: vec![serde_json::from_str(&text).expect("a block")],
            ..Second::default()
        }
    }

    fn write(id: String, fate: Fate) -> Write {
        Write {
            cell: "gd-aws".into(),
            probe: "order".into(),
            id,
            at_ms: 0,
            fate,
        }
    }

    fn fates(seconds: &Seconds) -> Vec<(String, Fate)> {
        let text = include_str!("../../../../scenarios/tests/fleet.yaml");
        let mut fleet = scenarios::read_fleet(text, "fleet.yaml").expect("a fleet");
        let order = fleet.probes.get_mut("order").expect("a probe");
        order.rewrites.delete = match &order.ask {
            scenarios::fleet::Ask::Http(http) => Some(http.clone()),
            other => panic!("{other:?}"),
        };
        let writes = seconds.vantage_writes(&fleet).into_iter();
        writes.map(|write| (write.id, write.fate)).collect()
    }

    impl Seconds {
        fn own(&mut self, start_ms: u64, now: Instant) {
            self.wait(start_ms, second(start_ms), now);
        }

        fn theirs(&mut self, from: usize, start_ms: u64) {
            let Second {
                blocks, samples, ..
            } = second(start_ms);
            let said = Said::Second {
                start_ms,
                blocks,
                samples,
                writes: vec![write(format!("{from}-{start_ms}"), Fate::Created)],
            };
            assert_eq!(self.take(Heard::Said(from, said)), None);
        }

        /// Which second is whole now, and which vantages are in it.
        fn now_whole(&mut self, now: Instant) -> Option<(u64, Vec<String>)> {
            let second = self.whole(now)?;
            let who = second.blocks.iter().filter_map(|b| b.vantage.clone());
            Some((second.blocks[0].start_ms, who.collect()))
        }
    }

    fn whole(start_ms: u64, names: &[&str]) -> Option<(u64, Vec<String>)> {
        Some((start_ms, names.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn a_second_waits_for_those_who_are_there() {
        let (mut seconds, now) = (seconds(&["v", "w"]), Instant::now());
        seconds.theirs(1, 1000);
        assert_eq!(
            seconds.now_whole(now),
            None,
            "the conductor's own is missing"
        );
        seconds.own(1000, now);
        assert_eq!(seconds.now_whole(now), None, "one is missing");
        seconds.theirs(0, 1000);
        assert_eq!(seconds.now_whole(now), whole(1000, &["v", "w"]));
        assert_eq!(seconds.now_whole(now), None, "it comes once");
        assert_eq!(fates(&seconds).len(), 2);
    }

    #[test]
    fn what_comes_too_late_is_left_out_and_its_writes_are_kept() {
        let (mut seconds, now) = (seconds(&["v"]), Instant::now());
        seconds.own(1000, now);
        assert_eq!(seconds.now_whole(now), None);
        let late = now + PATIENCE;
        assert_eq!(seconds.now_whole(late), whole(1000, &[]));
        seconds.theirs(0, 1000);
        seconds.own(2000, late);
        assert_eq!(
            seconds.now_whole(late),
            None,
            "the late one is not this one"
        );
        seconds.theirs(0, 2000);
        assert_eq!(seconds.now_whole(late), whole(2000, &["v"]));
        assert_eq!(fates(&seconds).len(), 2);
    }

    #[test]
    fn nobody_waits_for_a_lost_one_or_for_a_second_that_was_left_out() {
        let (mut seconds, now) = (seconds(&["v"]), Instant::now());
        seconds.own(0, now);
        seconds.theirs(0, 1000);
        assert_eq!(seconds.now_whole(now), whole(0, &[]), "it began later");
        let lost = seconds.take(Heard::Lost(0, "killed".into()));
        assert_eq!(lost, Some(Merged::Lost("v".into(), "killed".into())));
        seconds.own(1000, now);
        seconds.own(2000, now);
        assert_eq!(seconds.now_whole(now), whole(1000, &["v"]), "said before");
        assert_eq!(seconds.now_whole(now), whole(2000, &[]));
    }

    #[tokio::test]
    async fn what_a_vantage_did_to_its_writes_is_known_if_it_ended_in_good_order() {
        let mut seconds = seconds(&["v", "w"]);
        seconds.theirs(0, 1000);
        seconds.theirs(1, 1000);
        let deleted = |acknowledged| Fate::Deleted { acknowledged };
        let ended = Said::Ended {
            writes: vec![
                write("0-1000".into(), deleted(true)),
                write("0-2000".into(), Fate::Created),
            ],
        };
        assert_eq!(seconds.take(Heard::Said(0, ended)), None);
        let known = [
            ("0-1000".to_string(), deleted(true)),
            ("0-2000".to_string(), Fate::Created),
            ("1-1000".to_string(), deleted(false)),
        ];
        assert_eq!(fates(&seconds), known, "the second one has not ended");
        seconds.end_vantages(Duration::from_millis(1)).await;
        assert_eq!(fates(&seconds), known, "nor can it any more");
    }

    #[tokio::test]
    async fn the_last_seconds_come_before_the_end() {
        let mut seconds = seconds(&["v"]);
        seconds.own(1000, Instant::now());
        let last = seconds.next().await;
        assert_eq!(last, Some(Merged::Second(second(1000))));
        assert_eq!(seconds.next().await, None);
    }
}
