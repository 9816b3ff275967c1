//! cellwall-agent: one per node, privileged; with its guardian and the offline way back.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use agent::changes::Hands;
use agent::guardian::Home;
use agent::log::{Unhurried, complain};
use agent::revert::take_over_all;
use agent::{guardian, helper, rehearsal, serve};
use clap::Parser;

const RESIDUE: u8 = 4;
const USAGE: u8 = 64;
const INTERNAL: u8 = 70;

#[derive(Parser)]
#[command(name = "cellwall-agent", version, about)]
enum Command {
    /// Serve the conductor on this node
    Run(serve::Options),
    /// Watch over an agent (started by the agent itself)
    #[command(hide = true)]
    Guardian(guardian::Options),
    /// Use something up (started by the agent itself)
    #[command(hide = true)]
    Helper(helper::Options),
    /// Make changes of this node and take them back (for tests)
    #[command(hide = true)]
    Change(rehearsal::Options),
    /// Undo everything that dead agents left open; needs no daemon and no network
    Revert {
        /// Every open journal
        #[arg(long, required = true)]
        all: bool,
        /// The agent's --state-dir
        #[arg(long, value_name = "DIR", default_value = serve::STATE_DIR)]
        state_dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Unhurried(std::io::stderr()))
        .init();
    // The usual one waits for whoever reads, and the panicking thread holds what it holds.
    std::panic::set_hook(Box::new(|panic| {
        complain(&format!("cellwall-agent: {panic}"))
    }));
    if let Some(warning) = agent::mistakes::planted() {
        complain(&format!("cellwall-agent: {warning}"));
    }
    match command {
        Command::Run(options) => run(options),
        Command::Change(options) => change(options),
        Command::Helper(options) => match helper::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(INTERNAL, &error),
        },
        Command::Guardian(options) => match guardian::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(left) => fail(RESIDUE, &format!("guardian: {left}")),
        },
        Command::Revert { all: _, state_dir } => revert(&absolute(state_dir)),
    }
}

/// What is journaled with it must mean the same to whoever walks the way back, wherever that stands.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn run(mut options: serve::Options) -> ExitCode {
    options.state_dir = absolute(options.state_dir);
    let served = async { serve::run(options).await.map_err(|error| error.to_string()) };
    match block_on(served) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(INTERNAL, &error),
    }
}

fn change(mut options: rehearsal::Options) -> ExitCode {
    options.state_dir = absolute(options.state_dir);
    match block_on(rehearsal::run(options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(RESIDUE),
        Err(error) => fail(INTERNAL, &error),
    }
}

/// On one thread: writing calls have an order, and a crash can be met again.
fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?
        .block_on(work)
}

fn revert(state_dir: &Path) -> ExitCode {
    let mut hands = Hands::closed(Some(state_dir));
    let outcome = take_over_all(
        state_dir,
        Duration::from_secs(3),
        &mut hands,
        "revert --all",
    );
    // Where dead guardians were at home, if this stands where the agent stood.
    Home::of(Vec::new()).tidy();
    let left = outcome.residue().into_iter();
    let mut told: Vec<String> = left.map(|line| format!("left: {line}\n")).collect();
    let drifted = outcome.drifted.iter();
    told.extend(drifted.map(|line| format!("drifted, and left as it is: {line}\n")));
    if outcome.clean() {
        told.push(match state_dir.exists() {
            true => "nothing of cellwall is left\n".to_owned(),
            false => format!(
                "there is no {}, so no journal; the kernel holds nothing of cellwall\n",
                state_dir.display()
            ),
        });
    }
    // All is done: whoever reads slowly gets all of it, and whoever reads nothing is waited for.
    let _ = std::io::stdout().write_all(told.concat().as_bytes());
    match outcome.clean() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(RESIDUE),
    }
}

fn fail(code: u8, error: &str) -> ExitCode {
    complain(&format!("cellwall-agent: {error}"));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = "/var/lib/cellwall";

    #[test]
    fn revert_needs_no_state_dir() {
        let state = |arguments: &[&str]| match Command::try_parse_from(arguments) {
            Ok(Command::Revert { state_dir, .. }) => state_dir,
            Ok(_) => panic!("another command"),
            Err(error) => panic!("{error}"),
        };
        let bare = ["cellwall-agent", "revert", "--all"];
        assert_eq!(state(&bare), PathBuf::from(DEFAULT));
        let told = [&bare[..], &["--state-dir", "/s"]].concat();
        assert_eq!(state(&told), PathBuf::from("/s"));
        assert!(Command::try_parse_from(["cellwall-agent", "revert"]).is_err());
    }

    #[test]
    fn run_needs_no_state_dir() {
        let line = "cellwall-agent run --cell a --node n --listen [::1]:1 --policy p --ca c \
                    --certificate c --key k";
        match Command::try_parse_from(line.split_whitespace()) {
            Ok(Command::Run(options)) => assert_eq!(options.state_dir, PathBuf::from(DEFAULT)),
            Ok(_) => panic!("another command"),
            Err(error) => panic!("{error}"),
        }
    }
}
