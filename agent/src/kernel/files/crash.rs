//! Ends a test's work before its n-th call that alters a file, as a SIGKILL there would.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

thread_local! {
    /// Calls that are still let through; none: all.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// What unwinds the stack; whoever catches it must not tidy up.
struct Crash;

/// Runs `work` until just before the call number `calls` (0: the first). None: it was stopped there.
pub fn after<T>(calls: u32, work: impl FnOnce() -> T) -> Option<T> {
    LEFT.set(Some(calls));
    let done = catch_unwind(AssertUnwindSafe(work));
    LEFT.set(None);
    match done {
        Ok(done) => Some(done),
        Err(payload) if payload.is::<Crash>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

pub(super) fn pass() {
    match LEFT.get() {
        Some(0) => resume_unwind(Box::new(Crash)),
        Some(left) => LEFT.set(Some(left - 1)),
        None => {}
    }
}
