//! The holder: first process of the lab's PID namespace, in its own mount and network namespaces.

mod links;
mod namespaces;
mod ready;
mod supervisor;

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result};
use crate::janitor;
use crate::layout::Layout;
use crate::process::ProcessId;
use crate::state::{LabDirectory, Record, Root, Step};
use crate::up::Progress;

/// Where the namespaces of the hosts are bound, in the holder's own mount namespace.
pub const NETNS: &str = "/run/netns";

/// Builds the lab and keeps it until it is killed. It was executed anew in its namespaces and has
/// one thread, so the runtime may be started here.
pub fn run(root: &Root, name: &str, hold_at: Option<Step>) -> Result<()> {
    let directory = root.lab(name);
    // Opened before /proc is mounted anew: the only view of the host's pids from here on.
    let host_proc = HostProc::open()?;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    let line = UnixStream::from(stdin.map_err(Error::kernel("take the line to the janitor"))?);
    let announcer = Announcer {
        directory: directory.clone(),
        line,
        hold_at,
    };
    let outcome = hold(&announcer, &host_proc);
    if let Err(error) = &outcome {
        announcer.fail(error);
    }
    outcome
}

fn hold(announcer: &Announcer, host_proc: &HostProc) -> Result<()> {
    let mut record = announcer.directory.record()?;
    let layout = announcer.directory.layout()?;
    let own = host_proc.own_pid()?;
    let identity = ProcessId::of(own).map_err(Error::kernel("read the own start time"))?;
    record.holder = Some(identity);
    private_mounts()?;
    announcer.reach(&mut record, Step::Holder, &format!("pid {own}"))?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::kernel("start the runtime"))?;
    runtime.block_on(build_and_keep(announcer, host_proc, record, layout))
}

async fn build_and_keep(
    announcer: &Announcer,
    host_proc: &HostProc,
    mut record: Record,
    layout: Layout,
) -> Result<()> {
    let namespaces = namespaces::make(&layout)?;
    announcer.say(janitor::NAMESPACES)?;
    let count = layout.hosts().count();
    announcer.reach(&mut record, Step::Namespaces, &format!("{count} hosts"))?;

    links::build(&layout, &namespaces).await?;
    let detail = format!("{} bridges, IPv4 and IPv6", layout.segments.len());
    announcer.reach(&mut record, Step::Links, &detail)?;

    let mut supervisor = supervisor::Supervisor::new(&layout, &namespaces, host_proc)?;
    supervisor.start_all()?;
    record.agents = supervisor.agents();
    let detail = format!("{} processes", layout.services.len());
    announcer.reach(&mut record, Step::Services, &detail)?;

    let serving = ready::watch(&layout, &namespaces)?;
    supervisor.until_ready(serving).await?;
    record.agents = supervisor.agents();
    let detail = format!(
        "{} cells serve, {} agents answer",
        layout.cells.len(),
        record.agents.len()
    );
    announcer.say(janitor::UP)?;
    announcer.reach(&mut record, Step::Up, &detail)?;
    supervisor.keep(announcer, record).await
}

/// Nothing that is mounted from here on is seen outside, and what the host unmounts goes here too.
fn private_mounts() -> Result<()> {
    let none: Option<&str> = None;
    let mounted = |what: &str| Error::kernel::<nix::Error>(format!("mount {what} for the lab"));
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(mounted("nothing back to the host"))?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("lab"), "/run", Some("tmpfs"), plain, Some("mode=755")).map_err(mounted("/run"))?;
    std::fs::create_dir(NETNS).map_err(Error::file("make", NETNS))?;
    mount(Some("proc"), "/proc", Some("proc"), plain, none).map_err(mounted("/proc"))
}

/// Tells `up`, the janitor and `lab.json` how far the lab is.
pub struct Announcer {
    directory: LabDirectory,
    line: UnixStream,
    hold_at: Option<Step>,
}

impl Announcer {
    /// Says that a step was reached. An error means that nobody waits for the lab any more.
    fn reach(&self, record: &mut Record, step: Step, detail: &str) -> Result<()> {
        record.step = step;
        self.write(record)?;
        self.tell(&Progress::Reached {
            step,
            detail: detail.to_string(),
        })?;
        if self.hold_at == Some(step) {
            loop {
                std::thread::park();
            }
        }
        Ok(())
    }

    pub fn write(&self, record: &Record) -> Result<()> {
        self.directory.write_record(record)
    }

    fn say(&self, word: u8) -> Result<()> {
        let what = "speak to the janitor";
        (&self.line).write_all(&[word]).map_err(Error::kernel(what))
    }

    fn fail(&self, error: &Error) {
        // Into the log too, for when nobody listens.
        eprintln!("{error}");
        let _ = self.tell(&Progress::Failed {
            why: error.to_string(),
        });
    }

    fn tell(&self, progress: &Progress) -> Result<()> {
        let what = "tell `up` how far the lab is";
        let mut line = serde_json::to_string(progress).map_err(|error| Error::Record {
            path: "progress".into(),
            why: error.to_string(),
        })?;
        line.push('\n');
        let mut out = std::io::stdout();
        out.write_all(line.as_bytes())
            .and_then(|()| out.flush())
            .map_err(Error::kernel(what))
    }

    /// The janitor's end of the line, to see it go.
    pub fn line(&self) -> &UnixStream {
        &self.line
    }
}

/// The `/proc` of the host, through which pids are the host's.
pub struct HostProc(OwnedFd);

impl HostProc {
    fn open() -> Result<HostProc> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open("/proc", flags, Mode::empty());
        Ok(HostProc(opened.map_err(Error::kernel("open /proc"))?))
    }

    /// `self` is a link to the reader's pid as this instance of procfs numbers it.
    fn own_pid(&self) -> Result<i32> {
        let link = rustix::fs::readlinkat(&self.0, "self", Vec::new())
            .map_err(Error::kernel("read /proc/self"))?;
        let pid = link.to_str().ok().and_then(|text| text.parse().ok());
        pid.ok_or_else(|| Error::Record {
            path: "/proc/self".into(),
            why: format!("{link:?} is no pid"),
        })
    }

    /// The pid behind a pidfd, as the host numbers it: `Pid:` in its fdinfo (pidfd_open(2)).
    pub fn pid_of(&self, pidfd: &OwnedFd) -> Result<i32> {
        use std::os::fd::AsRawFd;
        let path = format!("self/fdinfo/{}", pidfd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.0, path.as_str(), flags, Mode::empty())
            .map_err(Error::kernel("open the fdinfo of a pidfd"))?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(opened), &mut text)
            .map_err(Error::file("read", Path::new("/proc").join(&path)))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pid:"));
        line.and_then(|pid| pid.trim().parse().ok())
            .ok_or_else(|| Error::Record {
                path: Path::new("/proc").join(path),
                why: format!("it has no pid: {text}"),
            })
    }
}
