//! The bytes of a file: their digest, and a tail that is kept elsewhere and put back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::crash_point;
use crate::journal::Permit;

/// Bytes at a time; few in tests, so that they stop between two of them.
#[cfg(not(test))]
const CHUNK: usize = 1 << 20;
#[cfg(test)]
const CHUNK: usize = 8;

/// How much of a tail is in its place again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of it.
    Whole,
    /// So many bytes of it, and behind them nothing or bytes that were never written (a crash while
    /// it was put back).
    Part(u64),
    /// Something else stands there.
    Foreign,
}

/// In lower-case hex.
pub fn sha256_of(file: &File) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK.max(1 << 16)];
    let mut at = 0;
    loop {
        let read = read_at(file, &mut chunk, at)?;
        if read == 0 {
            return Ok(format!("{:x}", digest.finalize()));
        }
        digest.update(&chunk[..read]);
        at += read as u64;
    }
}

/// Writes from the beginning of a new file.
pub fn write_all(file: &File, bytes: &[u8], permit: &Permit) -> io::Result<()> {
    for (number, chunk) in bytes.chunks(CHUNK).enumerate() {
        put(file, chunk, (number * CHUNK) as u64, permit)?;
    }
    Ok(())
}

/// Writes what is in `from` behind `offset` into the new file `to`.
pub fn copy_tail(from: &File, offset: u64, to: &File, permit: &Permit) -> io::Result<()> {
    copy(from, offset, to, 0, permit)
}

/// Goes on with putting `tail` back behind `offset` of `file`, of which `done` bytes are there.
pub fn add_tail(
    file: &File,
    offset: u64,
    tail: &File,
    done: u64,
    permit: &Permit,
) -> io::Result<()> {
    copy(tail, done, file, offset + done, permit)
}

/// What stands behind `offset` of `file`, compared with `tail`.
pub fn compare_tail(file: &File, offset: u64, tail: &File) -> io::Result<Reach> {
    let (mut here, mut kept) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut done = 0;
    loop {
        let wanted = read_at(tail, &mut kept, done)?;
        if wanted == 0 {
            return Ok(Reach::Whole);
        }
        let there = read_at(file, &mut here[..wanted], offset + done)?;
        let same = here[..there].iter().zip(&kept).take_while(|(a, b)| a == b);
        let same = same.count();
        done += same as u64;
        if same < wanted {
            return match only_zeros(file, offset + done)? {
                true => Ok(Reach::Part(done)),
                false => Ok(Reach::Foreign),
            };
        }
    }
}

/// Cuts a file; nothing of it is left behind `size`.
pub fn shorten(file: &File, size: u64, _: &Permit) -> io::Result<()> {
    crash_point();
    Ok(rustix::fs::ftruncate(file, size)?)
}

/// Keeps room on the disk for what will stand behind `offset` again, unseen by readers: a disk that
/// fills up meanwhile does not keep it out. The answer is whether the file system can do that.
pub fn reserve(file: &File, offset: u64, bytes: u64, _: &Permit) -> io::Result<bool> {
    crash_point();
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, bytes) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn copy(from: &File, mut at: u64, to: &File, mut into: u64, permit: &Permit) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = read_at(from, &mut chunk, at)?;
        if read == 0 {
            return Ok(());
        }
        put(to, &chunk[..read], into, permit)?;
        at += read as u64;
        into += read as u64;
    }
}

fn put(file: &File, bytes: &[u8], at: u64, _: &Permit) -> io::Result<()> {
    crash_point();
    file.write_all_at(bytes, at)
}

fn only_zeros(file: &File, mut at: u64) -> io::Result<bool> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = read_at(file, &mut chunk, at)?;
        if read == 0 {
            return Ok(true);
        }
        if chunk[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += read as u64;
    }
}

/// As much as the buffer holds, or up to the end of the file.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
