//! A world as the program outside of it sees it: a child in namespaces of its own, which is asked.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::inside::{Answer, Ask};
use crate::program;
use crate::scene;
use crate::world::Place;
use crate::world::groups::{self, Groups};

/// Where folders of worlds are; each is empty but for what is mounted on it inside.
const FOLDERS: &str = "/tmp";
/// Longer than all patience inside together.
const PATIENCE: Duration = Duration::from_secs(240);

pub struct Outside {
    child: Child,
    asks: Option<ChildStdin>,
    answers: mpsc::Receiver<String>,
    place: Place,
    groups: Groups,
    /// Of the file system that gets frozen, to thaw it whoever dies.
    frozen: Option<File>,
}

impl Outside {
    /// Starts one and waits until it is made. It dies with the calling thread.
    pub fn start(scene: &str, agent: &Path) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (run, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("{}{run}-{scene}-{number}", groups::PREFIX);
        let place = Place(PathBuf::from(FOLDERS).join(&name));
        let failed = |what: &str, cause: std::io::Error| format!("{what}: {cause}");
        fs::create_dir(&place.0).map_err(|cause| failed(&place.0.display().to_string(), cause))?;
        let own = std::env::current_exe().map_err(|cause| failed("this program", cause))?;
        let mut child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--fork",
            ])
            .args([
                "--mount-proc",
                "--propagation",
                "private",
                "--kill-child=KILL",
            ])
            .arg(own)
            .args(["inside", "--scene", scene, "--groups", &name])
            .arg("--place")
            .arg(&place.0)
            .arg("--agent")
            .arg(agent)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|cause| failed("setpriv", cause))?;
        let mut world = Self {
            asks: child.stdin.take(),
            answers: program::lines(child.stdout.take()),
            child,
            place,
            groups: Groups::named(&name)?,
            frozen: None,
        };
        match world.answer()? {
            Answer::Ready => {}
            Answer::Failed(why) => return Err(why),
            other => return Err(format!("an answer to nothing: {other:?}")),
        }
        if scene::has_volumes(scene) {
            world.frozen = Some(world.hold_frozen()?);
        }
        Ok(world)
    }

    pub fn ask(&mut self, ask: &Ask) -> Result<Answer, String> {
        let line = serde_json::to_string(ask).map_err(|cause| cause.to_string())?;
        let asks = self.asks.as_mut().ok_or("the world is gone")?;
        writeln!(asks, "{line}").map_err(|cause| format!("the world is gone: {cause}"))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer, String> {
        let line = self
            .answers
            .recv_timeout(PATIENCE)
            .map_err(|why| match why {
                mpsc::RecvTimeoutError::Timeout => "the world does not answer".to_owned(),
                mpsc::RecvTimeoutError::Disconnected => "the world died".to_owned(),
            })?;
        serde_json::from_str(&line).map_err(|cause| format!("{cause}: {line}"))
    }

    /// Through the first process inside, which is the only child of what was started.
    fn hold_frozen(&self) -> Result<File, String> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.map_err(|cause| cause.to_string())?;
        let inside = children
            .split_whitespace()
            .next()
            .ok_or("nobody is inside")?;
        let root = PathBuf::from(format!("/proc/{inside}/root"));
        let path = self.place.frozen();
        let path = root.join(path.strip_prefix("/").unwrap_or(&path));
        File::open(&path).map_err(|cause| format!("{}: {cause}", path.display()))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        use std::os::fd::AsRawFd;
        drop(self.asks.take());
        // With the first process inside go all others, once nothing holds them.
        let _ = self.child.kill();
        if let Some(frozen) = &self.frozen {
            let path = format!("/proc/{}/fd/{}", std::process::id(), frozen.as_raw_fd());
            let mut thaw = Command::new("fsfreeze");
            thaw.args(["--unfreeze", &path]).stderr(Stdio::null());
            let _ = thaw.status(); // fails if it is not frozen
        }
        self.groups.thaw();
        let _ = self.child.wait();
        self.groups.remove();
        self.frozen = None;
        let _ = fs::remove_dir(&self.place.0);
    }
}

/// What runs left that were killed together with all that would have cleaned up.
pub fn sweep() {
    let dead = |pid: u32| !fs::exists(format!("/proc/{pid}")).unwrap_or(true);
    groups::sweep();
    for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let image = fs::read_to_string(device.path().join("loop/backing_file"));
        let image = PathBuf::from(image.unwrap_or_default().trim_end());
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        if groups::owner(&name).is_some_and(dead) {
            thaw_abandoned(&device.file_name().to_string_lossy());
        }
    }
    for entry in fs::read_dir(FOLDERS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if groups::owner(&name).is_some_and(dead) {
            let _ = fs::remove_dir(entry.path()); // only if it is empty
        }
    }
}

/// A freeze outlives its last mount, and keeps the loop device; it ends in a mount namespace of its own.
fn thaw_abandoned(device: &str) {
    let line = format!("mount /dev/{device} /mnt && {{ fsfreeze --unfreeze /mnt; umount /mnt; }}");
    let words = ["--mount", "--propagation", "private", "sh", "-c", &line];
    if let Err(why) = program::run("unshare", &words, "") {
        eprintln!("crash: an earlier run has left /dev/{device}, perhaps frozen: {why}");
    }
}
