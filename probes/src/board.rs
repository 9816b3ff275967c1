//! All streams' open seconds, shared by the driver and the probes under way.

use std::collections::VecDeque;
use std::time::Duration;

use scenarios::effects::ClientKind;
use scenarios::history::{BadSample, Block, LateEnds, Stream};
use tokio::time::Instant;

use crate::BLOCK_MS;
use crate::block::{self, Head, Limits, OpenBlock, Threshold};
use crate::late::Late;
use crate::outcome::Outcome;
use crate::stalls::Stalls;

const BLOCK: Duration = Duration::from_millis(BLOCK_MS);

/// The place of one probe in the books.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    pub stream: usize,
    block: u64,
    slot: usize,
}

/// The place of one user's request in the books.
#[derive(Clone, Copy, Debug)]
pub struct UserTicket {
    of: Ticket,
    kind: ClientKind,
    slot: usize,
}

struct Books {
    name: String,
    limits: Limits,
    /// From the board's `next_close` on, without a gap.
    open: VecDeque<OpenBlock>,
    /// Closed blocks of a stream that has no threshold yet.
    baseline: Vec<Block>,
    late: Late,
}

/// One second of all streams, closed.
#[derive(Debug)]
pub struct Second {
    pub start_ms: u64,
    pub blocks: Vec<Block>,
    pub samples: Vec<BadSample>,
    /// Of seconds that were closed before.
    pub late: Vec<LateEnds>,
}

pub struct Board {
    origin: Instant,
    streams: Vec<Books>,
    pub stalls: Stalls,
    /// The block that is closed next; all before it are out.
    next_close: u64,
}

impl Board {
    /// Books from block `first` on.
    pub fn new(origin: Instant, streams: &[Stream], first: u64) -> Self {
        let books = |stream: &Stream| Books {
            name: stream.name.clone(),
            limits: Limits {
                tau: stream.slo_ms.map(Duration::from_millis),
                timeout: Duration::from_millis(stream.timeout_ms),
            },
            open: VecDeque::new(),
            baseline: Vec::new(),
            late: Late::default(),
        };
        let streams = streams.iter().map(books).collect();
        Self {
            origin,
            streams,
            stalls: Stalls::default(),
            next_close: first,
        }
    }

    /// Counts a probe as scheduled; `None` if its second is closed already.
    pub fn schedule(&mut self, stream: usize, intended: Instant) -> Option<Ticket> {
        let since = intended.saturating_duration_since(self.origin);
        let block = u64::try_from(since.as_millis()).ok()? / BLOCK_MS;
        let slot = self.open_block(stream, block)?.schedule(intended);
        Some(Ticket {
            stream,
            block,
            slot,
        })
    }

    /// Writes down how a probe ended. After its second was closed only its kind of failure is still news.
    pub fn end(&mut self, ticket: Ticket, at: Instant, outcome: Outcome) {
        if ticket.block < self.next_close {
            if let Some(books) = self.streams.get_mut(ticket.stream) {
                books.late.end(ticket.block, ticket.slot, &outcome);
            }
            return;
        }
        if let Some(block) = self.open_block(ticket.stream, ticket.block) {
            block.end(ticket.slot, at, outcome);
        }
    }

    /// Keeps what a probe is waiting for, should its second close before it ends.
    pub fn note(&mut self, ticket: Ticket, stage: String) {
        if let Some(block) = self.open_block(ticket.stream, ticket.block) {
            block.note(ticket.slot, stage);
        }
    }

    /// Counts the request of a user, in the second of the probe that stands for it.
    pub fn user(
        &mut self,
        ticket: Ticket,
        kind: ClientKind,
        intended: Instant,
    ) -> Option<UserTicket> {
        let slot = self
            .open_block(ticket.stream, ticket.block)?
            .user(kind, intended);
        Some(UserTicket {
            of: ticket,
            kind,
            slot,
        })
    }

    pub fn end_user(&mut self, user: UserTicket, at: Instant, outcome: Outcome) {
        if let Some(block) = self.open_block(user.of.stream, user.of.block) {
            block.end_user(user.kind, user.slot, at, outcome);
        }
    }

    /// Counts a DNS answer that pointed to `cell`, in the second of the probe that asked.
    pub fn answer(&mut self, ticket: Ticket, cell: &str, ttl_s: u32) {
        if let Some(block) = self.open_block(ticket.stream, ticket.block) {
            block.answer(cell, ttl_s);
        }
    }

    fn open_block(&mut self, stream: usize, block: u64) -> Option<&mut OpenBlock> {
        let index = usize::try_from(block.checked_sub(self.next_close)?).ok()?;
        let open = &mut self.streams.get_mut(stream)?.open;
        while open.len() <= index {
            open.push_back(OpenBlock::default());
        }
        open.get_mut(index)
    }

    pub fn tau(&self, stream: usize) -> Option<Duration> {
        self.streams.get(stream)?.limits.tau
    }

    /// When the next second can be closed: every probe of it is decided by then.
    pub fn closes_at(&self) -> Instant {
        let decided = self
            .streams
            .iter()
            .map(|books| books.limits.decided_after())
            .max();
        self.end_of(self.next_close) + decided.unwrap_or_default()
    }

    /// The end of the last second that is not closed and lies wholly before `now`.
    pub fn is_before(&self, now: Instant) -> bool {
        self.end_of(self.next_close) <= now
    }

    fn end_of(&self, block: u64) -> Instant {
        self.origin + BLOCK * u32::try_from(block + 1).unwrap_or(u32::MAX)
    }

    /// Closes the next second.
    pub fn close(&mut self, now: Instant) -> Second {
        let start_ms = self.next_close * BLOCK_MS;
        let mut second = Second {
            start_ms,
            blocks: Vec::new(),
            samples: Vec::new(),
            late: Vec::new(),
        };
        for books in &mut self.streams {
            let head = Head {
                stream: &books.name,
                origin: self.origin,
                start_ms,
            };
            let open = books.open.pop_front().unwrap_or_default();
            let closed = open.close(head, books.limits, &self.stalls, now);
            if books.limits.tau.is_none() {
                books.baseline.push(closed.block.clone());
            }
            second.late.extend(books.late.take(&books.name));
            books.late.expect(self.next_close, closed.under_way);
            second.blocks.push(closed.block);
            second.samples.extend(closed.samples);
        }
        // No open probe is older than the start of the second before this one's end.
        self.stalls.forget_before(self.end_of(self.next_close));
        self.next_close += 1;
        second
    }

    /// Sets the threshold of every stream that has none, from its closed blocks since `from_ms`.
    pub fn set_thresholds(&mut self, from_ms: u64) -> Vec<Threshold> {
        let mut set = Vec::new();
        for books in self
            .streams
            .iter_mut()
            .filter(|books| books.limits.tau.is_none())
        {
            let baseline = books
                .baseline
                .iter()
                .filter(|block| block.start_ms >= from_ms);
            let tau = block::threshold(baseline, books.limits.timeout);
            books.limits.tau = Some(tau);
            books.baseline = Vec::new();
            let tau_ms = u64::try_from(tau.as_millis()).unwrap_or(u64::MAX);
            set.push(Threshold {
                stream: books.name.clone(),
                tau_ms,
            });
        }
        set
    }
}
