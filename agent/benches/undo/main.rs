//! The figures of a fault that always ends: how soon it is over, what arming costs, what an agent holds.
//!
//! `make bench-undo` runs it. It needs root, works in network namespaces of its own and leaves nothing.
//! Nothing is asserted about time: it measures, and says which limit was kept.

mod arming;
mod deaths;
mod figure;
mod leases;
mod machine;
mod memory;
mod packets;
mod rehearsal;
/// What the tests use and this does not is no mistake.
#[path = "../../tests/root"]
#[allow(dead_code, unused_imports)]
mod root {
    pub mod support;
}
mod said;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use ipnet::{IpNet, Ipv4Net};
use scenarios::change::{Change, Direction, FirewallCut, Management, Peers};

use figure::Figure;
use root::support::{ECHO, Echo, PEER, Site, cut};
use said::Said;

/// How many prefixes a whole cloud has.
const CLOUD: u32 = 60_000;

#[derive(Parser)]
#[command(name = "undo", args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    hidden: Option<Hidden>,
    /// How often each is measured
    #[arg(long, default_value_t = 30)]
    runs: usize,
    /// Where journals are kept; on a real disk, because arming waits for it
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// How long to wait for a load average below 1.5 before each part
    #[arg(long, default_value = "4m")]
    patience: humantime::Duration,
    /// Only these parts
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Hidden {
    /// Drills that this program arms itself start their guardian from it
    #[command(hide = true)]
    Guardian(agent::guardian::Options),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Deaths,
    Leases,
    Arming,
    Memory,
}

/// What every part gets.
struct Bench {
    site: Site,
    dir: tempfile::TempDir,
    runs: usize,
    said: Said,
}

type Measure = fn(&Bench) -> Vec<Figure>;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(Hidden::Guardian(options)) = &options.hidden {
        return match agent::guardian::run(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(left) => {
                eprintln!("guardian: {left}");
                ExitCode::FAILURE
            }
        };
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("undo: needs root: network namespaces and nftables");
        return ExitCode::from(64);
    }
    let dir = tempfile::Builder::new()
        .prefix("cellwall-bench-")
        .tempdir_in(&options.dir);
    let bench = Bench {
        site: Site::new(),
        dir: dir.unwrap_or_else(|cause| panic!("{}: {cause}", options.dir.display())),
        runs: options.runs,
        said: Said::listen(),
    };
    Echo::start(&bench.site.peer, ECHO);
    println!("{}\n", machine::words(bench.dir.path()));
    let parts: [(Part, Measure); 4] = [
        (Part::Deaths, deaths::measure),
        (Part::Leases, leases::measure),
        (Part::Arming, arming::measure),
        (Part::Memory, memory::measure),
    ];
    println!("{}", figure::HEAD);
    for (part, measure) in parts {
        if !options.only.is_empty() && !options.only.contains(&part) {
            continue;
        }
        machine::until_calm(*options.patience);
        let before = machine::load();
        let figures = measure(&bench);
        let after = machine::load();
        for figure in figures {
            println!("{}", figure.row(before, after));
        }
    }
    println!("\n{}", figure::FOOT);
    ExitCode::SUCCESS
}

/// The peer alone.
fn one() -> Change {
    cut(&[PEER], Direction::Both)
}

/// A cloud's worth of prefixes that cannot be merged, the peer's among them.
fn cloud() -> Change {
    let prefix = |n: u32| Ipv4Net::new((0x0a00_0000 + n * 256).into(), 25);
    let prefixes = (0..CLOUD).map(|n| IpNet::V4(prefix(n).expect("a prefix length")));
    Change::Firewall(FirewallCut {
        peers: Peers::Only(prefixes.collect()),
        direction: Direction::Both,
        management: Management::Keep,
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
