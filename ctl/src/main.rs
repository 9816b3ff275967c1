//! `cellwall`: plans, runs and judges a drill; it is never privileged.

mod agents;
mod cli;
mod commands;
mod drill;
mod failure;
mod kubernetes;
mod labs;
mod matrix;
mod output;
mod place;
mod recorder;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

/// `EX_USAGE` of sysexits.h: the command line or an input file is wrong.
const EXIT_USAGE: u8 = 64;
const EXIT_INTERNAL: u8 = 70;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wanted_help = !error.use_stderr();
            // A closed pipe is the only way this fails, and then nobody is there to be told.
            let _ = error.print();
            return ExitCode::from(if wanted_help { 0 } else { EXIT_USAGE });
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("CELLWALL_LOG"))
        .with_writer(std::io::stderr)
        .init();
    let json = cli.command.json().cloned().unwrap_or_default();
    let run = || output::prepare_json(&json).and_then(|()| dispatch(cli.command));
    let Ok(run) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) else {
        return ExitCode::from(EXIT_INTERNAL); // it has told of itself
    };
    match run {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::complain(&failure.to_string());
            output::write_failure(&json, &failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn dispatch(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Plan(arguments) => commands::plan::run(&arguments),
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Verdict(arguments) => commands::verdict::run(&arguments),
        Command::Matrix(arguments) => commands::matrix::run(&arguments),
        Command::Status(arguments) => commands::status::run(&arguments),
        Command::Revert(arguments) => commands::revert::run(&arguments),
        Command::Halt(arguments) => commands::halt::halt(&arguments),
        Command::Resume(arguments) => commands::halt::resume(&arguments),
        Command::Lab(arguments) => commands::lab::run(&arguments),
        Command::Demo(arguments) => commands::demo::run(&arguments),
        Command::Library(arguments) => commands::library::run(&arguments),
        Command::Schema(arguments) => commands::schema::run(&arguments),
    }
}
