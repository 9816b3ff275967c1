//! A limit of a control group lowered, and the captured one put back.

use std::io;
use std::path::Path;

use scenarios::change::{CgroupLimit, Limit};
use serde::{Deserialize, Serialize};

use super::{Error, Hands, Place, Reversible};
use crate::journal::Permit;
use crate::kernel::cgroups::Folder;
use crate::kernel::nft::Gate;
use crate::kernel::procfs;
use crate::mistakes;
use crate::neighbours::Claims;

/// The kernel takes no shorter quota, microseconds.
const QUOTA_LEAST: u64 = 1_000;
const PERIOD_USUAL: u64 = 100_000;
const NEXT: &str = "compare the files of the group, then run `cellwall-agent revert --all`";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    group: Folder,
    settings: Vec<Setting>,
}

/// One value of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    file: String,
    /// The line that it stands on, in files with a line for each device: `8:0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    captured: String,
    /// As the kernel tells it back.
    set: String,
}

impl Reversible for CgroupLimit {
    type Undo = Undo;

    fn capture(&self, _: &mut Hands, _: &Place) -> Result<Undo, Error> {
        let group = Folder::open(Path::new(&self.path)).map_err(|cause| Error::Capture {
            what: format!("look at the control group {}", self.path),
            cause: cause.into(),
        })?;
        let settings = settings(&group, &self.limit).map_err(|why| Error::Refused {
            what: self.summary(),
            why,
        })?;
        let refuse = |why: String| Error::Refused {
            what: self.summary(),
            why,
        };
        if let Some(why) = not_less(&settings) {
            return Err(refuse(why));
        }
        if let Limit::Io { major, minor, .. } = self.limit {
            is_a_disk(major, minor).map_err(refuse)?;
        }
        let members = group.members().map_err(|cause| Error::Capture {
            what: format!("see who is in {}", self.path),
            cause: cause.into(),
        })?;
        if let Some(pid) = members.into_iter().find(|pid| procfs::is_ours(*pid)) {
            return Err(refuse(format!(
                "process {pid} in it is this agent or its guardian, which must be able to end the fault"
            )));
        }
        Ok(Undo { group, settings })
    }

    fn apply(&self, undo: &Undo, _: &mut Hands, _: Gate, permit: &Permit) -> Result<(), Error> {
        let not_applied = |why: String| Error::NotApplied {
            what: self.summary(),
            why,
        };
        let group = &undo.group;
        if group.is_gone() {
            return Err(not_applied("the group is gone since arm".to_owned()));
        }
        for setting in &undo.settings {
            let now = setting
                .read(group)
                .map_err(|cause| not_applied(cause.to_string()))?;
            if now != setting.captured {
                let file = &setting.file;
                return Err(not_applied(format!(
                    "{file} is {now}, not as it was at arm"
                )));
            }
        }
        for (index, setting) in undo.settings.iter().enumerate() {
            let failed = |what: String, cause: io::Error| Error::Act {
                what: format!("{what} {}", setting.file),
                cause: cause.into(),
            };
            let act = |cause| failed(format!("write {} to", setting.set), cause);
            match setting.write(group, &setting.set, permit) {
                Err(cause) if index == 0 => return Err(not_applied(cause.to_string())),
                written => written.map_err(act)?,
            }
            let seen = setting.read(group);
            let seen = seen.map_err(|cause| failed("read back".to_owned(), cause))?;
            if seen != setting.set {
                return Err(act(io::Error::other(format!("the kernel has {seen}"))));
            }
        }
        Ok(())
    }

    fn undo(undo: &Undo, _: &mut Hands, permit: &Permit) -> Result<Vec<String>, Error> {
        let mut drifted = Vec::new();
        let mut failed = None;
        for setting in undo.settings.iter().rev() {
            let path = undo.group.path().join(&setting.file);
            match setting.put_back(&undo.group, permit) {
                Ok(other) => drifted.extend(other.map(|now| {
                    format!(
                        "{} is {now}, neither {} as captured nor {} as changed",
                        path.display(),
                        setting.captured,
                        setting.set
                    )
                })),
                // Whatever was limited ended with the group.
                Err(_) if undo.group.is_gone() => return Ok(drifted),
                Err(cause) => {
                    failed.get_or_insert_with(|| Error::Back {
                        what: format!("write {} back to {}", setting.captured, path.display()),
                        cause: cause.into(),
                        now: format!("it may still be {}", setting.set),
                        next: NEXT,
                    });
                }
            }
        }
        failed.map_or(Ok(drifted), Err)
    }

