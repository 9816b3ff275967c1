//! Limits of control groups, as this machine has them: lowered, put back, and what others do meanwhile.

use scenarios::change::{CgroupLimit, Change, Limit};

use crate::support::*;

const MEMORY: u64 = 64 << 20;
const RATE: u64 = 1 << 20;

/// A limit of v1, the group in its hierarchy, and the file with what it holds without and with it.
struct Case {
    group: Group,
    limit: Limit,
    file: &'static str,
    before: String,
    during: String,
    /// What someone else might write: (written, read back).
    other: (String, String),
}

impl Case {
    /// Whatever this machine has.
    fn all() -> Vec<Self> {
        let cases: Vec<Self> = [Self::cpu(), Self::memory(), Self::io()]
            .into_iter()
            .flatten()
            .collect();
        assert!(
            !cases.is_empty(),
            "this machine has no v1 hierarchy to limit anything in"
        );
        cases
    }

    fn cpu() -> Option<Self> {
        Some(Self {
            group: Group::new("cpu")?,
            limit: Limit::Cpu { millis: 250 },
            file: "cpu.cfs_quota_us",
            before: "-1".into(),
            during: "25000".into(),
            other: ("70000".into(), "70000".into()),
        })
    }

    fn memory() -> Option<Self> {
        let group = Group::new("memory")?;
        Some(Self {
            before: group.read("memory.limit_in_bytes"),
            group,
            limit: Limit::Memory { bytes: MEMORY + 1 },
            file: "memory.limit_in_bytes",
            during: MEMORY.to_string(),
            other: ("99999744".into(), "99999744".into()),
        })
    }

    fn io() -> Option<Self> {
        let (major, minor) = disk()?;
        Some(Self {
            group: Group::new("blkio")?,
            limit: Limit::Io {
                major,
                minor,
                read_bps: None,
                write_bps: Some(RATE),
            },
            file: "blkio.throttle.write_bps_device",
            before: String::new(),
            during: format!("{major}:{minor} {RATE}"),
            other: (format!("{major}:{minor} 77"), format!("{major}:{minor} 77")),
        })
    }

    fn change(&self) -> Change {
        Change::Cgroup(CgroupLimit {
            path: self.group.path(),
            limit: self.limit.clone(),
        })
    }

    fn now(&self) -> String {
        self.group.read(self.file)
    }

    fn in_force(&self, host: &Host, lasts: &str) -> Changing {
        assert_eq!(self.now(), self.before);
        let mut changing = host.change("d", &[self.change()], lasts);
        assert!(changing.says("in force"), "{:?}", changing.ends());
        until("the limit is there", || self.now() == self.during);
        changing
    }
}

/// Any whole disk of this machine.
fn disk() -> Option<(u32, u32)> {
    let disks = std::fs::read_dir("/sys/block").ok()?.flatten();
    disks
        .filter(|disk| disk.path().join("device").exists())
        .find_map(|disk| {
            let text = std::fs::read_to_string(disk.path().join("dev")).ok()?;
            let (major, minor) = text.trim().split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        })
}

fn refusal(change: Change) -> String {
    let host = Host::new();
    let (code, text) = host.change("d", &[change], "5s").ends();
    assert_eq!(code, Some(70), "{text}");
    text
}

#[test]
#[ignore = "needs root: v1 control groups"]
fn each_limit_is_there_and_ends_with_its_time() {
    for case in Case::all() {
        let host = Host::new();
        case.in_force(&host, "300ms").ends_clean();
        assert_eq!(case.now(), case.before);
    }
}

#[test]
#[ignore = "needs root: v1 control groups"]
fn a_limit_that_stood_before_is_put_back_exactly() {
    for mut case in Case::all() {
        case.group.write(case.file, &case.other.0);
        case.before = case.other.1.clone();
        let host = Host::new();
        if case.file.starts_with("blkio") {
            let why = refusal(case.change());
            assert!(why.contains("it has less already"), "{why}");
        } else {
            case.in_force(&host, "300ms").ends_clean();
        }
        assert_eq!(case.now(), case.before);
    }
}

#[test]
#[ignore = "needs root: v1 control groups"]
fn the_guardian_puts_limits_back_and_so_does_revert() {
    for case in Case::all() {
        let host = Host::new();
        case.in_force(&host, "60s").crash();
        host.closes("d");
        assert_eq!(case.now(), case.before);

        let host = Host::new();
        let mut changing = case.in_force(&host, "60s");
        changing.crash_with_guardian();
        assert_eq!(case.now(), case.during, "nobody is left to end it");
        host.revert_clean();
        assert_eq!(case.now(), case.before);
    }
}

#[test]
#[ignore = "needs root: v1 control groups"]
fn what_others_have_written_meanwhile_stays_and_is_told() {
    for case in Case::all() {
        let host = Host::new();
        let mut changing = case.in_force(&host, "1500ms");
        case.group.write(case.file, &case.other.0);
        let (code, text) = changing.ends();
        assert_eq!(
            (code, case.now()),
            (Some(0), case.other.1.clone()),
            "{text}"
        );
        assert!(
            text.contains("drifted") && text.contains(case.file),
            "{text}"
        );
    }
}

