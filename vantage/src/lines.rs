//! Lines in and out, on threads of their own: neither a slow reader nor a slow writer holds up a probe.

use std::io::{BufRead, Read, Write};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use probes::vantage::{Order, Said};
use tokio::sync::mpsc;

/// A fleet file is smaller than this (`scenarios::INPUT_BYTES_MAX`), and no order is larger.
const LINE_MAX: u64 = 16 << 20;
/// Seconds that wait for whoever reads them.
const UNREAD_MAX: usize = 30;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read an order: {0}")]
    Read(std::io::Error),
    #[error("an order is no order: {0}; use matching versions")]
    Order(serde_json::Error),
    #[error("nobody has read what was seen for {UNREAD_MAX} s")]
    Unread,
    #[error("cannot write down what was seen: {0}")]
    Line(serde_json::Error),
}

/// The orders of standard input; the channel ends with it.
pub fn orders() -> mpsc::Receiver<Result<Order, Error>> {
    let (sender, orders) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while let Some(order) = next(&mut input) {
            let failed = order.is_err();
            if sender.blocking_send(order).is_err() || failed {
                return;
            }
        }
    });
    orders
}

fn next(input: &mut impl BufRead) -> Option<Result<Order, Error>> {
    let mut line = Vec::new();
    match input.take(LINE_MAX).read_until(b'\n', &mut line) {
        Ok(0) => None,
        Ok(_) => Some(serde_json::from_slice(&line).map_err(Error::Order)),
        Err(error) => Some(Err(Error::Read(error))),
    }
}

/// Standard output, as a queue.
pub struct Mouth {
    lines: SyncSender<Vec<u8>>,
    writer: JoinHandle<()>,
}

impl Mouth {
    pub fn open() -> Self {
        let (queue, lines) = sync_channel::<Vec<u8>>(UNREAD_MAX);
        let writer = std::thread::spawn(move || {
            let mut output = std::io::stdout().lock();
            for line in lines {
                if output
                    .write_all(&line)
                    .and_then(|()| output.flush())
                    .is_err()
                {
                    return;
                }
            }
        });
        Self {
            lines: queue,
            writer,
        }
    }

    /// Waits until all that was said is written; whoever never reads it ends this process.
    pub fn close(self) {
        drop(self.lines);
        let _ = self.writer.join(); // a panic was told already
    }

    /// False if there is nobody any more.
    pub fn say(&self, said: &Said) -> Result<bool, Error> {
        let mut line = serde_json::to_vec(said).map_err(Error::Line)?;
        line.push(b'\n');
        match self.lines.try_send(line) {
            Ok(()) => Ok(true),
            Err(TrySendError::Disconnected(_)) => Ok(false),
            Err(TrySendError::Full(_)) => Err(Error::Unread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_orders_or_say_why_not() {
        let mut input = &b"{\"begin\":{\"origin_boottime_ns\":7}}\n{\"sing\":1}\n"[..];
        let first = next(&mut input).unwrap().unwrap();
        assert_eq!(
            first,
            Order::Begin {
                origin_boottime_ns: 7
            }
        );
        let error = next(&mut input).unwrap().unwrap_err().to_string();
        assert!(error.contains("sing"), "{error}");
        assert!(next(&mut input).is_none(), "the end");
    }
}
