//! A stream of small packets from the node to a peer that answers each: when does one come through?

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::root::support::{ECHO, Namespace};

/// With what a timer adds on top, at least one packet per millisecond.
const PAUSE: Duration = Duration::from_micros(250);
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends until it is dropped, unless it rests. Answers are stamped with CLOCK_MONOTONIC (Instant) when
/// they have been read.
pub struct Stream {
    sends: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    answers: Receiver<Instant>,
}

impl Stream {
    /// From this namespace to the echo port of an address; resting at first.
    pub fn open(from: &Namespace, to: &str) -> Self {
        let to = SocketAddr::new(to.parse().expect("an address"), ECHO);
        let (tell, answers) = channel();
        let stream = Self {
            sends: Arc::default(),
            over: Arc::default(),
            answers,
        };
        let (sends, over) = (stream.sends.clone(), stream.over.clone());
        from.run(move || {
            // Not connected: a route may be missing, and an answer may come from another address.
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            let reader = socket.try_clone().expect("a second handle");
            let timeout = Some(Duration::from_millis(100));
            reader.set_read_timeout(timeout).expect("a timeout");
            let end = over.clone();
            std::thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    let answered = reader.recv(&mut [0; 16]).is_ok();
                    if answered && tell.send(Instant::now()).is_err() {
                        return;
                    }
                }
            });
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if sends.load(Ordering::Relaxed) {
                        let _ = socket.send_to(b"word", to); // without a route it is refused
                    }
                    std::thread::sleep(PAUSE);
                }
            });
        });
        stream
    }

    pub fn go_on(&self) {
        self.sends.store(true, Ordering::Relaxed);
    }

    pub fn rest(&self) {
        self.sends.store(false, Ordering::Relaxed);
    }

    /// When the first answer came at or after `since`.
    pub fn first_after(&self, since: Instant) -> Instant {
        loop {
            match self.answers.recv_timeout(PATIENCE) {
                Ok(at) if at >= since => return at,
                Ok(_) => {}
                Err(cause) => panic!("no packet comes through: {cause}"),
            }
        }
    }

    /// Panics if a packet comes through within `length` from now: then there is no fault to end. What
    /// was on its way before does not count.
    pub fn must_be_cut(&self, length: Duration) {
        std::thread::sleep(Duration::from_millis(5));
        let since = Instant::now();
        loop {
            let left = length.saturating_sub(since.elapsed());
            match self.answers.recv_timeout(left) {
                Ok(at) if at >= since => panic!("the fault is in force, and packets come through"),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("the stream has ended"),
            }
        }
    }

    /// Time between one answer and the next without a fault, over `length`: how finely this measures.
    pub fn gaps(&self, length: Duration) -> Vec<Duration> {
        let begun = Instant::now();
        let mut before = self.first_after(begun);
        let mut gaps = Vec::new();
        while begun.elapsed() < length {
            let next = self.first_after(before);
            gaps.push(next - before);
            before = next;
        }
        gaps
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
