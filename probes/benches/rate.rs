//! How many probes one core sends in time: `make bench-probes`. The prober is on one core, the servers that
//! it asks are on another; a probe's lag is what lies between its time on the grid and its arrival.

#[path = "../tests/fleet/mod.rs"]
mod fleet;

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use probes::{ProbeOut, Prober};
use scenarios::fleet::{Ask, Fleet};
use scenarios::history::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

const CELLS: usize = 10;
/// Probes per second of all cells together.
const RATES: [f64; 7] = [1e3, 2e3, 5e3, 10e3, 20e3, 30e3, 50e3];
const ROUNDS: usize = 5;
/// Of one round, after the first one, in which connections are made.
const SECONDS: usize = 4;
const WANTED: Duration = Duration::from_millis(1);

/// When each probe came, by stream and number.
type Arrivals = Arc<Mutex<Vec<(usize, u64, Instant)>>>;

/// What one round came to.
struct Round {
    /// Share of probes that the prober itself sent too late to count.
    late: f64,
    /// p99 of the time from the grid to the server.
    lag: Duration,
    /// CPU time of the prober's one thread for a probe.
    each: Duration,
    /// How much of its core that was.
    busy: f64,
}

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(
        cores >= 2,
        "this needs a core for the prober and one for what it asks"
    );
    let arrivals = Arrivals::default();
    let port = serve(Arc::clone(&arrivals));
    pin(0);
    tell_bounds(port);
    println!(
        "{CELLS} streams of HTTP GET, every other one over a new connection; {ROUNDS} rounds of {SECONDS} s"
    );
    println!("probes/s  sent too late  p99 lag  CPU each  core busy   (medians)");
    for rate in RATES {
        let mut rounds: Vec<Round> = (0..ROUNDS).map(|_| round(port, rate, &arrivals)).collect();
        let late = median(&mut rounds, |round| round.late);
        let lag = median(&mut rounds, |round| round.lag.as_secs_f64());
        let each = median(&mut rounds, |round| round.each.as_secs_f64());
        let busy = median(&mut rounds, |round| round.busy);
        let met = if late == 0.0 && lag <= WANTED.as_secs_f64() {
            ""
        } else {
            "   too much"
        };
        println!(
            "{rate:>8}  {:>12.2}%  {:>4.2} ms  {:>5.1} us  {:>8.0}%{met}",
            late * 100.0,
            lag * 1e3,
            each * 1e6,
            busy * 100.0
        );
    }
}

/// What no prober on this kernel and this runtime can be better than.
fn tell_bounds(port: u16) {
    let (kept, new) = (bare(port, false), bare(port, true));
    let mean = (kept + new) / 2;
    println!(
        "sockets alone (connect, write, read, close): {:.1} us of CPU on a kept connection, {:.1} us on a new one; \
         so at most {:.0} probes/s of both",
        kept.as_secs_f64() * 1e6,
        new.as_secs_f64() * 1e6,
        1.0 / mean.as_secs_f64()
    );
    let late = timer_alone();
    println!(
        "the runtime's timer alone, 1,000 a second: p99 {:.2} ms late",
        late.as_secs_f64() * 1e3
    );
}

/// CPU time of this thread for one request over a blocking socket; the median of rounds.
fn bare(port: u16, anew: bool) -> Duration {
    const REQUESTS: u32 = 1_000;
    let request = b"GET /bare HTTP/1.1\r\nhost: x\r\n\r\n";
    let connect = || std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let mut kept = connect();
            let began = cpu();
            for _ in 0..REQUESTS {
                if anew {
                    kept = connect();
                }
                kept.write_all(request).unwrap();
                let mut answer = [0; 256];
                assert!(kept.read(&mut answer).unwrap() > 0);
            }
            (cpu() - began) / REQUESTS
        })
        .collect();
    rounds.sort();
    rounds[ROUNDS / 2]
}

/// p99 of how late a task wakes that only waits for the next millisecond of its grid; the median of rounds.
fn timer_alone() -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let round = || {
        runtime.block_on(async {
            let origin = Instant::now();
            let mut late = Vec::new();
            for k in 0..2_000_u32 {
                // Not on the runtime's own grid.
                let due = origin + Duration::from_micros(u64::from(k) * 1_000 + 300);
                tokio::time::sleep_until(due).await;
                late.push(Instant::now().saturating_duration_since(due));
            }
            late.sort();
            late[late.len() * 99 / 100]
        })
    };
    let mut rounds: Vec<Duration> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort();
    rounds[ROUNDS / 2]
}

