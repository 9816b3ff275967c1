//! A worker of a cell: containerd, kubelet and kube-proxy in namespaces that die with one process.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};

use super::worker::{SOCKET, Worker};
use crate::error::{Error, Result};

const RESTART_AFTER: Duration = Duration::from_millis(200);
/// Until containerd answers; it reads its whole store first.
const CONTAINERD_LIMIT: Duration = Duration::from_secs(30);

/// `worker`: becomes the parent of a new PID namespace and ends with it. Whoever kills this
/// process kills everything in it, shims and pods included.
pub fn run(directory: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(Error::kernel("make a worker's PID namespace"))?;
    let own = std::env::current_exe().map_err(Error::kernel("find the own binary"))?;
    let mut command = Command::new(own);
    command.arg("worker-init").arg(directory);
    crate::child::in_new_namespaces(
        &mut command,
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS,
    );
    let failed = "start the first process of a worker";
    let mut child = command.spawn().map_err(Error::kernel(failed))?;
    let status = child.wait().map_err(Error::kernel(failed))?;
    Err(Error::Worker(format!(
        "its first process ended with {status}"
    )))
}

/// `worker-init`: the first process in there.
pub fn init(directory: &Path) -> Result<()> {
    let worker = Worker::read(directory)?;
    let cgroup = crate::cgroups::name(&worker.lab);
    crate::cgroups::join(&cgroup, &worker.namespace)?;
    mounts(&worker)?;
    masquerade(&worker)?;
    let mut containerd = Part::containerd(&worker);
    containerd.start()?;
    containerd.until_listening()?;
    import_images(&worker)?;
    let mut parts = [
        containerd,
        Part::kubelet(&worker),
        Part::kube_proxy(&worker),
    ];
    parts[1].start()?;
    parts[2].start()?;
    keep(&mut parts)
}

/// Nothing of a node is written where the host or another node would see it.
fn mounts(worker: &Worker) -> Result<()> {
    let none: Option<&str> = None;
    let failed = |what: &str| Error::kernel::<nix::Error>(format!("mount {what} for a worker"));
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(failed("nothing back to the host"))?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), plain, none).map_err(failed("/proc"))?;
    for name in ["/run/containerd", "/run/netns"] {
        fs::create_dir_all(name).map_err(Error::file("make", name))?;
        mount(Some("worker"), name, Some("tmpfs"), MsFlags::empty(), none).map_err(failed(name))?;
    }
    // kubelet and CNI keep things below /var/lib whatever they are told. The lab's own directory
    // may lie below it, too, and stays.
    let kept = Path::new("/run/lab");
    fs::create_dir_all(kept).map_err(Error::file("make", kept))?;
    let bind = |from: &Path, to: &Path| {
        fs::create_dir_all(to).map_err(Error::file("make", to))?;
        mount(Some(from), to, none, MsFlags::MS_BIND, none).map_err(failed("the lab's directory"))
    };
    bind(&worker.lab, kept)?;
    mount(
        Some("worker"),
        "/var/lib",
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .map_err(failed("/var/lib"))?;
    bind(kept, &worker.lab)
}

fn masquerade(worker: &Worker) -> Result<()> {
    let output = Command::new("nft")
        .arg("-f")
        .arg(worker.file("masquerade.nft"))
        .stdin(Stdio::null())
        .output()
        .map_err(Error::kernel("run nft"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::Worker(format!(
            "nft does not take its masquerade: {}",
            String::from_utf8_lossy(&output.stderr)
        ))),
    }
}

fn import_images(worker: &Worker) -> Result<()> {
    let images = worker.images();
    for entry in fs::read_dir(&images).map_err(Error::file("list", &images))? {
        let archive = entry.map_err(Error::file("list", &images))?.path();
        let output = Command::new(worker.unpacked.join("usr/bin/ctr"))
            .args(["--address", SOCKET, "--namespace", "k8s.io"])
            .args(["images", "import", "--no-unpack"])
            .arg(&archive)
            .stdin(Stdio::null())
            .output()
            .map_err(Error::kernel("run ctr"))?;
        if !output.status.success() {
            return Err(Error::Worker(format!(
                "containerd does not take {}: {}",
                archive.display(),
                String::from_utf8_lossy(&output.stderr)
            )));
        }
    }
    Ok(())
}

/// One program of a worker.
struct Part {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    path: String,
    log: PathBuf,
    pid: Option<i32>,
}

impl Part {
    fn new(worker: &Worker, name: &'static str, program: &Path, arguments: &[String]) -> Part {
        let unpacked = worker.unpacked.display();
        Part {
            name,
            program: program.to_path_buf(),
            arguments: arguments.to_vec(),
            path: format!("{unpacked}/usr/bin:{unpacked}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin"),
            log: worker.file(&format!("{name}.log")),
            pid: None,
        }
    }

    fn containerd(worker: &Worker) -> Part {
        let config = worker.file("containerd.toml").display().to_string();
        let program = worker.unpacked.join("usr/bin/containerd");
        let arguments = ["--config".to_string(), config];
        Part::new(worker, "containerd", &program, &arguments)
    }

    fn kubelet(worker: &Worker) -> Part {
        let file = |name: &str| worker.file(name).display().to_string();
        let addresses: Vec<String> = worker.inside.iter().map(IpAddr::to_string).collect();
        let arguments = [
            format!("--config={}", file("kubelet.yaml")),
            format!("--kubeconfig={}", file("kubeconfig")),
            format!("--root-dir={}", file("kubelet")),
            format!("--cert-dir={}", file("kubelet-keys")),
            format!("--hostname-override={}", worker.namespace),
            format!("--node-ip={}", addresses.join(",")),
        ];
        Part::new(worker, "kubelet", &worker.kubelet, &arguments)
    }

    fn kube_proxy(worker: &Worker) -> Part {
        let config = format!("--config={}", worker.file("kube-proxy.yaml").display());
        Part::new(worker, "kube-proxy", &worker.kube_proxy, &[config])
    }

    fn start(&mut self) -> Result<()> {
        let opened = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log);
        let log = opened.map_err(Error::file("open", &self.log))?;
        let errors = log.try_clone().map_err(Error::file("open", &self.log))?;
        let child: Child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", &self.path)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::kernel(format!("start {}", self.program.display())))?;
        self.pid = i32::try_from(child.id()).ok();
        Ok(())
    }

    fn until_listening(&self) -> Result<()> {
        let deadline = Instant::now() + CONTAINERD_LIMIT;
        while std::os::unix::net::UnixStream::connect(SOCKET).is_err() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(Error::Worker(format!(
                    "{} does not answer: {log}",
                    self.name
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Reaps whatever ends, and starts the worker's own programs again.
fn keep(parts: &mut [Part]) -> Result<()> {
    loop {
        let ended = match waitpid(None, None) {
            Ok(status) => status,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(Error::kernel("wait for a worker's programs")(error)),
        };
        let Some(pid) = ended.pid() else { continue };
        let own = |part: &&mut Part| part.pid == Some(pid.as_raw());
        if let Some(part) = parts.iter_mut().find(own) {
            tell(part, &ended);
            std::thread::sleep(RESTART_AFTER);
            part.start()?;
        }
    }
}

fn tell(part: &Part, status: &WaitStatus) {
    // Standard error is the log of the worker; nobody to read it is no reason to end.
    let _ = writeln!(std::io::stderr(), "{} ended: {status:?}", part.name);
}
