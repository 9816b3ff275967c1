//! `up`: works out the lab, prepares its files, starts the janitor and waits until all serves.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::description::Description;
use crate::error::{Error, Result};
use crate::flaw::Flaw;
use crate::kind::{Kind, Place};
use crate::layout::Layout;
use crate::state::{LabDirectory, Root, Step};
use crate::{caller, fleet_file, tls};

/// What `up` was asked for.
pub struct Wanted {
    pub root: Root,
    pub name: String,
    pub kind: Kind,
    pub cells: usize,
    pub fleet: Option<PathBuf>,
    pub flaws: Vec<Flaw>,
    /// The entrypoint's DNS stops answering with a cell that accepts no connection.
    pub dns_failover: bool,
    pub programs: PathBuf,
    /// Stop at this step and stay there: for tests of what happens to a lab that is half built.
    pub hold_at: Option<Step>,
}

/// A line from the holder to `up`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Progress {
    Reached { step: Step, detail: String },
    Failed { why: String },
}

/// Brings a lab up and tells `out` about every step. On failure nothing of it is left.
pub fn up(wanted: &Wanted, out: &mut dyn Write) -> Result<LabDirectory> {
    let begun = Instant::now();
    let place = Place {
        directory: wanted.root.lab(&wanted.name),
        programs: wanted.programs.clone(),
    };
    let user = caller::behind_sudo()?;
    let (mut layout, remark) = work_out(wanted, &place)?;
    if wanted.dns_failover {
        crate::internet::with_failover(&mut layout.services);
    }
    wanted.kind.builder().require()?;
    require_programs(&layout)?;

    let directory = wanted.root.create(&wanted.name)?;
    let prepared = prepare(&place, &layout)
        .and_then(|()| caller::hand_over(&directory, user.as_ref()))
        .and_then(|()| start_janitor(wanted, &directory));
    let mut janitor = match prepared {
        Ok(janitor) => janitor,
        Err(error) => {
            wanted.root.remove(&directory)?;
            return Err(error);
        }
    };
    tell(
        out,
        begun,
        Step::Prepared,
        &directory.0.display().to_string(),
    );
    match follow(&mut janitor, out, begun) {
        Ok(()) => {
            if let Some(remark) = remark {
                let _ = writeln!(out, "{remark}");
            }
            Ok(directory)
        }
        Err(error) => {
            // Its end of the pipe is closed by now: the janitor ends the holder and cleans up.
            let _ = janitor.wait();
            wanted.root.sweep()?;
            Err(error)
        }
    }
}

/// The layout, and what is to be said about a user's fleet file.
fn work_out(wanted: &Wanted, place: &Place) -> Result<(Layout, Option<String>)> {
    let lay_out = |description: &Description| {
        let name = &wanted.name;
        Layout::new(name, wanted.kind, &wanted.flaws, description, place)
    };
    match &wanted.fleet {
        None => Ok((lay_out(&Description::default_fleet(wanted.cells))?, None)),
        Some(path) => {
            let refuse = |why: String| Error::FleetFile {
                path: path.clone(),
                why,
            };
            let bytes = fs::read(path).map_err(|error| refuse(error.to_string()))?;
            let shown = path.display().to_string();
            let fleet = scenarios::read_fleet_bytes(&bytes, &shown)
                .map_err(|error| refuse(format!("\n{error}")))?;
            let built = Description::of_fleet(&fleet)
                .and_then(|description| Ok((lay_out(&description)?, description)));
            let (layout, description) = built.map_err(|error| match error {
                Error::Layout(why) => refuse(format!("{why}.\n{}", buildable(wanted.kind))),
                other => other,
            })?;
            let remark = fleet_file::remark(&description, &layout);
            Ok((layout, Some(remark)))
        }
    }
}

/// What a lab can build of a user's fleet file, in words.
fn buildable(kind: Kind) -> String {
    let nodes: Vec<&str> = kind
        .builder()
        .nodes()
        .iter()
        .map(|(name, _)| *name)
        .collect();
    let most = crate::address::CLOUDS.len();
    format!(
        "A lab builds 1 to {most} clouds with at most one cell in each. Each cloud has an IPv4 \
         prefix of /26 or larger and an IPv6 prefix of /64 or larger, and the first such ones hold \
         all its hosts; no two networks overlap, nor any with the lab's internet ({}, {}). A \
         cell's nodes are {} and no others; those that the file does not name are added. \
         Nothing was changed",
        crate::address::internet()[0],
        crate::address::internet()[1],
        nodes.join(", ")
    )
}

