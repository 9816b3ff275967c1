//! QEMU as seen from this machine: it is started, listened to, reset on request, and ended.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crash::program;

use crate::report::{Case, Line};

const QEMU: &str = "qemu-system-x86_64";
/// Between two lines of the guest; all of it is emulated, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(240);
const MEMORY_MIB: u32 = 768;
const DISK_MIB: u32 = 64;
/// Of the guest's console, when something went wrong.
const LINES_TOLD: usize = 30;

pub struct Boot<'a> {
    pub kernel: &'a Path,
    pub initrd: &'a Path,
    pub desk: &'a Path,
    /// For the guest, on the kernel's command line.
    pub words: String,
}

/// A machine that ends with this value.
struct Machine {
    child: Child,
    monitor: PathBuf,
    lines: mpsc::Receiver<String>,
}

impl Boot<'_> {
    /// Plays a case; the answer is what it tells, a line each, and how many statements do not hold.
    pub fn play(&self, case: Case) -> Result<(String, usize), String> {
        let begun = Instant::now();
        let mut text = format!("{}:\n", case.name());
        let console = self.desk.join(format!("{}.console", case.name()));
        let mut machine = self.start(case, &console)?;
        let mut untrue = 0;
        let mut heard = 0;
        loop {
            match machine
                .line()
                .map_err(|why| format!("{text}{}", told(&why, &console)))?
            {
                Line::Holds { what, holds, seen } => {
                    let word = if holds { "ok " } else { "NOT" };
                    text += &format!("  {word} {what}: {seen}\n");
                    untrue += usize::from(!holds);
                    heard += 1;
                }
                Line::Reset { after_ms } => {
                    std::thread::sleep(Duration::from_millis(after_ms));
                    machine.reset()?;
                }
                Line::Broke { why } => return Err(format!("{text}{}", told(&why, &console))),
                Line::Over {} if heard == 0 => {
                    return Err("the guest has stated nothing".to_owned());
                }
                Line::Over {} => break,
            }
        }
        text += &format!("  {heard} statements in {} s", begun.elapsed().as_secs());
        Ok((text, untrue))
    }

    fn start(&self, case: Case, console: &Path) -> Result<Machine, String> {
        let disk = self.desk.join(format!("{}.disk", case.name()));
        make_disk(&disk)?;
        let monitor = self.desk.join(format!("{}.monitor", case.name()));
        let mut command = Command::new(QEMU);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-cpu", "max", "-m", &format!("{MEMORY_MIB}M")]);
        command.arg("-kernel").arg(self.kernel);
        command.arg("-initrd").arg(self.initrd);
        command.arg("-append");
        command.arg(format!("console=ttyS0 quiet panic=-1 {}", self.words));
        command.arg("-drive");
        command.arg(format!("file={},format=raw,if=virtio", disk.display()));
        command.arg("-serial");
        command.arg(format!("file:{}", console.display()));
        command.args(["-serial", "stdio", "-monitor"]);
        command.arg(format!("unix:{},server=on,wait=off", monitor.display()));
        command.args(["-accel", "tcg"]);
        match case {
            // The host cuts the power in its own time.
            Case::PowerCut => {}
            // The guest's clock counts its instructions and skips idle time, so that what it measures
            // does not depend on how busy this machine is.
            _ => {
                command.args(["-icount", "shift=2,sleep=off", "-rtc", "clock=vm"]);
            }
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|cause| format!("{QEMU}: {cause}; `make setup` brings it"))?;
        Ok(Machine {
            lines: program::lines(child.stdout.take()),
            child,
            monitor,
        })
    }
}

impl Machine {
    /// The next line of the guest's; the firmware also writes to its port, and a reset cuts lines off.
    fn line(&mut self) -> Result<Line, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).map_err(|why| match why {
                mpsc::RecvTimeoutError::Timeout => "the guest says nothing".to_owned(),
                mpsc::RecvTimeoutError::Disconnected => "the guest has ended".to_owned(),
            })?;
            let json = line.find('{').map(|at| &line[at..]);
            if let Some(line) = json.and_then(|json| serde_json::from_str(json).ok()) {
                return Ok(line);
            }
        }
    }

    /// As the button on the front does: without a word to the guest.
    fn reset(&self) -> Result<(), String> {
        let failed = |cause: std::io::Error| format!("QEMU's monitor: {cause}");
        let mut monitor = UnixStream::connect(&self.monitor).map_err(failed)?;
        monitor.write_all(b"system_reset\n").map_err(failed)?;
        // It has heard the command when it prompts for the next.
        let mut prompts = 0;
        for byte in std::io::Read::bytes(&monitor) {
            prompts += u32::from(byte.map_err(failed)? == b')');
            if prompts == 2 {
                break;
            }
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn make_disk(path: &Path) -> Result<(), String> {
    let failed = |cause: std::io::Error| format!("{}: {cause}", path.display());
    let file = fs::File::create(path).map_err(failed)?;
    file.set_len(u64::from(DISK_MIB) << 20).map_err(failed)?;
    let path = path.display().to_string();
    program::run("/sbin/mke2fs", &["-q", "-F", "-t", "ext4", &path], "")?;
    Ok(())
}

fn told(why: &str, console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES_TOLD)..].join("\n  | ");
    format!("{why}; the end of the guest's console:\n  | {last}")
}