    fn claims(undo: &Undo) -> Claims {
        let group = &undo.group;
        let both = |setting: &Setting| {
            let path = group.path().join(&setting.file).display().to_string();
            [path, format!("{} of {}", setting.file, group.identity())]
        };
        Claims {
            alters: undo.settings.iter().flat_map(both).collect(),
            ..Claims::default()
        }
    }

    fn lapsed(undo: &Undo) -> Vec<String> {
        let path = undo.group.path().display();
        if undo.group.is_gone() {
            return vec![format!("{path} was removed early, and the limit with it")];
        }
        let early = |setting: &&Setting| {
            let now = setting.read(&undo.group);
            now.is_ok_and(|now| now == setting.captured && now != setting.set)
        };
        let early = undo.settings.iter().filter(early);
        early
            .map(|setting| format!("{path}/{} was put back early", setting.file))
            .collect()
    }
}

impl Setting {
    /// The word for no limit.
    fn unlimited(&self) -> &'static str {
        match self.file.as_str() {
            "cpu.cfs_quota_us" => "-1",
            file if file.starts_with("blkio.") => "0",
            _ => "max",
        }
    }

    /// The numbers of a value, with the greatest of all for what has no limit.
    fn amounts(&self, value: &str) -> Vec<u64> {
        let unlimited = self.unlimited();
        let number = |word: &str| word.parse().unwrap_or(u64::MAX);
        let words = value.split(' ');
        let words = words.map(|word| word.split_once('=').map_or(word, |(_, amount)| amount));
        words
            .map(|word| {
                if word == unlimited {
                    u64::MAX
                } else {
                    number(word)
                }
            })
            .collect()
    }

    fn read(&self, group: &Folder) -> io::Result<String> {
        let text = group.read(&self.file)?;
        Ok(match &self.device {
            None => text,
            Some(device) => of_device(&text, device, self.file == "io.max"),
        })
    }

    /// The answer is the value of now, if it is not ours to put back.
    fn put_back(&self, group: &Folder, permit: &Permit) -> io::Result<Option<String>> {
        let now = self.read(group)?;
        if now == self.captured {
            return Ok(None);
        }
        if now != self.set {
            return Ok(Some(now));
        }
        let back = mistakes::restored(self.captured.as_str(), self.unlimited());
        self.write(group, back, permit)?;
        let seen = self.read(group)?;
        match seen == back {
            true => Ok(None),
            false => Err(io::Error::other(format!("the kernel has {seen}"))),
        }
    }

    fn write(&self, group: &Folder, value: &str, permit: &Permit) -> io::Result<()> {
        match &self.device {
            None => group.write(&self.file, value, permit),
            Some(device) => group.write(&self.file, &format!("{device} {value}"), permit),
        }
    }
}

/// What the line of a device says of bytes per second; of a device without a line, what that means.
fn of_device(text: &str, device: &str, v2: bool) -> String {
    let line = text.lines().find_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        (name == device).then_some(rest)
    });
    if !v2 {
        return line.unwrap_or("0").to_owned();
    }
    let value = |key: &str| {
        let words = line.unwrap_or_default().split(' ');
        let found = words.filter_map(|word| word.strip_prefix(key)).next();
        format!("{key}{}", found.unwrap_or("max"))
    };
    format!("{} {}", value("rbps="), value("wbps="))
}

/// Why a limit would take nothing away: the group must get less than it had, of each and in all.
fn not_less(settings: &[Setting]) -> Option<String> {
    let mut less = false;
    for setting in settings {
        let (captured, set) = (
            setting.amounts(&setting.captured),
            setting.amounts(&setting.set),
        );
        if set
            .iter()
            .zip(&captured)
            .any(|(set, captured)| set > captured)
        {
            let (file, captured) = (&setting.file, &setting.captured);
            return Some(format!("it has less already: {file} is {captured}"));
        }
        less |= set != captured;
    }
    (!less).then(|| "it has exactly that already, so nothing would be changed".to_owned())
}