fn median(rounds: &mut [Round], of: impl Fn(&Round) -> f64) -> f64 {
    rounds.sort_by(|a, b| of(a).total_cmp(&of(b)));
    of(&rounds[rounds.len() / 2])
}

fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cores).unwrap();
}

fn asked(port: u16, rate: f64) -> Fleet {
    let mut fleet = fleet::fleet();
    for number in 0..CELLS {
        fleet::add_cell(
            &mut fleet,
            &format!("c{number}"),
            &format!("127.0.1.{number}"),
        );
    }
    let mut probe = fleet::get_probe(port);
    let url = format!("http://{{cell}}:{port}/{{id}}");
    probe.ask = Ask::Http(fleet::request(scenarios::fleet::HttpMethod::Get, url));
    probe.rate = rate / CELLS as f64;
    fleet.probes.insert("home".to_owned(), probe);
    fleet
}

/// On a runtime of one thread: what is sent and read is all of this thread's doing.
fn round(port: u16, rate: f64, arrivals: &Arrivals) -> Round {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let fleet = asked(port, rate);
        let streams = probes::streams(&fleet, &[]);
        let (sender, mut out) = mpsc::channel(64);
        let origin = Instant::now() + Duration::from_millis(20);
        let mut prober = Prober::start(&fleet, &streams, "r", origin, sender).unwrap();
        let (mut scheduled, mut valid) = (0_u64, 0_u64);
        let mut began = (Duration::ZERO, Instant::now());
        for second in 0..=SECONDS {
            let Some(ProbeOut::Second { blocks, .. }) = out.recv().await else {
                panic!("the prober ended");
            };
            if second == 0 {
                arrivals.lock().unwrap().clear();
                began = (cpu(), Instant::now());
                continue;
            }
            let home = blocks
                .iter()
                .filter(|block| block.stream.ends_with("/home"));
            for block in home {
                scheduled += u64::from(block.scheduled);
                valid += u64::from(block.valid);
            }
        }
        let (used, passed) = (cpu() - began.0, began.1.elapsed());
        prober.stop().await;
        let came = std::mem::take(&mut *arrivals.lock().unwrap());
        Round {
            late: (scheduled - valid) as f64 / scheduled.max(1) as f64,
            lag: lag(&came, &streams, origin),
            each: used.div_f64(scheduled.max(1) as f64),
            busy: used.as_secs_f64() / passed.as_secs_f64(),
        }
    })
}

/// Time that this thread has run.
fn cpu() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap())
}

/// p99 over all that came: probe `k` of stream `index` is due at `index / (count * rate) + k / rate`.
fn lag(came: &[(usize, u64, Instant)], streams: &[Stream], origin: Instant) -> Duration {
    let count = streams.len() as f64;
    let lag = |(index, k, at): &(usize, u64, Instant)| {
        let rate = streams.get(*index).map_or(1.0, |stream| stream.rate);
        let due = *index as f64 / (count * rate) + *k as f64 / rate;
        at.saturating_duration_since(origin + Duration::from_secs_f64(due))
    };
    let mut lags: Vec<Duration> = came.iter().map(lag).collect();
    lags.sort();
    lags.get(lags.len() * 99 / 100)
        .copied()
        .unwrap_or(Duration::MAX)
}

/// Answers every GET with `ok`, on the other core.
fn serve(arrivals: Arrivals) -> u16 {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        pin(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&arrivals)));
            }
        });
    });
    port
}

async fn answer(mut stream: TcpStream, arrivals: Arrivals) {
    let mut read = Vec::with_capacity(512);
    while stream
        .read_buf(&mut read)
        .await
        .is_ok_and(|length| length > 0)
    {
        if !read.ends_with(b"\r\n\r\n") {
            continue;
        }
        let at = Instant::now();
        let text = String::from_utf8_lossy(&read);
        if let Some((stream, k)) = numbers(&text) {
            arrivals.lock().unwrap().push((stream, k, at));
        }
        let last = text.contains("connection: close");
        let answered = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await;
        if last || answered.is_err() {
            return;
        }
        read.clear();
    }
}

/// Of `GET /r-STREAM-NUMBER HTTP/1.1`.
fn numbers(request: &str) -> Option<(usize, u64)> {
    let mut words = request.split(' ').nth(1)?.split('-').skip(1);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}
