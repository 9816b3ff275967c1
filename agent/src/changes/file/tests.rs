//! Every stop between two calls of the kernel, and every hand that comes between.

mod hands;
mod refusals;

use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use super::*;
use crate::boottime::Boottime;
use crate::changes::Management;
use crate::journal::{Armed, FORMAT, Journal};
use crate::kernel::files::crash;

const BEFORE: &str = "0123456789abcdefghijklmnopqrstuvwxyz";
/// Cuts in the midst of a chunk, and leaves several.
const CUT: u64 = 11;

fn acts() -> [FileAct; 4] {
    [
        FileAct::Replace {
            content: "something else, longer than a chunk".into(),
        },
        FileAct::MoveAway,
        FileAct::Chmod { mode: 0o440 },
        FileAct::Truncate { bytes: CUT },
    ]
}

fn replace() -> FileAct {
    let [replace, ..] = acts();
    replace
}

/// A file in a folder, and a drill that means it.
struct Case {
    folder: tempfile::TempDir,
    state: tempfile::TempDir,
    disks: Disks,
    permit: Permit,
    change: FileChange,
}

impl Case {
    fn new(act: FileAct) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.conf");
        std::fs::write(&path, BEFORE).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        std::fs::hard_link(&path, folder.path().join("link")).unwrap();
        let old = SystemTime::now() - Duration::new(86_400, 123_456_789);
        let times = std::fs::FileTimes::new()
            .set_accessed(old)
            .set_modified(old);
        std::fs::File::open(&path)
            .unwrap()
            .set_times(times)
            .unwrap();
        let state = tempfile::tempdir().unwrap();
        let armed = Armed {
            format: FORMAT,
            drill: "d".into(),
            conductor: String::new(),
            plan_sha256: String::new(),
            boot_id: String::new(),
            expires: Boottime::now(),
        };
        let (_, permit) = Journal::create(&journal::directory(state.path()), armed, &[]).unwrap();
        let change = FileChange {
            path: path.to_str().unwrap().into(),
            act,
        };
        Self {
            folder,
            state,
            disks: Disks::default(),
            permit,
            change,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("app.conf")
    }

    fn sidecar(&self) -> PathBuf {
        self.folder.path().join(".cellwall_d_0_0")
    }

    fn capture(&mut self) -> Result<Undo, Error> {
        let place = Place {
            drill: "d".into(),
            step: 0,
            index: 0,
            state: journal::directory(self.state.path()),
            management: Management {
                operator: Vec::new(),
                port: 1,
            },
        };
        let undo = captured(&self.change, &mut self.disks, &place)?;
        // As another process has it.
        let json = serde_json::to_string(&undo).unwrap();
        Ok(serde_json::from_str(&json).unwrap())
    }

    fn load(&mut self, undo: &Undo) -> Result<(), Error> {
        loaded(&self.change, undo, &self.permit)
    }

    fn apply(&mut self, undo: &Undo) -> Result<(), Error> {
        applied(&self.change, undo, &self.permit)
    }

    fn undo(&mut self, undo: &Undo) -> Result<Vec<String>, Error> {
        undone(undo, &self.permit)
    }

    fn in_force(act: FileAct) -> (Self, Undo) {
        let mut case = Self::new(act);
        let undo = case.capture().unwrap();
        case.load(&undo).unwrap();
        case.apply(&undo).unwrap();
        (case, undo)
    }

    /// All that there is to see of every file in the folder, but for the time of inode changes.
    fn inventory(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            let m = path.symlink_metadata().unwrap();
            let mut quietly = std::fs::OpenOptions::new();
            quietly.read(true).custom_flags(libc::O_NOATIME);
            let content = match m.is_file() {
                true => std::io::read_to_string(quietly.open(&path).unwrap()).unwrap(),
                false => String::new(),
            };
            lines.push(format!(
                "{path:?} inode {} mode {:o} owner {}:{} links {} size {} mtime {}.{} atime {}.{} \
                 content {content:?}",
                m.ino(),
                m.mode(),
                m.uid(),
                m.gid(),
                m.nlink(),
                m.len(),
                m.mtime(),
                m.mtime_nsec(),
                m.atime(),
                m.atime_nsec(),
            ));
        }
        lines.sort();
        lines
    }

    fn content(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }
}