/// blkio and io.max know whole disks only.
fn is_a_disk(major: u32, minor: u32) -> Result<(), String> {
    let device = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    match (device.exists(), device.join("partition").exists()) {
        (false, _) => Err(format!("there is no block device {major}:{minor}")),
        (_, true) => Err(format!("{major}:{minor} is a partition; name its disk")),
        _ => Ok(()),
    }
}

/// What is to be written where, with the values of now.
fn settings(group: &Folder, limit: &Limit) -> Result<Vec<Setting>, String> {
    let read = |file: &str| group.read(file).map_err(|cause| format!("{file}: {cause}"));
    let whole = |file: &str, captured: String, set: String| Setting {
        file: file.to_owned(),
        device: None,
        captured,
        set,
    };
    let lacking = |files: &str| format!("the group has no {files}");
    match limit {
        Limit::Cpu { millis } if group.has("cpu.max") => {
            let captured = read("cpu.max")?;
            let period = captured
                .split(' ')
                .nth(1)
                .and_then(|word| word.parse().ok());
            let period = period.unwrap_or(PERIOD_USUAL);
            let set = format!("{} {period}", quota(*millis, period)?);
            Ok(vec![whole("cpu.max", captured, set)])
        }
        Limit::Cpu { millis } if group.has("cpu.cfs_quota_us") => {
            let period = read("cpu.cfs_period_us")?.parse().unwrap_or(PERIOD_USUAL);
            let set = quota(*millis, period)?.to_string();
            let captured = read("cpu.cfs_quota_us")?;
            Ok(vec![whole("cpu.cfs_quota_us", captured, set)])
        }
        Limit::Cpu { .. } => Err(lacking("cpu.max or cpu.cfs_quota_us")),
        Limit::Memory { bytes } => {
            let files = ["memory.high", "memory.limit_in_bytes"];
            let file = files.into_iter().find(|file| group.has(file));
            let file = file.ok_or_else(|| lacking(&files.join(" or ")))?;
            let page = rustix::param::page_size() as u64;
            let set = (bytes / page * page).to_string();
            Ok(vec![whole(file, read(file)?, set)])
        }
        Limit::Io {
            major,
            minor,
            read_bps,
            write_bps,
        } => io_settings(group, &format!("{major}:{minor}"), *read_bps, *write_bps),
    }
}

fn io_settings(
    group: &Folder,
    device: &str,
    read_bps: Option<u64>,
    write_bps: Option<u64>,
) -> Result<Vec<Setting>, String> {
    if read_bps == Some(0) || write_bps == Some(0) {
        return Err("0 bytes/s is no rate: v1 takes it for no limit at all".to_owned());
    }
    let setting = |file: &str, set: &dyn Fn(&str) -> String| -> Result<Setting, String> {
        let text = group
            .read(file)
            .map_err(|cause| format!("{file}: {cause}"))?;
        let captured = of_device(&text, device, file == "io.max");
        Ok(Setting {
            file: file.to_owned(),
            device: Some(device.to_owned()),
            set: set(&captured),
            captured,
        })
    };
    if group.has("io.max") {
        let both = |captured: &str| {
            let (read, write) = captured.split_once(' ').unwrap_or_default();
            let read = read_bps.map_or_else(|| read.to_owned(), |bps| format!("rbps={bps}"));
            let write = write_bps.map_or_else(|| write.to_owned(), |bps| format!("wbps={bps}"));
            format!("{read} {write}")
        };
        return Ok(vec![setting("io.max", &both)?]);
    }
    let twins = [
        ("blkio.throttle.read_bps_device", read_bps),
        ("blkio.throttle.write_bps_device", write_bps),
    ];
    let asked = twins
        .into_iter()
        .filter_map(|(file, bps)| Some((file, bps?)));
    let asked: Vec<(&str, u64)> = asked.collect();
    if asked.is_empty() {
        return Err("neither a read nor a write rate is given".to_owned());
    }
    asked
        .into_iter()
        .map(|(file, bps)| setting(file, &|_| bps.to_string()))
        .collect()
}

