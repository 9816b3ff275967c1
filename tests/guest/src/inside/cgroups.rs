//! Limits of cgroup v2: in force, felt, and put back as they were, whoever is killed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scenarios::change::{CgroupLimit, Change, Limit, ProcessAct, ProcessChange, Processes};

use super::drill::{Drill, reverted};
use super::{DISK, groups};
use crate::report::Report;

const STATE: &str = "/run/state";
const LASTS_MS: u64 = 5_000;
const WATCHED: Duration = Duration::from_secs(2);

/// A worker that dies with this value.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One limit, and the file with what it holds without and with it.
struct Case {
    file: PathBuf,
    before: String,
    during: String,
    change: Change,
}

pub fn play(report: &mut Report) -> Result<(), String> {
    groups::mounted()?;
    let group = groups::make("victims")?;
    for case in cases(&group)? {
        let name = case
            .file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let felt = case.felt(&group)?;
        let holds = felt.1;
        report.holds(
            &format!("{name} is felt while it is lowered"),
            holds,
            felt.0,
        );
        case.ends(report, &name)?;
    }
    Ok(())
}

fn cases(group: &Path) -> Result<Vec<Case>, String> {
    let path = group.display().to_string();
    let limit = |file: &str, before: &str, during: &str, limit: Limit| Case {
        file: group.join(file),
        before: before.to_owned(),
        during: during.to_owned(),
        change: Change::Cgroup(CgroupLimit {
            path: path.clone(),
            limit,
        }),
    };
    let device = fs::metadata("/dev/vda").map_err(|cause| format!("/dev/vda: {cause}"))?;
    let device = device.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let io = Limit::Io {
        major,
        minor,
        read_bps: None,
        write_bps: Some(1 << 20),
    };
    let io_line =
        |write: &str| format!("{major}:{minor} rbps=9000000 wbps={write} riops=max wiops=max");
    let all = vec![
        limit(
            "cpu.max",
            "70000 90000",
            "18000 90000",
            Limit::Cpu { millis: 200 },
        ),
        limit(
            "memory.high",
            "268435456",
            "33554432",
            Limit::Memory { bytes: 32 << 20 },
        ),
        limit("io.max", &io_line("max"), &io_line("1048576"), io),
        Case {
            file: group.join("cgroup.freeze"),
            before: "0".to_owned(),
            during: "1".to_owned(),
            change: Change::Process(ProcessChange {
                processes: Processes::Cgroup(path.clone()),
                act: ProcessAct::Freeze,
            }),
        },
    ];
    for case in &all {
        groups::write(&case.file, &case.before)?;
        case.is(&case.before)?;
    }
    Ok(all)
}

impl Case {
    fn is(&self, wanted: &str) -> Result<(), String> {
        match groups::read(&self.file)? {
            seen if seen == wanted => Ok(()),
            seen => Err(format!("{} is {seen}, not {wanted}", self.file.display())),
        }
    }

    fn in_force(&self) -> Result<Drill, String> {
        let changes = std::slice::from_ref(&self.change);
        let drill = Drill::start(Path::new(STATE), changes, LASTS_MS)?.in_force()?;
        self.is(&self.during)?;
        Ok(drill)
    }

    /// What a worker in the group got, in words, and whether that is what the limit leaves it. The drill
    /// is killed with its value: the guardian puts the limit back.
    fn felt(&self, group: &Path) -> Result<(String, bool), String> {
        let file = self.file.file_name().unwrap_or_default();
        let felt = match file.to_str().unwrap_or_default() {
            "cpu.max" => {
                let used = self.used(group)?;
                let share = used as f64 / WATCHED.as_micros() as f64;
                let text = format!("{:.1} % of a processor, 20 % asked", share * 100.0);
                (text, (0.15..0.25).contains(&share))
            }
            "memory.high" => self.held_back(group)?,
            "io.max" => self.written(group)?,
            _ => {
                let used = self.used(group)?;
                (format!("{used} us of a processor in 2 s"), used == 0)
            }
        };
        self.until_before()?;
        Ok(felt)
    }

    /// Microseconds of a processor that a busy worker got within [`WATCHED`].
    fn used(&self, group: &Path) -> Result<u64, String> {
        let _busy = worker(group, "busy")?; // v2 lets a frozen process die
        let _drill = self.in_force()?;
        let stat = group.join("cpu.stat");
        let before = groups::number(&stat, "usage_usec")?;
        std::thread::sleep(WATCHED);
        Ok(groups::number(&stat, "usage_usec")? - before)
    }

    fn held_back(&self, group: &Path) -> Result<(String, bool), String> {
        let _drill = self.in_force()?;
        let _hold = worker(group, "hold")?;
        std::thread::sleep(WATCHED);
        let current = groups::read(&group.join("memory.current"))?;
        let current: u64 = current.parse().unwrap_or(0);
        let times = groups::number(&group.join("memory.events"), "high")?;
        let mib = current >> 20;
        let text = format!("held back {times} times at {mib} MiB, 32 MiB asked");
        Ok((text, times > 0 && mib < 48))
    }

    fn written(&self, group: &Path) -> Result<(String, bool), String> {
        let _drill = self.in_force()?;
        let mut writer = worker(group, "write")?;
        let mut out = writer.0.stdout.take().ok_or("the writer has no output")?;
        let mut text = String::new();
        let read = std::io::Read::read_to_string(&mut out, &mut text);
        read.map_err(|cause| cause.to_string())?;
        let took_ms: u64 = text.trim().parse().map_err(|_| "nothing was written")?;
        let removed = fs::remove_file(Path::new(DISK).join("written"));
        removed.map_err(|cause| cause.to_string())?;
        let text = format!("4 MiB in {took_ms} ms, 1 MiB/s asked");
        Ok((text, (3_000..5_500).contains(&took_ms)))
    }

    fn until_before(&self) -> Result<(), String> {
        for _ in 0..2_000 {
            if self.is(&self.before).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.is(&self.before)
    }

    /// At its end, by the guardian, and by a revert alone.
    fn ends(&self, report: &mut Report, name: &str) -> Result<(), String> {
        let ended = self.in_force()?.ends()?;
        let holds = ended.code == Some(0) && self.is(&self.before).is_ok();
        let seen = match holds {
            true => self.before.clone(),
            false => format!("{}; {}", groups::read(&self.file)?, ended.text),
        };
        report.holds(&format!("{name} ends with its time"), holds, seen);

        let mut drill = self.in_force()?;
        drill.kill()?;
        let closed = drill.closed_by_guardian();
        let seen = groups::read(&self.file)?;
        let holds = closed.is_ok() && seen == self.before;
        report.holds(&format!("{name} is put back by the guardian"), holds, seen);

        let mut drill = self.in_force()?;
        let guardian = Pid::from_raw(drill.guardian()? as i32);
        kill(guardian, Signal::SIGKILL).map_err(|cause| cause.to_string())?;
        drill.kill()?;
        let stays = self.is(&self.during).is_ok();
        let over = reverted(Path::new(STATE))?;
        let seen = groups::read(&self.file)?;
        let holds = stays && over.code == Some(0) && seen == self.before;
        report.holds(
            &format!("{name} is put back by a revert alone"),
            holds,
            seen,
        );
        Ok(())
    }
}

fn worker(group: &Path, part: &str) -> Result<Worker, String> {
    groups::within(group, || {
        let child = Command::new("/init")
            .args(["--inside", part])
            .stdout(Stdio::piped())
            .spawn();
        child.map(Worker).map_err(|cause| format!("/init: {cause}"))
    })
}
