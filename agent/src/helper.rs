//! The helper's whole life: it does its work until it is killed.

use std::io::Write;

use crate::kernel::process::end_with_parent;

/// What it says when it will end with its parent.
pub const READY: u8 = b'r';

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which change it belongs to; whoever reverts finds it by this
    #[arg(long)]
    pub name: String,
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
    let mut parent = std::io::stdout();
    parent
        .write_all(&[READY])
        .and_then(|()| parent.flush())
        .map_err(|error| error.to_string())?;
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
            stay()
        }
        Work::HoldMemory { bytes } => {
            let length = usize::try_from(bytes).map_err(|error| error.to_string())?;
            let mut held = Vec::new();
            held.try_reserve_exact(length)
                .map_err(|error| format!("cannot have {bytes} bytes: {error}"))?;
            // Written, and not with zeros, so that the kernel must really give it.
            held.resize(length, 0x5a_u8);
            std::hint::black_box(&held);
            stay()
        }
    }
}

fn stay() -> ! {
    loop {
        std::thread::park();
    }
}
