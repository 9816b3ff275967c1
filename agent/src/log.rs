//! What is told on the standard streams never holds up the end of a fault: it is lost if nobody reads.

use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, ReadWriteFlags};

/// PIPE_BUF: a pipe that has room takes so many bytes at once (pipe(7)).
const AT_ONCE: usize = 4096;
/// For pwritev2(2): where the file is by now.
const HERE: u64 = u64::MAX;

/// A stream that is never waited for.
pub struct Unhurried<F>(pub F);

impl<F: AsFd> Unhurried<F> {
    fn has_room(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::OUT)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Whether it went.
    fn take(&self, part: &[u8]) -> bool {
        if !self.has_room() {
            return false;
        }
        // Another writer may have taken the room since.
        let flags = ReadWriteFlags::NOWAIT;
        let patient = match rustix::io::pwritev2(&self.0, &[IoSlice::new(part)], HERE, flags) {
            Ok(_) => return true,
            // Of a file: it would have to wait for its disk, and for no reader.
            Err(Errno::AGAIN) => self.is_a_file(),
            // Terminals do not know the flag, and some sandboxes not the call.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::PERM) => self.has_room(),
            Err(_) => false,
        };
        patient && rustix::io::write(&self.0, part).is_ok()
    }

    fn is_a_file(&self) -> bool {
        let kind = |seen: rustix::fs::Stat| rustix::fs::FileType::from_raw_mode(seen.st_mode);
        rustix::fs::fstat(&self.0).is_ok_and(|seen| kind(seen).is_file())
    }
}

impl<F: AsFd> Write for Unhurried<F> {
    /// All of it counts as written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bytes.chunks(AT_ONCE).all(|part| self.take(part));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says a line on standard output.
pub fn say(line: &str) {
    let _ = Unhurried(io::stdout()).write(format!("{line}\n").as_bytes());
}

/// Says a line on standard error.
pub fn complain(line: &str) {
    let _ = Unhurried(io::stderr()).write(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_has_no_room_is_lost_and_what_has_some_is_not() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut out = Unhurried(writer);
        out.write_all(b"first\n").unwrap();
        let line = [b'x'; 1000];
        for _ in 0..200 {
            out.write_all(&line).unwrap(); // a pipe takes 64 KiB
        }
        let mut start = [0; 6];
        reader.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"first\n");
        let mut much = vec![0; 60_000];
        reader.read_exact(&mut much).unwrap();
        out.write_all(b"last").unwrap();
        drop(out);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(
            rest.ends_with(b"xlast") && rest.len() < 100_000,
            "{}",
            rest.len()
        );
    }

    #[test]
    fn a_file_takes_all() {
        let mut file = tempfile::tempfile().unwrap();
        let text = "line\n".repeat(3_000);
        Unhurried(&file).write_all(text.as_bytes()).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut seen = String::new();
        file.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, text);
    }
}
