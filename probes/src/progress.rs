//! How far a probe has come, for the text of a timeout.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// What a probe is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    Resolving,
    Connecting,
    ShakingHands,
    Waiting,
    ReadingBody,
}

const STEPS: [(Step, &str); 5] = [
    (Step::Resolving, "resolving"),
    (Step::Connecting, "connecting"),
    (Step::ShakingHands, "shaking hands (TLS)"),
    (Step::Waiting, "waiting for the response"),
    (Step::ReadingBody, "reading the body"),
];

#[derive(Debug, Default)]
pub struct Progress {
    step: AtomicU8,
    part: AtomicUsize,
}

impl Progress {
    pub fn text(&self) -> &'static str {
        let step = self.step.load(Ordering::Relaxed);
        let found = STEPS.iter().find(|(known, _)| *known as u8 == step);
        found.map_or("working", |(_, text)| text)
    }

    pub fn reach(&self, step: Step) {
        self.step.store(step as u8, Ordering::Relaxed);
    }

    /// Number of the request that a probe of several is at.
    pub fn part(&self) -> usize {
        self.part.load(Ordering::Relaxed)
    }

    pub fn begin(&self, part: usize) {
        self.part.store(part, Ordering::Relaxed);
    }
}
