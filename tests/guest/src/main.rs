//! `guest`: boots another kernel in QEMU and proves there what this machine's kernel cannot show.

mod host;
mod image;
mod inside;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;

use report::Case;

/// At the same time.
const MACHINES: usize = 2;
const UNTRUE: u8 = 1;
const FAILED: u8 = 70;

/// Proves on a kernel of its own, in QEMU without hardware's help, that faults end: the power cut,
/// netem, limits of cgroup v2, the guardian when memory runs out, clocks that jump (needs root).
///
/// Exit codes: 0 all is as it must be, 1 something is not, 64 usage, 70 something could not be tried.
#[derive(Debug, Parser)]
#[command(name = "guest", max_term_width = 100)]
struct Options {
    /// Only these
    #[arg(value_enum)]
    cases: Vec<Case>,
    /// The program that is proved; else the one beside this program
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// What fetch-kernel.sh has unpacked
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/cache/cellwall/guest/current"
    )]
    kernel: PathBuf,
    /// How often the power is cut
    #[arg(long, default_value_t = 5)]
    cuts: u32,
    /// Of the moments at which it is cut; else the time
    #[arg(long)]
    seed: Option<u64>,
    /// In the guest
    #[arg(long, hide = true, value_enum)]
    inside: Option<inside::Part>,
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        inside::be_init();
    }
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    if let Some(part) = options.inside {
        inside::take_part(part);
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(untrue) => {
            eprintln!("guest: {untrue} statements do not hold");
            ExitCode::from(UNTRUE)
        }
        Err(why) => {
            eprintln!("guest: {why}");
            ExitCode::from(FAILED)
        }
    }
}

/// How many statements do not hold.
fn run(options: &Options) -> Result<usize, String> {
    let own = std::env::current_exe().map_err(|cause| cause.to_string())?;
    let agent = match &options.agent {
        Some(agent) => agent.clone(),
        None => own.with_file_name("cellwall-agent"),
    };
    let seed = options.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.as_secs())
    });
    let desk = tempfile::tempdir().map_err(|cause| format!("a folder: {cause}"))?;
    let initrd = image::make(desk.path(), &options.kernel, &own, &agent)?;
    let cases = match options.cases.is_empty() {
        true => Case::ALL,
        false => &options.cases,
    };
    println!("seed {seed}, agent {}", agent.display());
    let queue = Mutex::new(cases.iter().copied());
    let (untrue, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let worker = || {
        while let Some(case) = queue.lock().ok().and_then(|mut queue| queue.next()) {
            let words = format!("case={} cuts={} seed={seed}", case.name(), options.cuts);
            let boot = host::Boot {
                kernel: &options.kernel.join("vmlinuz"),
                initrd: &initrd,
                desk: desk.path(),
                words,
            };
            match boot.play(case) {
                Ok((text, count)) => {
                    println!("{text}");
                    untrue.fetch_add(count, Ordering::Relaxed);
                }
                Err(why) => {
                    eprintln!("guest: {}: {why}", case.name());
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    // Each emulates one processor.
    std::thread::scope(|scope| {
        for _ in 0..MACHINES {
            scope.spawn(worker);
        }
    });
    match failed.into_inner() {
        0 => Ok(untrue.into_inner()),
        failed => Err(format!("{failed} cases were not played to their end")),
    }
}
