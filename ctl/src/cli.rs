//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Breaks one cell of a fleet on purpose and proves that the other cells did not notice.
///
/// Exit codes: 0 pass, 1 isolation failed, 2 inconclusive or ineffective, 3 aborted or refused,
/// 4 residue, 64 usage or bad input, 70 internal.
#[derive(Debug, Parser)]
#[command(name = "cellwall", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what a drill would alter, how each change ends, and what would be refused.
    Plan(PlanArguments),
    /// Run a drill: arm, fire, probe, revert, judge.
    Run(RunArguments),
    /// Make each cloud the target in turn, and show which cells fall with which.
    Matrix(MatrixArguments),
    /// Judge a history again, from nothing but its file.
    Verdict(VerdictArguments),
    /// Show what every agent of the fleet is doing.
    Status(StatusArguments),
    /// Undo a drill on every agent and scan for residue.
    Revert(RevertArguments),
    /// End every fault on every agent at once, and refuse all drills until `resume`.
    Halt(HaltArguments),
    /// End a halt: drills may be run again.
    Resume(ResumeArguments),
    /// A fleet on this machine: up, status, exec, down (needs root).
    Lab(LabArguments),
    /// Bring a lab up, run black-hole-cloud on it with short windows, take it down (needs root).
    Demo(DemoArguments),
    /// List the built-in scenarios, or print one.
    Library(LibraryArguments),
    /// Print the JSON Schema of fleet and scenario files.
    Schema(SchemaArguments),
}

impl Command {
    /// Where the command's JSON goes; `lab` hands the question on to cellwall-lab.
    pub fn json(&self) -> Option<&JsonArguments> {
        match self {
            Command::Plan(arguments) => Some(&arguments.json),
            Command::Run(arguments) => Some(&arguments.json),
            Command::Matrix(arguments) => Some(&arguments.json),
            Command::Verdict(arguments) => Some(&arguments.json),
            Command::Status(arguments) => Some(&arguments.json),
            Command::Revert(arguments) => Some(&arguments.json),
            Command::Halt(arguments) => Some(&arguments.json),
            Command::Resume(arguments) => Some(&arguments.json),
            Command::Demo(arguments) => Some(&arguments.json),
            Command::Library(arguments) => Some(&arguments.json),
            Command::Schema(arguments) => Some(&arguments.json),
            Command::Lab(_) => None,
        }
    }
}

/// Which fleet, for every command that needs one.
#[derive(Args, Clone, Debug, Default)]
pub struct FleetArguments {
    /// Fleet file; else fleet.yaml here, else the lab that is up.
    #[arg(long, value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// The lab of this name.
    #[arg(long, value_name = "NAME", conflicts_with = "fleet")]
    pub lab: Option<String>,
}

/// Where the machine-readable result goes.
#[derive(Args, Clone, Debug, Default)]
pub struct JsonArguments {
    /// Also write the result as JSON to FILE (`-` for standard output).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A scenario and what may be set from outside it.
#[derive(Args, Clone, Debug)]
pub struct ScenarioArguments {
    /// A path to a scenario file, or the name of one in the built-in library.
    pub scenario: String,
    #[command(flatten)]
    pub size: SizeArguments,
}

/// How long and how often a drill looks, where that is not the file's.
#[derive(Args, Clone, Copy, Debug)]
pub struct SizeArguments {
    /// Length of all three windows (before, during, after) instead of the scenario's.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub window: Option<Duration>,
    /// Rate of every probe but those of a Kubernetes API instead of the fleet's, for instance 50/s.
    #[arg(long, value_name = "RATE", value_parser = scenarios::parse_rate)]
    pub rate: Option<f64>,
}

#[derive(Args, Clone, Debug)]
pub struct PlanArguments {
    #[command(flatten)]
    pub scenario: ScenarioArguments,
    #[command(flatten)]
    pub fleet: FleetArguments,
    /// Also ask every agent what it would do or refuse.
    #[arg(long)]
    pub live: bool,
    #[command(flatten)]
    pub json: JsonArguments,
}

#[derive(Args, Clone, Debug)]
pub struct RunArguments {
    #[command(flatten)]
    pub scenario: ScenarioArguments,
    #[command(flatten)]
    pub fleet: FleetArguments,
    /// Do not ask before touching a fleet that is not a lab.
    #[arg(long)]
    pub yes: bool,
    /// Where the history goes; else under the state directory, by drill.
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArguments,
}

/// What is the target of one drill of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Every cloud that has cells.
    Cloud,
    /// Every cell.
    Cell,
}

#[derive(Args, Clone, Debug)]
pub struct MatrixArguments {
    /// Paths of scenario files or names of the library; their targets are replaced.
    #[arg(required = true, value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// Where the histories go. Drills that have one there are not run again.
    #[arg(long, value_name = "DIR")]
    pub directory: PathBuf,
    #[arg(long, value_enum, default_value = "cloud")]
    pub by: By,
    #[command(flatten)]
    pub size: SizeArguments,
    #[command(flatten)]
    pub fleet: FleetArguments,
    /// Do not ask before touching a fleet that is not a lab.
    #[arg(long)]
    pub yes: bool,
    /// Also draw the table as a heat map.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArguments,
}

#[derive(Args, Clone, Debug)]
pub struct VerdictArguments {
    /// The history.jsonl of a drill, or one made by others (docs/history.md).
    #[arg(value_name = "FILE")]
    pub history: PathBuf,
    #[command(flatten)]
    pub json: JsonArguments,
}

#[derive(Args, Clone, Debug)]
pub struct StatusArguments {
    #[command(flatten)]
    pub fleet: FleetArguments,
    #[command(flatten)]
    pub json: JsonArguments,
}

#[derive(Args, Clone, Debug)]
pub struct RevertArguments {
    /// The drill to undo, as `status` prints it.
    pub drill: String,
    #[command(flatten)]
    pub fleet: FleetArguments,
    #[command(flatten)]
    pub json: JsonArguments,
}

#[derive(Args, Clone, Debug)]
pub struct HaltArguments {
    /// Why, for those who are refused; else who halted.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub fleet: FleetArguments,
    #[command(flatten)]
    pub json: JsonArguments,
}

#[derive(Args, Clone, Debug)]
pub struct ResumeArguments {
    #[command(flatten)]
    pub fleet: FleetArguments,
    #[command(flatten)]
    pub json: JsonArguments,
}

#[derive(Args, Clone, Debug)]
pub struct LabArguments {
    /// Passed on to cellwall-lab: up, status, exec, enter, down, --help.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub arguments: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct DemoArguments {
    /// Cells of plain hosts instead of Kubernetes clusters: up in half a second.
    #[arg(long)]
    pub plain: bool,
    /// Build the lab wrong on purpose, to see the drill fail.
    #[arg(long, value_name = "NAME")]
    pub flaw: Option<String>,
    #[command(flatten)]
    pub json: JsonArguments,
}

#[derive(Args, Clone, Debug)]
pub struct LibraryArguments {
    /// Print this one instead of the list.
    pub name: Option<String>,
    #[command(flatten)]
    pub json: JsonArguments,
}

#[derive(Args, Clone, Debug)]
pub struct SchemaArguments {
    #[command(flatten)]
    pub json: JsonArguments,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rates_want_their_unit() {
        assert_eq!(scenarios::parse_rate("50/s"), Ok(50.0));
        for bad in ["50", "0/s", "-1/s", "nan/s", "1001/s", "/s"] {
            assert!(scenarios::parse_rate(bad).is_err(), "{bad}");
        }
    }
}
