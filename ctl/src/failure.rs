//! Why a command could not do what it was asked, with the exit code that says so.

use std::path::PathBuf;

/// Every text says what failed, why, the state of the fleet now, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Input(#[from] scenarios::InputError),
    #[error("{0}")]
    Plan(#[from] scenarios::planner::PlanError),
    #[error("{0}")]
    Override(#[from] scenarios::planner::OverrideError),
    #[error("cannot read {path}: {error}; nothing was altered")]
    Unreadable {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error(
        "no scenario {name:?}: there is no such file and no such name in the library ({known}); \
         nothing was altered"
    )]
    UnknownScenario { name: String, known: String },
    #[error(
        "which fleet? There is a fleet.yaml here and the lab {lab:?} is up; nothing was altered; \
         say --fleet FILE or --lab NAME"
    )]
    TwoFleets { lab: String },
    #[error("several labs are up ({names}); nothing was altered; say --lab NAME")]
    SeveralLabs { names: String },
    #[error(
        "no fleet: no --fleet, no fleet.yaml here, and no lab is up; nothing was altered; \
         write a fleet.yaml or bring a lab up with `cellwall lab up`"
    )]
    NoFleet,
    #[error("no lab {name:?} is up; nothing was altered; `cellwall lab status` lists them")]
    NoSuchLab { name: String },
    #[error("the fleet file {file} names no tls files, so no agent can be asked; {state}")]
    NoTls { file: PathBuf, state: &'static str },
    #[error("{path} holds no certificate with a common name; nothing was altered")]
    NoCommonName { path: PathBuf },
    #[error("cannot probe this fleet: {0}; nothing was altered")]
    Probes(#[from] probes::ProbeError),
    #[error("cannot run {binary}: {error}; nothing was altered; build it with `make build`")]
    LabBinary {
        binary: PathBuf,
        error: std::io::Error,
    },
    #[error("cellwall-lab {what} failed ({why}); see its words above")]
    Lab {
        what: String,
        why: String,
        /// Its own exit code, which says the same as ours.
        code: u8,
    },
    #[error(
        "no fleet: no --fleet and no fleet.yaml here, and the labs of this machine cannot be \
         listed ({why}); nothing was altered; say --fleet FILE, or run it as root"
    )]
    LabsHidden { why: String },
    #[error("cannot write {path}: {error}; nothing was altered; say another --json FILE")]
    ResultNotWritable {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("cannot write the result to {path}: {error}; what was done is done")]
    ResultNotWritten {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("cannot begin the history {path}: {error}; nothing was altered; say --history FILE")]
    HistoryNotBegun {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error(
        "cannot write the history {path}: {error}; without a history there is no verdict, so the \
         drill was ended and every armed agent was told to revert; `cellwall status` shows the \
         fleet now"
    )]
    HistoryNotWritten {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("refused: {why}; nothing was altered")]
    Refused { why: String },
    #[error("{count} of {all} agents do not answer:\n{list}\nnothing was altered")]
    AgentsMissing {
        count: usize,
        all: usize,
        list: String,
    },
    #[error(
        "not every agent reverted drill {drill}:\n{list}\ntheir own deadline, lease, guardian and kernel gate still end the fault; run `cellwall revert {drill}` again when they can be reached"
    )]
    NotReverted { drill: String, list: String },
    #[error(
        "not every agent is halted and clean:\n{list}\nwhat an agent that cannot be reached holds ends by its own deadline, lease and kernel gate; run `cellwall halt` again, or put a file `halt` into its state directory"
    )]
    NotHalted { list: String },
    #[error(
        "every agent is halted and clean, but some would forget it with their process:\n{list}\nrun `cellwall halt` again when their disks can be written"
    )]
    HaltNotDurable { list: String },
    #[error(
        "not every agent was resumed:\n{list}\nthose are as they were; run `cellwall resume` again"
    )]
    NotResumed { list: String },
    #[error("cannot start the runtime: {0}; nothing was altered")]
    Runtime(std::io::Error),
}

impl Failure {
    /// Exit codes of architecture.md.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Plan(error) => error.exit_code(),
            Failure::Lab { code, .. } => *code,
            Failure::Input(_)
            | Failure::Override(_)
            | Failure::Unreadable { .. }
            | Failure::UnknownScenario { .. }
            | Failure::TwoFleets { .. }
            | Failure::SeveralLabs { .. }
            | Failure::NoFleet
            | Failure::NoSuchLab { .. }
            | Failure::NoTls { .. }
            | Failure::ResultNotWritable { .. }
            | Failure::LabsHidden { .. }
            | Failure::HistoryNotBegun { .. }
            | Failure::NoCommonName { .. }
            | Failure::Probes(_) => 64,
            Failure::Refused { .. }
            | Failure::AgentsMissing { .. }
            | Failure::HaltNotDurable { .. }
            | Failure::NotResumed { .. } => 3,
            // An agent that could not be asked is not verified, and that counts as residue.
            Failure::NotReverted { .. } | Failure::NotHalted { .. } => 4,
            Failure::LabBinary { .. }
            | Failure::ResultNotWritten { .. }
            | Failure::HistoryNotWritten { .. }
            | Failure::Runtime(_) => 70,
        }
    }
}
