//! The echo flows of all paths at once: who answers, who is still answered, who is answered again.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Error;
use super::paths::Path;
use crate::kernel::echo::{Echo, Peer};

/// How long an answer may take where one must come (address resolution included).
const PATIENCE: Duration = Duration::from_millis(700);
const AGAIN: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(2);
/// How long nothing may come where nothing must; more if the peer is far away.
const SILENCE: Duration = Duration::from_millis(120);
const SILENCE_MOST: Duration = Duration::from_millis(500);
/// Ids below are what ordinary ping programs of small process ids use.
const FIRST_ID: u16 = 0x4000;
const MOST_FLOWS: usize = 0x8000;

/// One (path, peer) with an id that no other flow of ours has.
struct Flow {
    path: usize,
    peer: Peer,
    id: u16,
    /// Whether the kernel took any request.
    sent: bool,
    /// When the last of its requests left, and whether one of this phase was answered.
    answered: bool,
}

pub struct Flows {
    /// One per path.
    sockets: Vec<Echo>,
    flows: Vec<Flow>,
    sequence: u16,
    /// Answers to requests before this one are of an earlier phase.
    phase: u16,
    slowest: Duration,
}

impl Flows {
    pub fn open(paths: &[Path<'_>]) -> Result<Self, Error> {
        let mut sockets = Vec::new();
        let mut flows = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            let open = || Echo::open(path.v6);
            let socket = match path.of {
                None => open(),
                Some(pod) => pod.namespace.run(open).and_then(|opened| opened),
            };
            sockets
                .push(socket.map_err(|cause| Error::Open(format!("from {}", path.name), cause))?);
            flows.extend(path.peers.iter().map(|peer| Flow {
                path: index,
                peer: *peer,
                id: 0,
                sent: false,
                answered: false,
            }));
        }
        flows.truncate(MOST_FLOWS);
        let room = (MOST_FLOWS - flows.len() + 1) as u64;
        let first = FIRST_ID + (RandomState::new().build_hasher().finish() % room) as u16;
        for (flow, id) in flows.iter_mut().zip(first..) {
            flow.id = id;
        }
        Ok(Self {
            sockets,
            flows,
            sequence: 0,
            phase: 0,
            slowest: Duration::ZERO,
        })
    }

    /// First and last id.
    pub fn ids(&self) -> (u16, u16) {
        let id = |flow: Option<&Flow>| flow.map_or(FIRST_ID, |flow| flow.id);
        (id(self.flows.first()), id(self.flows.last()))
    }

    pub fn peers(&self) -> BTreeSet<IpAddr> {
        self.flows.iter().map(|flow| flow.peer.address).collect()
    }

    /// Phase (a): keeps for each path the first peer that answers. The answer is who cannot be proven,
    /// in words.
    pub fn choose_peers(&mut self, paths: &[Path<'_>]) -> Result<Vec<String>, Error> {
        self.begin();
        let begun = Instant::now();
        let everyone: Vec<usize> = (0..paths.len()).collect();
        let mut unanswered = self.until_answered(&everyone)?;
        self.slowest = begun.elapsed();
        // Nothing can be sent there: without a route that is no path.
        let unsent = |path: &usize| {
            let mut flows = self.flows.iter().filter(|flow| flow.path == *path);
            !paths[*path].routed && flows.all(|flow| !flow.sent)
        };
        let no_path: Vec<usize> = unanswered.iter().copied().filter(unsent).collect();
        unanswered.retain(|path| !no_path.contains(path));
        let mut kept = BTreeSet::new();
        self.flows
            .retain(|flow| flow.answered && kept.insert(flow.path));
        Ok(unanswered
            .into_iter()
            .map(|path| unproven(&paths[path]))
            .collect())
    }

    /// Phases (b) and (c): which of these paths are answered although nothing must be.
    pub fn still_answered(&mut self, which: &[usize]) -> Result<Vec<usize>, Error> {
        self.begin();
        let silence = (SILENCE + 2 * self.slowest).min(SILENCE_MOST);
        let end = Instant::now() + silence;
        let mut next = Instant::now();
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            if now >= next {
                self.send(which);
                next = now + silence / 3;
            }
            self.receive().map_err(Error::Read)?;
            std::thread::sleep(PAUSE);
        }
        let answered = self.flows.iter().filter(|flow| flow.answered);
        let answered: BTreeSet<usize> = answered.map(|flow| flow.path).collect();
        Ok(which
            .iter()
            .copied()
            .filter(|path| answered.contains(path))
            .collect())
    }

    /// Phase (d): which of these paths are not answered again.
    pub fn answered(&mut self, which: &[usize]) -> Result<Vec<usize>, Error> {
        self.begin();
        let has_flow: BTreeSet<usize> = self.flows.iter().map(|flow| flow.path).collect();
        let which: Vec<usize> = which
            .iter()
            .copied()
            .filter(|path| has_flow.contains(path))
            .collect();
        self.until_answered(&which)
    }

    fn begin(&mut self) {
        self.sequence += 1;
        self.phase = self.sequence;
        self.flows.iter_mut().for_each(|flow| flow.answered = false);
    }

    /// Asks again and again until each path has an answer; who has none in the end.
    fn until_answered(&mut self, which: &[usize]) -> Result<Vec<usize>, Error> {
        let end = Instant::now() + PATIENCE;
        let mut next = Instant::now();
        loop {
            let now = Instant::now();
            let left = self.without_answer(which);
            if left.is_empty() || now >= end {
                return Ok(left);
            }
            if now >= next {
                self.send(&left);
                next = now + AGAIN;
            }
            std::thread::sleep(PAUSE);
            self.receive().map_err(Error::Read)?;
        }
    }

    fn without_answer(&self, which: &[usize]) -> Vec<usize> {
        let answered = self.flows.iter().filter(|flow| flow.answered);
        let answered: BTreeSet<usize> = answered.map(|flow| flow.path).collect();
        which
            .iter()
            .copied()
            .filter(|path| !answered.contains(path))
            .collect()
    }

    fn send(&mut self, which: &[usize]) {
        self.sequence += 1;
        let sequence = self.sequence;
        let wanted: BTreeSet<usize> = which.iter().copied().collect();
        for flow in &mut self.flows {
            if wanted.contains(&flow.path) {
                // One that the kernel refuses is asked again; if it never takes any, it has no answer.
                let sent = self.sockets[flow.path].send(flow.peer, flow.id, sequence);
                flow.sent |= sent.is_ok();
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut by_id: HashMap<u16, &mut Flow> =
            self.flows.iter_mut().map(|flow| (flow.id, flow)).collect();
        for (path, socket) in self.sockets.iter().enumerate() {
            for reply in socket.replies()? {
                if let Some(flow) = by_id.get_mut(&reply.id)
                    && flow.path == path
                    && flow.peer.address == reply.from
                    && reply.sequence >= self.phase
                {
                    flow.answered = true;
                }
            }
        }
        Ok(())
    }
}

fn unproven(path: &Path<'_>) -> String {
    let peers: Vec<String> = path
        .peers
        .iter()
        .map(|peer| peer.address.to_string())
        .collect();
    let asked = if peers.is_empty() {
        "there is nobody to ask: no default gateway that it could reach and no operator address of \
         this family in the plan"
            .to_owned()
    } else {
        format!(
            "neither the default gateway nor an operator answered ({})",
            peers.join(", ")
        )
    };
    format!(
        "{}: no canary can be sent through it, so its cut cannot be proven: {asked} (ICMP echo)",
        path.words()
    )
}