#[test]
#[ignore = "needs root: v1 control groups"]
fn a_group_that_was_made_again_keeps_its_limits() {
    for case in Case::all() {
        let host = Host::new();
        let mut changing = case.in_force(&host, "1500ms");
        case.group.replace();
        case.group.write(case.file, &case.during);
        let (code, text) = changing.ends();
        assert_eq!((code, case.now()), (Some(0), case.during.clone()), "{text}");
        assert!(text.contains("was removed early"), "{text}");
    }
}

/// Which only v1 allows.
#[test]
#[ignore = "needs root: v1 control groups"]
fn a_group_that_gets_another_name_gets_its_limit_back() {
    for mut case in Case::all() {
        let host = Host::new();
        let mut changing = case.in_force(&host, "1500ms");
        let other = case.group.path.with_extension("renamed");
        std::fs::rename(&case.group.path, &other).unwrap();
        let old = std::mem::replace(&mut case.group.path, other);
        let (code, text) = changing.ends();
        assert_eq!((code, case.now()), (Some(0), case.before.clone()), "{text}");
        assert!(!text.contains("removed"), "{text}");
        assert!(!old.exists());
    }
}

/// As a runtime does it: the container's group is named by its id, below that of its pod.
#[test]
#[ignore = "needs root: v1 control groups"]
fn a_container_that_comes_back_with_another_id_is_left_alone() {
    for mut case in Case::all() {
        let host = Host::new();
        let old = case.group.below();
        let pod = std::mem::replace(&mut case.group, old);
        let mut changing = case.in_force(&host, "1500ms");
        let other = pod.path.join("another-id");
        std::fs::create_dir(&other).unwrap();
        let new = Group { path: other };
        let before = new.read(case.file);
        drop(case.group);
        let (code, text) = changing.ends();
        assert_eq!((code, new.read(case.file)), (Some(0), before), "{text}");
        assert!(text.contains("was removed early"), "{text}");
        host.revert_clean();
    }
}

#[test]
#[ignore = "needs root: v1 control groups"]
fn what_cannot_or_must_not_be_limited_is_refused() {
    for case in Case::all() {
        case.group.write(case.file, &case.during);
        assert!(refusal(case.change()).contains("exactly that already"));
        let (host, other) = (Host::new(), Group::new("cpu").unwrap());
        let sleeper = Sleeper::new();
        other.put(sleeper.pid());
        let quota = Change::Cgroup(CgroupLimit {
            path: other.path(),
            limit: Limit::Cpu { millis: 900 },
        });
        let mut changing = host.change("d", &[quota], "60s");
        assert!(changing.says("in force"), "{:?}", changing.ends());
        case.group.put(changing.pid());
        let lower = Change::Cgroup(CgroupLimit {
            path: case.group.path(),
            limit: less(&case.limit),
        });
        let with_the_agent = refusal(lower);
        assert!(
            with_the_agent.contains("this agent or its guardian"),
            "{with_the_agent}"
        );
        assert_eq!(case.now(), case.during);
    }
    let of = |hierarchy: &str, limit: Limit| {
        let group = Group::new(hierarchy).unwrap();
        refusal(Change::Cgroup(CgroupLimit {
            path: group.path(),
            limit,
        }))
    };
    let lacking = of("freezer", Limit::Cpu { millis: 100 });
    assert!(
        lacking.contains("no cpu.max or cpu.cfs_quota_us"),
        "{lacking}"
    );
    let nowhere = Limit::Io {
        major: 4095,
        minor: 7,
        read_bps: Some(RATE),
        write_bps: None,
    };
    assert!(of("blkio", nowhere).contains("no block device"));
}

fn less(limit: &Limit) -> Limit {
    let mut limit = limit.clone();
    match &mut limit {
        Limit::Cpu { millis } => *millis /= 2,
        Limit::Memory { bytes } => *bytes /= 2,
        Limit::Io { write_bps, .. } => *write_bps = Some(RATE / 2),
    }
    limit
}

/// A group that is in use cannot be lowered below its use: the kernel says EBUSY, and nothing is undone.
#[test]
#[ignore = "needs root: v1 memory group, mount namespace"]
fn a_limit_below_what_is_in_use_is_not_put_in_force() {
    let case = Case::memory().expect("a v1 hierarchy with limits of memory");
    let host = Host::new();
    let disk = host.tmpfs("ram", "size=120m");
    let line = format!(
        "echo $$ > {}/cgroup.procs && head -c 90M /dev/zero > {}/file",
        case.group.path(),
        disk.display()
    );
    let done = host.run(move || {
        std::process::Command::new("sh")
            .args(["-c", &line])
            .status()
    });
    assert!(done.unwrap().success());
    let (code, text) = host.change("d", &[case.change()], "300ms").ends();
    assert_eq!((code, case.now()), (Some(0), case.before.clone()), "{text}");
    assert!(text.contains("was not put in force"), "{text}");
    assert!(
        host.read(&host.state().join("journal/d.journal"))
            .unwrap()
            .contains("not_applied")
    );
}