fn require_programs(layout: &Layout) -> Result<()> {
    for service in &layout.services {
        if !service.program.is_file() {
            return Err(Error::MissingBinary(service.program.clone()));
        }
    }
    Ok(())
}

/// Everything that is only files: made here, so that the holder finds it ready.
fn prepare(place: &Place, layout: &Layout) -> Result<()> {
    let directory = &place.directory;
    directory.write_layout(layout)?;
    for host in layout.hosts() {
        let path = directory.node(&host.namespace);
        fs::create_dir_all(&path).map_err(Error::file("make", &path))?;
    }
    caller::set_mode(&directory.nodes(), 0o700)?;
    for node in layout.cells.iter().flat_map(|cell| &cell.nodes) {
        let path = directory.node(&node.namespace);
        let state = path.join("agent");
        fs::create_dir_all(&state).map_err(Error::file("make", &state))?;
        let policy = path.join("policy.yaml");
        fs::write(&policy, crate::agent::policy()).map_err(Error::file("write", &policy))?;
    }
    tls::write(&directory.tls(), layout)?;
    layout.kind.builder().prepare(layout, place)?;
    fleet_file::write(directory, layout)
}

/// The janitor gets a session of its own: Ctrl-C at `up`'s terminal must not kill it, since it is
/// the one that cleans up.
fn start_janitor(wanted: &Wanted, directory: &LabDirectory) -> Result<Child> {
    let log_path = directory.0.join("holder.log");
    let log = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(Error::file("make", &log_path))?;
    let own = std::env::current_exe().map_err(Error::kernel("find the own binary"))?;
    let mut command = Command::new(own);
    command
        .args(["janitor", "--name", &wanted.name, "--root"])
        .arg(&wanted.root.0)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    if let Some(step) = wanted.hold_at {
        command.args(["--hold-at", &step.word()]);
    }
    crate::child::own_session(&mut command);
    command.spawn().map_err(Error::kernel("start the janitor"))
}

/// Reads the holder's progress until the lab is up or the pipe ends.
fn follow(janitor: &mut Child, out: &mut dyn Write, begun: Instant) -> Result<()> {
    let Some(pipe) = janitor.stdout.take() else {
        return Err(Error::Start("the janitor has no pipe".to_string()));
    };
    for line in BufReader::new(pipe).lines() {
        let line = line.map_err(Error::kernel("read the progress of the holder"))?;
        match serde_json::from_str(&line) {
            Ok(Progress::Reached { step, detail }) => {
                tell(out, begun, step, &detail);
                if step == Step::Up {
                    return Ok(());
                }
            }
            Ok(Progress::Failed { why }) => return Err(Error::Start(why)),
            Err(error) => return Err(Error::Start(format!("`{line}` is no progress: {error}"))),
        }
    }
    Err(Error::Start(
        "the holder ended without a word (was it killed?)".to_string(),
    ))
}

fn tell(out: &mut dyn Write, begun: Instant, step: Step, detail: &str) {
    let seconds = begun.elapsed().as_secs_f64();
    let name = step.word();
    // Nobody to tell is no reason to give up the lab.
    let _ = writeln!(out, "{seconds:6.2} s  {name:<10}  {detail}");
}

/// `down`: kills the holder and waits for the janitor, which leaves last.
pub fn down(root: &Root, name: Option<&str>) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(10);
    let (directory, record) = crate::status::find(root, name)?;
    let Some(keeper) = record.keeper.open() else {
        return root.sweep();
    };
    match record.holder.as_ref().and_then(|holder| holder.open()) {
        Some(holder) => holder.signal(rustix::process::Signal::KILL),
        // No holder yet, or none any more: the keeper's end ends what there is.
        None => keeper.signal(rustix::process::Signal::KILL),
    }
    let ended = keeper.ended_within(LIMIT);
    root.sweep()?;
    let left = match (ended, directory.0.exists()) {
        (true, false) => return Ok(()),
        (false, _) => format!("its janitor (pid {}) is still there", record.keeper.pid),
        (true, true) => format!("{} is still there", directory.0.display()),
    };
    Err(Error::NotDown {
        name: record.name,
        left,
        seconds: LIMIT.as_secs(),
    })
}

/// The directory of the programs that a lab runs: beside this one, unless said otherwise.
pub fn programs(wanted: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = wanted {
        return fs::canonicalize(&path).map_err(|_| Error::MissingBinary(path));
    }
    let own = std::env::current_exe().map_err(Error::kernel("find the own binary"))?;
    Ok(own.parent().unwrap_or(Path::new("/")).to_path_buf())
}
