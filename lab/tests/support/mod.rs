//! What the tests of a whole lab share: finding programs, an inventory of the host, cleaning up.
#![allow(dead_code)] // Every test file uses a part of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// Where `cellwall-lab`, `shop` and `cellwall-agent` are.
pub fn programs() -> PathBuf {
    let directory = match std::env::var_os("CELLWALL_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        // target/debug/deps/TEST -> target/debug
        None => std::env::current_exe()
            .unwrap()
            .parent()
            .unwrap()
            .parent()
            .unwrap()
            .into(),
    };
    for program in ["cellwall-lab", "shop", "cellwall-agent"] {
        let path = directory.join(program);
        assert!(
            path.is_file(),
            "{} is missing: run `cargo build --workspace`",
            path.display()
        );
    }
    directory
}

/// A root for labs of this test alone, on a real disk. Whatever is up in it ends with the test,
/// also when the test fails.
pub struct TestRoot {
    pub path: PathBuf,
}

impl TestRoot {
    pub fn new(test: &str) -> TestRoot {
        let name = format!("cellwall-lab-test-{test}-{}", std::process::id());
        let path = Path::new("/var/lib").join(name);
        fs::create_dir_all(&path).unwrap();
        TestRoot { path }
    }

    /// Labs of these tests are plain where nothing else is asked for.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs().join("cellwall-lab"));
        command
            .arg("--root")
            .arg(&self.path)
            .args(arguments)
            .stdin(Stdio::null());
        if arguments.first() == Some(&"up") && !arguments.contains(&"--kind") {
            command.args(["--kind", "plain"]);
        }
        command
    }

    /// Runs to the end; the caller looks at the exit code.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs to the end and must succeed. Returns what was printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments:?} failed: {} {errors}",
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn up(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["up", "--json", "-"];
        all.extend(arguments);
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    pub fn labs(&self) -> Vec<serde_json::Value> {
        let text = self.ok(&["status", "--json", "-"]);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        report["labs"].as_array().unwrap().clone()
    }

    /// `lab.json` of a lab, if it is there and whole.
    pub fn record(&self, name: &str) -> Option<serde_json::Value> {
        let text = fs::read(self.path.join(name).join("lab.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Shell on a host of the lab; true if it succeeded.
    pub fn on(&self, node: &str, script: &str) -> bool {
        self.run(&["exec", node, "--", "sh", "-c", script])
            .status
            .success()
    }

    /// One HTTP request from the users of the lab `default`: status and body, if any came.
    pub fn request(&self, to: &str, request: &str) -> Option<(u16, String)> {
        let to: SocketAddr = to.parse().unwrap();
        let request = request.to_string();
        self.within("default", "users", move || talk(to, &request).ok())
    }

    /// Tries to connect from a host of a lab, on a thread that stands in its namespace.
    pub fn connect(&self, lab: &str, from: &str, to: SocketAddr) -> Met {
        self.within(lab, from, move || connect(to))
    }

    fn within<T: Send + 'static>(
        &self,
        lab: &str,
        host: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let record = self.record(lab).unwrap();
        let holder = pid(&record["holder"]["pid"]);
        let path = format!("/proc/{holder}/root/run/netns/{host}");
        let namespace = fs::File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let thread = std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    }
}

/// `request` is the first line, and after an empty line the body.
fn talk(to: SocketAddr, request: &str) -> std::io::Result<(u16, String)> {
    let (line, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let length = body.len();
    let head = "Host: shop\r\nConnection: close\r\nContent-Type: application/json";
    write!(
        stream,
        "{line} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let status = status.ok_or_else(|| std::io::Error::other(answer.clone()))?;
    Ok((status, body.to_string()))
}

/// What came of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Somebody listens.
    Listener,
    /// The host answered that nobody listens on the port.
    Host,
    Nothing,
}

/// From where the calling thread stands.
fn connect(to: SocketAddr) -> Met {
    match TcpStream::connect_timeout(&to, Duration::from_millis(700)) {
        Ok(_) => Met::Listener,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Met::Host,
        Err(_) => Met::Nothing,
    }
}

impl Drop for TestRoot {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let _ = self.command(&["down", "--name", &name]).output();
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

pub fn pid(value: &serde_json::Value) -> i32 {
    value
        .as_i64()
        .unwrap_or_else(|| panic!("{value} is no pid")) as i32
}

pub fn kill(pid: i32) {
    let target = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(target, rustix::process::Signal::KILL).unwrap();
}

/// A process that ends with the test, also when the test fails.
pub struct Guest(pub Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for something, and says so when it does not come.
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a lab could leave behind on the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Processes whose command line names the root of the test.
    processes: BTreeSet<String>,
    /// Of this process: mounts that a lab leaked would be here.
    mounts: BTreeSet<String>,
    /// Interfaces of the host's own network namespace.
    interfaces: BTreeSet<String>,
    /// `ip netns`.
    named_namespaces: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    directory: BTreeSet<PathBuf>,
    /// Routes and addresses of the host.
    network: String,
    /// What stands in the host's root folder and in the caller's home.
    folders: BTreeSet<String>,
}

impl Inventory {
    pub fn take(root: &Path) -> Inventory {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let tables = [
            "/proc/net/route",
            "/proc/net/ipv6_route",
            "/proc/net/if_inet6",
        ];
        Inventory {
            processes: processes_of(root),
            mounts: mounts.lines().map(str::to_string).collect(),
            interfaces: names("/sys/class/net"),
            named_namespaces: names("/run/netns"),
            cgroups: cgroups(),
            directory: fs::read_dir(root)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect(),
            network: tables.iter().map(|table| stable(table)).collect(),
            folders: &names("/") | &names(&std::env::var("HOME").unwrap_or_default()),
        }
    }
}

/// Network namespaces that any process stands in. They come and go with other work on the host,
/// so a test looks for the ones of its lab and not for equality.
pub fn network_namespaces() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(link) = fs::read_link(entry.path().join("ns/net")) {
            all.insert(link.to_string_lossy().into_owned());
        }
    }
    all
}

/// Those of one lab, by what its processes stand in; never the host's.
pub fn namespaces_of(root: &Path) -> BTreeSet<String> {
    let own = fs::read_link("/proc/self/ns/net")
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let pids = processes_of(root);
    let links = pids.iter().filter_map(|line| {
        let pid = line.split_whitespace().next()?;
        Some(
            fs::read_link(format!("/proc/{pid}/ns/net"))
                .ok()?
                .to_string_lossy()
                .into_owned(),
        )
    });
    links.filter(|link| *link != own).collect()
}

/// `PID COMMAND LINE` of every process of a lab under this root: all of them name it, or a file
/// under it, in their arguments; the shop's parts that name no file are children of those and
/// keep their log there open. Pods and what holds them are known by their control group.
fn processes_of(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let group = group_of(&root.join("default"));
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let logs = fs::read_link(path.join("fd/2")).is_ok_and(|log| log.starts_with(root));
        let groups = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        let ours = logs || groups.contains(&group) || command.contains(&*root.to_string_lossy());
        if ours && pid != own_pid() {
            found.insert(format!("{pid} {command}"));
        }
    }
    found
}

/// The control group of a lab in this directory.
pub fn group_of(lab: &Path) -> String {
    let digest = Sha256::digest(lab.as_os_str().as_encoded_bytes());
    let short: String = digest[..4].iter().map(|b| format!("{b:02x}")).collect();
    let name = lab.file_name().unwrap().to_string_lossy();
    format!("/cellwall-lab-{name}-{short}/")
}

fn own_pid() -> i32 {
    std::process::id() as i32
}

fn names(directory: &str) -> BTreeSet<String> {
    let listing = fs::read_dir(directory).into_iter().flatten().flatten();
    listing
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Every line without the counters that change by themselves.
fn stable(table: &str) -> String {
    let text = fs::read_to_string(table).unwrap_or_default();
    let short = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.len() {
            // ipv6_route: metric, reference and use counts are fields 6 to 8.
            10 => [&fields[..5], &fields[9..]].concat().join(" "),
            // route: likewise, fields 5 and 6.
            11 => [&fields[..4], &fields[7..]].concat().join(" "),
            _ => fields.join(" "),
        }
    };
    text.lines().map(|line| short(line) + "\n").collect()
}

fn cgroups() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            // Not through links: v1 has `cpu` beside `cpu,cpuacct`.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
                found.insert(entry.path());
            }
        }
    }
    found
}