/// Microseconds of each period.
fn quota(millis: u32, period: u64) -> Result<u64, String> {
    let quota = u64::from(millis) * period / 1_000;
    match quota >= QUOTA_LEAST {
        true => Ok(quota),
        false => Err(format!(
            "{quota} us in each {period} us are too few: the kernel takes {QUOTA_LEAST} at least"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> (tempfile::TempDir, Folder) {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in [("cgroup.procs", "")].iter().chain(files) {
            std::fs::write(folder.path().join(file), format!("{text}\n")).unwrap();
        }
        let group = Folder::open(folder.path()).unwrap();
        (folder, group)
    }

    fn asked(files: &[(&str, &str)], limit: Limit) -> Result<Vec<[String; 3]>, String> {
        let (_folder, group) = group(files);
        let each = |setting: Setting| [setting.file, setting.captured, setting.set];
        Ok(settings(&group, &limit)?.into_iter().map(each).collect())
    }

    #[test]
    fn v2_and_its_twins_are_written_in_the_kernels_words() {
        let cpu = |millis| Limit::Cpu { millis };
        let set = asked(&[("cpu.max", "max 50000")], cpu(250)).unwrap();
        assert_eq!(set, [["cpu.max", "max 50000", "12500 50000"]]);
        let v1 = [("cpu.cfs_quota_us", "-1"), ("cpu.cfs_period_us", "100000")];
        let set = asked(&v1, cpu(1500)).unwrap();
        assert_eq!(set, [["cpu.cfs_quota_us", "-1", "150000"]]);
        assert!(asked(&v1, cpu(5)).unwrap_err().contains("too few"));
        assert!(asked(&[], cpu(5)).unwrap_err().contains("no cpu.max"));
        let memory = Limit::Memory { bytes: 10_000_000 };
        let set = asked(&[("memory.high", "max")], memory.clone()).unwrap();
        assert_eq!(set, [["memory.high", "max", "9998336"]]);
        let set = asked(&[("memory.limit_in_bytes", "9223372036854771712")], memory).unwrap();
        assert_eq!(set[0][2], "9998336");
    }

    #[test]
    fn a_limit_takes_something_away() {
        let why = |file: &str, captured: &str, set: &str| {
            not_less(&[Setting {
                file: file.to_owned(),
                device: None,
                captured: captured.to_owned(),
                set: set.to_owned(),
            }])
            .unwrap_or_default()
        };
        for (file, captured, set) in [
            ("cpu.max", "max 100000", "25000 100000"),
            ("cpu.cfs_quota_us", "-1", "25000"),
            ("memory.high", "max", "4096"),
            ("memory.limit_in_bytes", "9223372036854771712", "4096"),
            ("io.max", "rbps=max wbps=9", "rbps=max wbps=8"),
            ("blkio.throttle.read_bps_device", "0", "8"),
        ] {
            assert_eq!(why(file, captured, set), "", "{file}");
            assert!(why(file, set, captured).contains("less already"), "{file}");
            assert!(why(file, set, set).contains("exactly"), "{file}");
        }
        assert!(is_a_disk(4095, 77).unwrap_err().contains("no block device"));
    }

    #[test]
    fn of_a_devices_line_only_the_rates_are_ours() {
        let io = Limit::Io {
            major: 8,
            minor: 0,
            read_bps: None,
            write_bps: Some(1024),
        };
        let line = "8:16 rbps=1 wbps=2\n8:0 rbps=max wbps=4096 riops=max wiops=7";
        let set = asked(&[("io.max", line)], io.clone()).unwrap();
        assert_eq!(
            set,
            [["io.max", "rbps=max wbps=4096", "rbps=max wbps=1024"]]
        );
        let set = asked(&[("io.max", "")], io.clone()).unwrap();
        assert_eq!(set[0][1], "rbps=max wbps=max");
        let none = Limit::Io {
            major: 8,
            minor: 0,
            read_bps: Some(0),
            write_bps: None,
        };
        assert!(
            asked(&[("io.max", "")], none)
                .unwrap_err()
                .contains("no rate")
        );
        let v1 = [
            ("blkio.throttle.read_bps_device", "8:0 5"),
            ("blkio.throttle.write_bps_device", ""),
        ];
        let set = asked(&v1, io).unwrap();
        assert_eq!(set, [["blkio.throttle.write_bps_device", "0", "1024"]]);
    }
}
