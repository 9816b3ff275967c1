//! Numbered datagrams from this namespace to the peer's, and when each arrived: one clock for both ends.

use std::fs::File;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

const PORT: u16 = 9000;
const LOOK: Duration = Duration::from_millis(50);
/// How long after the last datagram one may still arrive.
const LINGER: Duration = Duration::from_secs(2);
/// Number and time of sending.
const HEADER: usize = 16;
/// Ethernet, IPv4 and UDP, which a queueing discipline counts too.
const HEADERS: usize = 14 + 20 + 8;

pub struct Flow {
    pub to: &'static str,
    pub count: u64,
    pub gap: Duration,
    /// Of the payload, bytes.
    pub size: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub number: u64,
    pub delay: Duration,
    /// Since the flow began.
    pub at: Duration,
}

pub struct Arrivals {
    pub sent: u64,
    size: usize,
    /// In the order in which they came.
    pub all: Vec<Arrival>,
    /// Datagrams that the peer's kernel found damaged.
    pub damaged: u64,
}

impl Flow {
    pub fn run(&self, peer: &File) -> Result<Arrivals, String> {
        let origin = Instant::now();
        let over = Arc::new(AtomicBool::new(false));
        let (tell, ready) = mpsc::channel();
        let there = peer.try_clone().map_err(|cause| cause.to_string())?;
        let stop = over.clone();
        let receiver = std::thread::spawn(move || receive(&there, origin, &stop, &tell));
        ready.recv().map_err(|_| "the receiver has not begun")?;
        let sent = self.send(origin);
        std::thread::sleep(LINGER);
        over.store(true, Ordering::Relaxed);
        let (all, damaged) = receiver.join().map_err(|_| "the receiver panicked")??;
        sent.map_err(|cause| format!("send to {}: {cause}", self.to))?;
        Ok(Arrivals {
            sent: self.count,
            size: self.size,
            all,
            damaged,
        })
    }

    fn send(&self, origin: Instant) -> std::io::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((self.to, PORT))?;
        let mut datagram = vec![0x5a_u8; self.size.max(HEADER)];
        for number in 0..self.count {
            let sent = origin.elapsed().as_nanos() as u64;
            datagram[..8].copy_from_slice(&number.to_le_bytes());
            datagram[8..HEADER].copy_from_slice(&sent.to_le_bytes());
            socket.send(&datagram)?;
            if !self.gap.is_zero() {
                std::thread::sleep(self.gap);
            }
        }
        Ok(())
    }
}

fn receive(
    peer: &File,
    origin: Instant,
    over: &AtomicBool,
    ready: &mpsc::Sender<()>,
) -> Result<(Vec<Arrival>, u64), String> {
    setns(peer, CloneFlags::CLONE_NEWNET).map_err(|cause| format!("the peer: {cause}"))?;
    let failed = |cause: std::io::Error| format!("receive: {cause}");
    let socket = UdpSocket::bind(("0.0.0.0", PORT)).map_err(failed)?;
    socket.set_read_timeout(Some(LOOK)).map_err(failed)?;
    let before = checksum_errors()?;
    let _ = ready.send(());
    let mut all = Vec::new();
    let mut datagram = [0_u8; 2048];
    while !over.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut datagram) else {
            continue; // nothing within a look
        };
        let at = origin.elapsed();
        if length < HEADER {
            return Err(format!("a datagram of {length} bytes came"));
        }
        let word = |from: usize| {
            let bytes = datagram[from..from + 8].try_into().unwrap_or_default();
            u64::from_le_bytes(bytes)
        };
        all.push(Arrival {
            number: word(0),
            delay: at.saturating_sub(Duration::from_nanos(word(8))),
            at,
        });
    }
    Ok((all, checksum_errors()? - before))
}

/// `InCsumErrors` of UDP in this thread's namespace (`/proc/net/snmp`).
fn checksum_errors() -> Result<u64, String> {
    let path = "/proc/thread-self/net/snmp";
    let text = std::fs::read_to_string(path).map_err(|cause| format!("{path}: {cause}"))?;
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let mut both = names.split(' ').zip(values.split(' '));
    let value = both.find_map(|(name, value)| (name == "InCsumErrors").then_some(value));
    value
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| format!("{path} has no InCsumErrors"))
}

impl Arrivals {
    /// Milliseconds, ascending.
    pub fn delays(&self) -> Vec<f64> {
        let mut delays: Vec<f64> = self
            .all
            .iter()
            .map(|arrival| arrival.delay.as_secs_f64() * 1_000.0)
            .collect();
        delays.sort_by(f64::total_cmp);
        delays
    }

    /// Of the numbers that were sent, how many came at least once.
    pub fn distinct(&self) -> u64 {
        let numbers: std::collections::BTreeSet<u64> =
            self.all.iter().map(|arrival| arrival.number).collect();
        numbers.len() as u64
    }

    pub fn lost_share(&self) -> f64 {
        1.0 - self.distinct() as f64 / self.sent as f64
    }

    /// Bits per second of whole frames that came after the first `skip`.
    pub fn rate(&self, skip: usize) -> f64 {
        let counted = self.all.get(skip..).unwrap_or_default();
        match counted {
            [first, between @ .., last] => {
                let bits = (between.len() + 1) * (self.size + HEADERS) * 8;
                bits as f64 / (last.at - first.at).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// How many came after one that was sent later.
    pub fn overtaken(&self) -> usize {
        let mut latest = 0;
        let overtaken = self.all.iter().filter(|arrival| {
            let behind = arrival.number < latest;
            latest = latest.max(arrival.number);
            behind
        });
        overtaken.count()
    }
}
