//! The helper's whole life: it does its work until it is killed.

use std::io::Write;

use crate::kernel::process::{end_with_parent, set_oom_score};

/// What it says when it will end with its parent.
pub const READY: u8 = b'r';

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which change it belongs to; whoever reverts finds it by this
    #[arg(long)]
    pub name: String,
    /// Whose change it is: the folder of that agent's journals
    #[arg(long)]
    pub journals: std::path::PathBuf,
    /// The agent that started it
    #[arg(long)]
    pub parent: u32,
    #[command(subcommand)]
    pub work: Work,
}

#[derive(Debug, clap::Subcommand)]
pub enum Work {
    BurnCpu { threads: u32 },
    HoldMemory { bytes: u64 },
}

/// Never returns unless something is wrong.
pub fn run(options: &Options) -> Result<(), String> {
    end_with_parent().map_err(|error| format!("cannot end with the agent: {error}"))?;
    // The agent may have died before the kernel was told.
    if u32::try_from(nix::unistd::getppid().as_raw()) != Ok(options.parent) {
        return Err("the agent is gone".to_owned());
    }
    // The first to go when memory runs out, before the agent and before whoever works here.
    if let Err(error) = set_oom_score(1000) {
        eprintln!("helper: cannot offer itself to the OOM killer: {error}");
    }
    match options.work {
        Work::BurnCpu { threads } => {
            for _ in 0..threads {
                std::thread::Builder::new()
                    .spawn(|| {
                        loop {
                            std::hint::spin_loop();
                        }
                    })
                    .map_err(|error| format!("cannot start a thread: {error}"))?;
            }
            ready()?;
        }
        Work::HoldMemory { bytes } => {
            let length = usize::try_from(bytes).map_err(|error| error.to_string())?;
            let mut held = Vec::new();
            held.try_reserve_exact(length)
                .map_err(|error| format!("cannot have {bytes} bytes: {error}"))?;
            ready()?; // the rest takes as long as the machine takes to give it
            // Written, and not with zeros, so that the kernel must really give it.
            held.resize(length, 0x5a_u8);
            std::hint::black_box(&held);
            stay();
        }
    }
    stay()
}

fn ready() -> Result<(), String> {
    let mut parent = std::io::stdout();
    let said = parent.write_all(&[READY]).and_then(|()| parent.flush());
    said.map_err(|error| error.to_string())
}

fn stay() -> ! {
    loop {
        std::thread::park();
    }
}
