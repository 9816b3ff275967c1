//! Mistakes planted by cargo features for one purpose: the crash harness must find each of them
//! (`make crash-mistakes`). No product is built with one.

/// The intents are written when their changes are in force, not before.
pub const JOURNAL_AFTER: bool = cfg!(feature = "mistake-journal-after");
/// The way back of one mechanism is not walked, and said to have been.
pub const FORGETS_UNDO: bool = cfg!(feature = "mistake-forgets-undo");
/// One mechanism puts back what is usual instead of what was there.
pub const RESTORES_DEFAULT: bool = cfg!(feature = "mistake-restores-default");
/// A drill holds for as long as its steps, whoever is silent.
pub const IGNORES_LEASE: bool = cfg!(feature = "mistake-ignores-lease");

/// The one whose undo is forgotten, as the variants of `changes::Undo` are called: nothing but the
/// inventory of the machine can tell that its change is still there.
const FORGOTTEN: &str = "Route";

pub fn forgets(mechanism: &str) -> bool {
    FORGETS_UNDO && mechanism == FORGOTTEN
}

/// What an undo sets: what was captured, unless that is the planted mistake.
pub fn restored<T>(captured: T, usual: T) -> T {
    if RESTORES_DEFAULT { usual } else { captured }
}

/// What whoever runs this build must be told.
pub fn planted() -> Option<&'static str> {
    (JOURNAL_AFTER || FORGETS_UNDO || RESTORES_DEFAULT || IGNORES_LEASE)
        .then_some("this build has a planted mistake and leaves faults behind: for tests only")
}