fn append(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Loads, applies and undoes until just before the given call. False: it came to its end.
fn stopped_after(calls: u32, case: &mut Case, undo: &Undo) -> bool {
    let whole = crash::after(calls, || {
        case.load(undo).unwrap();
        case.apply(undo).unwrap();
        case.undo(undo).unwrap()
    });
    whole.is_none()
}

#[test]
fn every_stop_is_undone_to_the_last_bit() {
    for act in acts() {
        let mut points = 0;
        loop {
            let mut case = Case::new(act.clone());
            let before = case.inventory();
            let undo = case.capture().unwrap();
            let stopped = stopped_after(points, &mut case, &undo);
            assert_eq!(
                case.undo(&undo).unwrap(),
                Vec::<String>::new(),
                "{act:?} {points}"
            );
            assert_eq!(
                case.inventory(),
                before,
                "{act:?} stopped before call {points}"
            );
            case.undo(&undo).expect("it may come again");
            if !stopped {
                break;
            }
            points += 1;
        }
        println!("{act:?}: {points} points");
        assert!(points >= 3, "{act:?}: stops are not seen");
    }
}

#[test]
fn a_stop_within_the_undo_after_any_stop_is_undone_too() {
    for act in acts() {
        let mut pairs = 0;
        for first in 0.. {
            let mut last = true;
            for second in 0.. {
                let mut case = Case::new(act.clone());
                let before = case.inventory();
                let undo = case.capture().unwrap();
                last = !stopped_after(first, &mut case, &undo);
                let again = crash::after(second, || case.undo(&undo).unwrap());
                case.undo(&undo).unwrap();
                assert_eq!(case.inventory(), before, "{act:?} {first} {second}");
                if again.is_some() {
                    break;
                }
                pairs += 1;
            }
            if last {
                break;
            }
        }
        assert!(pairs >= 4, "{act:?}: {pairs}");
    }
}

#[test]
fn each_act_is_seen_from_outside() {
    let (case, _) = Case::in_force(replace());
    assert!(case.content().starts_with("something else"));
    let (now, then) = (
        case.path().metadata().unwrap(),
        case.sidecar().metadata().unwrap(),
    );
    assert_eq!((now.mode(), now.uid()), (then.mode(), then.uid()));
    let (case, _) = Case::in_force(FileAct::MoveAway);
    assert!(!case.path().exists());
    let (case, _) = Case::in_force(FileAct::Chmod { mode: 0o440 });
    assert_eq!(case.path().metadata().unwrap().mode() & 0o7777, 0o440);
    let (case, _) = Case::in_force(FileAct::Truncate { bytes: CUT });
    assert_eq!(case.content(), BEFORE[..CUT as usize]);
    let link = std::fs::read_to_string(case.folder.path().join("link")).unwrap();
    assert_eq!(link.len() as u64, CUT, "the same inode");
}

#[test]
fn a_tail_that_a_power_cut_left_as_zeros_is_written_again() {
    for (came, zeros) in [(0, 9), (5, 7), (9, 0)] {
        let (mut case, undo) = Case::in_force(FileAct::Truncate { bytes: CUT });
        let kept = std::fs::read_to_string(case.sidecar()).unwrap();
        append(&case.path(), &kept[..came]);
        append(&case.path(), &"\0".repeat(zeros));
        assert_eq!(case.undo(&undo).unwrap(), Vec::<String>::new());
        assert_eq!(case.content(), BEFORE);
    }
    let (mut case, undo) = Case::in_force(FileAct::Truncate { bytes: CUT });
    append(&case.path(), "\0\0x");
    case.undo(&undo).unwrap_err();
}
