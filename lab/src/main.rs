//! `cellwall-lab`: a fleet on this machine, inside namespaces, gone without a trace afterwards.

mod address;
mod agent;
mod caller;
mod cgroups;
mod child;
mod description;
mod enter;
mod error;
mod flaw;
mod fleet_file;
mod guests;
mod holder;
mod internet;
mod janitor;
mod kind;
mod kubernetes;
mod layout;
mod plain;
mod process;
mod state;
mod status;
mod tls;
mod up;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::error::{Error, Result};
use crate::flaw::Flaw;
use crate::kind::Kind;
use crate::state::{DEFAULT_ROOT, Root, Step};

/// A fleet on this machine: cells in clouds, an internet between them, users and an operator
#[derive(Parser)]
#[command(name = "cellwall-lab", version)]
struct Cli {
    /// Where labs keep their files, on a real disk
    #[arg(long, global = true, env = "CELLWALL_LAB_ROOT", default_value = DEFAULT_ROOT)]
    root: PathBuf,
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build a fleet and return when every cell serves and every agent answers
    Up(UpOptions),
    /// Show the labs that are up
    Status {
        /// Only this lab
        #[arg(long, visible_alias = "lab")]
        name: Option<String>,
        /// Write JSON to this file; `-` is standard output
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Run a command on a host of the lab (`n1.gd-aliyun`, `users`, `router.aws`, ...)
    Exec {
        /// Needed when several labs are up
        #[arg(long, visible_alias = "name")]
        lab: Option<String>,
        node: String,
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Run a command where the operator stands, without any capability; under sudo as its caller
    Enter {
        /// Needed when several labs are up
        #[arg(long, visible_alias = "name")]
        lab: Option<String>,
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// End a lab and wait until nothing of it is left
    Down {
        /// Needed when several labs are up
        #[arg(long, visible_alias = "lab")]
        name: Option<String>,
        /// Write what is still up as JSON to this file; `-` is standard output
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Write a kubeconfig with a context for each cell; it works where the operator stands
    Kubeconfig {
        /// Needed when several labs are up
        #[arg(long, visible_alias = "name")]
        lab: Option<String>,
        /// Where to; `-` is standard output
        #[arg(long, value_name = "FILE", default_value = "-")]
        out: PathBuf,
    },
    /// Internal: the parent of a worker's PID namespace
    #[command(hide = true)]
    Worker { directory: PathBuf },
    /// Internal: the first process of a worker
    #[command(hide = true)]
    WorkerInit { directory: PathBuf },
    /// Internal: gives a cell its manifests
    #[command(hide = true)]
    Deploy {
        kubectl: PathBuf,
        kubeconfig: PathBuf,
        manifests: PathBuf,
    },
    /// Internal: outlives the holder and cleans up
    #[command(hide = true)]
    Janitor(Internal),
    /// Internal: the first process in the lab's namespaces
    #[command(hide = true)]
    Holder(Internal),
}

#[derive(Args)]
struct UpOptions {
    #[arg(long, visible_alias = "lab", default_value = "default")]
    name: String,
    #[arg(long, value_enum, default_value_t = Kind::Kubernetes)]
    kind: Kind,
    /// One in each of the clouds aliyun, tencent, aws, gcp, azure, cloudflare, oracle, ibm
    #[arg(
        long,
        default_value_t = 3,
        value_parser = clap::value_parser!(u8).range(1..=8),
        conflicts_with = "fleet"
    )]
    cells: u8,
    /// Take the clouds and cells of this fleet file: names, regions, prefixes, addresses
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// Build the fleet wrong on purpose; repeat for several
    #[arg(long = "flaw", value_parser = Flaw::parser(), value_name = "NAME")]
    flaws: Vec<Flaw>,
    /// Let the entrypoint's DNS stop answering with cells that accept no connection
    #[arg(long)]
    dns_failover: bool,
    /// Write what is up as JSON to this file; `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where `shop` and `cellwall-agent` are; by default beside this program
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// For tests: stop at this step and wait
    #[arg(long, hide = true, value_enum)]
    hold_at: Option<Step>,
}

#[derive(Args)]
struct Internal {
    #[arg(long)]
    name: String,
    #[arg(long)]
    hold_at: Option<Step>,
}

fn main() -> ExitCode {
    // clap's own code for bad usage is 2, which means "inconclusive" in cellwall.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cellwall-lab: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let root = Root(absolute(&cli.root)?);
    match cli.command {
        Task::Up(options) => up(root, options),
        Task::Status { name, json } => {
            let report = status::report(&root, name.as_deref())?;
            match json {
                Some(file) => write_json(&report, &file),
                None => {
                    // A reader that went away is no failure of the lab.
                    let _ = std::io::stdout().write_all(report.text().as_bytes());
                    Ok(())
                }
            }
        }
        Task::Exec { lab, node, command } => {
            Err(enter::exec(&root, lab.as_deref(), &node, &command))
        }
        Task::Enter { lab, command } => Err(enter::enter(&root, lab.as_deref(), &command)),
        Task::Down { name, json } => {
            up::down(&root, name.as_deref())?;
            json.map_or(Ok(()), |file| {
                write_json(&status::report(&root, None)?, &file)
            })
        }
        Task::Kubeconfig { lab, out } => kubeconfig(&root, lab.as_deref(), &out),
        Task::Worker { directory } => kubernetes::node::run(&directory),
        Task::WorkerInit { directory } => kubernetes::node::init(&directory),
        Task::Deploy {
            kubectl,
            kubeconfig,
            manifests,
        } => kubernetes::deploy::run(&kubectl, &kubeconfig, &manifests),
        Task::Janitor(of) => janitor::run(&root, &of.name, of.hold_at),
        Task::Holder(of) => holder::run(&root, &of.name, of.hold_at),
    }
}

fn up(root: Root, options: UpOptions) -> Result<()> {
    check_name(&options.name)?;
    let wanted = up::Wanted {
        root: root.clone(),
        name: options.name.clone(),
        kind: options.kind,
        cells: options.cells.into(),
        fleet: options.fleet,
        flaws: options.flaws,
        dns_failover: options.dns_failover,
        programs: up::programs(options.bin_dir)?,
        hold_at: options.hold_at,
    };
    // With `--json -` standard output is for the JSON alone.
    let to_stdout = options.json.as_deref() != Some(Path::new("-"));
    let mut out: Box<dyn Write> = if to_stdout {
        Box::new(std::io::stdout())
    } else {
        Box::new(std::io::stderr())
    };
    let directory = up::up(&wanted, &mut *out)?;
    // The lab is up; nobody to tell is no reason to fail.
    let _ = writeln!(out, "fleet file: {}", directory.fleet_file().display());
    match options.json {
        Some(file) => write_json(&status::report(&root, Some(&options.name))?, &file),
        None => Ok(()),
    }
}

fn kubeconfig(root: &Root, lab: Option<&str>, out: &Path) -> Result<()> {
    let (directory, record) = status::find(root, lab)?;
    let path = directory.kubeconfig();
    if !path.exists() {
        return Err(Error::NoCluster(record.name));
    }
    let text = std::fs::read(&path).map_err(Error::file("read", &path))?;
    if out == Path::new("-") {
        return std::io::stdout()
            .write_all(&text)
            .map_err(Error::file("write", out));
    }
    // It holds tokens: readable by its owner only, and an old file keeps nothing of its mode.
    let new = out.with_extension("new");
    let _ = std::fs::remove_file(&new);
    tls::write_secret(&new, &String::from_utf8_lossy(&text))?;
    std::fs::rename(&new, out).map_err(Error::file("replace", out))
}

fn write_json(report: &status::Report, file: &Path) -> Result<()> {
    let mut text = serde_json::to_string_pretty(report).map_err(|error| Error::Record {
        path: file.to_path_buf(),
        why: error.to_string(),
    })?;
    text.push('\n');
    if file == Path::new("-") {
        return std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(Error::file("write", file));
    }
    std::fs::write(file, text).map_err(Error::file("write", file))
}

/// The janitor and the holder run elsewhere than the caller, so paths must not be relative.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::file("find", path))
}

/// Names become directories and words in YAML: `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, 63 at most.
fn check_name(name: &str) -> Result<()> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=63).contains(&name.len()) && name.chars().all(word);
    match fits && !name.starts_with('-') && !name.ends_with('-') {
        true => Ok(()),
        false => Err(Error::BadName(name.to_string())),
    }
}
