//! The guest from within: its first process, and the one that plays the case.

mod cgroups;
mod clock;
mod drill;
mod groups;
mod guardian;
mod netem;
mod packets;
mod power_cut;
mod work;

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;
use nix::mount::{MsFlags, mount};
use rustix::system::RebootCommand;

use crate::report::{Case, Line, Report};

const DISK: &str = "/disk";
const PORT: &str = "/dev/ttyS1";

/// What a process of the guest is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Plays the case that the kernel's command line names
    Case,
    /// Uses a processor
    Busy,
    /// Uses memory
    Hold,
    /// Writes to the disk
    Write,
}

/// The words for this guest on the kernel's command line.
struct Words {
    case: Case,
    cuts: u32,
    seed: u64,
}

/// Prepares the machine, plays the case in a process of its own, buries whoever is left to it, and
/// switches the machine off.
pub fn be_init() -> ! {
    match prepared().and_then(|()| played()) {
        Ok(()) => {}
        Err(why) => eprintln!("guest: {why}"),
    }
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    loop {
        std::thread::park();
    }
}

fn prepared() -> Result<(), String> {
    for (kind, on) in [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ] {
        mounted(kind, kind, on)?;
    }
    let modules = fs::read_dir("/modules").map_err(|cause| format!("/modules: {cause}"))?;
    let mut modules: Vec<_> = modules.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    for module in modules {
        // Else it makes two devices by itself.
        let parameters = match module.to_string_lossy().ends_with("-ifb.ko") {
            true => c"numifbs=0",
            false => c"",
        };
        let loaded = File::open(&module)
            .and_then(|file| Ok(rustix::system::finit_module(&file, parameters, 0)?));
        loaded.map_err(|cause| format!("{}: {cause}", module.display()))?;
    }
    mounted("/dev/vda", "ext4", DISK)
}

/// Nobody's reading alters a time on it.
fn mounted(what: &str, kind: &str, on: &str) -> Result<(), String> {
    mount(
        Some(what),
        on,
        Some(kind),
        MsFlags::MS_NOATIME,
        None::<&str>,
    )
    .map_err(|cause| format!("mount {what} on {on}: {cause}"))
}

fn played() -> Result<(), String> {
    let mut child = Command::new("/init");
    child.args(["--inside", "case"]).env("PATH", "/bin");
    let child = child.spawn().map_err(|cause| format!("/init: {cause}"))?;
    loop {
        match nix::sys::wait::wait() {
            Ok(status)
                if status
                    .pid()
                    .is_some_and(|pid| pid.as_raw() == child.id() as i32) =>
            {
                return Ok(());
            }
            Ok(_) => {}
            Err(cause) => return Err(format!("wait: {cause}")),
        }
    }
}

pub fn take_part(part: Part) {
    match part {
        Part::Case => play(),
        Part::Busy => work::busy(),
        Part::Hold => work::hold(),
        Part::Write => work::write(Path::new(DISK)),
    }
}

fn play() {
    let port = match port() {
        Ok(port) => port,
        Err(why) => {
            eprintln!("guest: {PORT}: {why}");
            return;
        }
    };
    let mut report = Report::to(port);
    let over = words().and_then(|words| match words.case {
        Case::PowerCut => power_cut::play(&mut report, &words),
        Case::Netem => netem::play(&mut report),
        Case::Cgroups => cgroups::play(&mut report),
        Case::Guardian => guardian::play(&mut report),
        Case::Clock => clock::play(&mut report),
    });
    report.say(&match over {
        Ok(()) => Line::Over {},
        Err(why) => Line::Broke { why },
    });
}

/// As it is, without a terminal's manners.
fn port() -> std::io::Result<File> {
    let port = OpenOptions::new().read(true).write(true).open(PORT)?;
    let mut manners = rustix::termios::tcgetattr(&port)?;
    manners.make_raw();
    rustix::termios::tcsetattr(&port, rustix::termios::OptionalActions::Now, &manners)?;
    Ok(port)
}

fn words() -> Result<Words, String> {
    let line = fs::read_to_string("/proc/cmdline").map_err(|cause| cause.to_string())?;
    let value = |name: &str| {
        let mut words = line.split_whitespace();
        let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.ok_or_else(|| format!("the command line has no {name}: {line}"))
    };
    let number = |name: &str| {
        let word = value(name)?;
        word.parse::<u64>()
            .map_err(|cause| format!("{name}: {cause}"))
    };
    Ok(Words {
        case: Case::from_str(value("case")?, false)?,
        cuts: number("cuts")? as u32,
        seed: number("seed")?,
    })
}
