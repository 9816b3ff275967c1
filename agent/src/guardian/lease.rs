//! When the agent's lease ends, in memory that its guardian shares: what a hung agent no longer ends.
//!
//! It is a memory file, and not a pipe: a guardian that was stopped for long must read the last word
//! and not the first. The instant stands there twice, the second time with its bits turned, so that
//! half of a word is not taken for one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::MemfdFlags;

use crate::boottime::Boottime;

const WORD: usize = size_of::<u64>();

/// The agent's side.
pub(super) struct Told(File);

/// The guardian's side: its standard input.
pub(super) struct Heard(File);

impl Told {
    /// And what the guardian gets as its standard input.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let memory = rustix::fs::memfd_create("cellwall-lease", MemfdFlags::CLOEXEC)?;
        let shared = memory.try_clone()?;
        Ok((Self(memory.into()), shared))
    }

    pub fn tell(&self, ends: Boottime) -> io::Result<()> {
        let words = [ends.0.to_ne_bytes(), (!ends.0).to_ne_bytes()].concat();
        self.0.write_all_at(&words, 0)
    }
}

impl Heard {
    pub fn of(input: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(input.as_fd().try_clone_to_owned()?.into()))
    }

    /// None: nothing was told, as by a drill that has no lease.
    pub fn ends(&self) -> Option<Boottime> {
        let mut words = [0; 2 * WORD];
        self.0.read_exact_at(&mut words, 0).ok()?;
        let (told, turned) = words.split_at(WORD);
        let word = |bytes: &[u8]| Some(u64::from_ne_bytes(bytes.try_into().ok()?));
        let ends = word(told)?;
        (word(turned)? == !ends).then_some(Boottime(ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_half_a_word_is_none() {
        let (told, shared) = Told::new().unwrap();
        let heard = Heard::of(shared.as_fd()).unwrap();
        assert_eq!(heard.ends(), None);
        told.tell(Boottime(7)).unwrap();
        told.tell(Boottime(9)).unwrap();
        assert_eq!(heard.ends(), Some(Boottime(9)));
        told.0.write_all_at(&8_u64.to_ne_bytes(), 0).unwrap();
        assert_eq!(heard.ends(), None);
    }

    #[test]
    fn no_file_is_no_lease() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(Heard::of(null.as_fd()).unwrap().ends(), None);
    }
}
