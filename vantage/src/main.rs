//! cellwall-vantage: looks at the cells from a node of the fleet, for the conductor, and can do nothing else.
//!
//! The agent starts it as another user and is its only way in and out: orders on standard input, what
//! it saw on standard output, words for people on standard error. It ends when either is closed and
//! with the agent. Formats: `probes::vantage`.

mod lines;
mod look;
mod privileges;

use std::process::ExitCode;

const INTERNAL: u8 = 70;

fn main() -> ExitCode {
    match privileges::give_up()
        .map_err(Error::from)
        .and_then(|()| run())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cellwall-vantage: {error}");
            ExitCode::from(INTERNAL)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Privileges(#[from] privileges::Error),
    #[error(transparent)]
    Look(#[from] look::Error),
    #[error("cannot start the runtime: {0}; nothing was probed")]
    Runtime(std::io::Error),
}

fn run() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    Ok(runtime.block_on(look::look(lines::orders(), lines::Mouth::open()))?)
}
