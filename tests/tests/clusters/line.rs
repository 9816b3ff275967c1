//! One lab without flaws and one drill in it; every test looks at what was seen of that drill.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use proof::drill::{Drill, WHOLE_CLUSTERS, start};
use proof::lab::Lab;
use proof::seen;
use proof::traffic::until;
use scenarios::verdict::{Class, Window};

const WORKER: &str = "n1.gd-aliyun";
/// The two references, which are in no cloud.
const OUTSIDE: [&str; 2] = ["203.0.113.20:80", "[2001:db8:ffff::20]:80"];
/// The front of the first cell.
const FRONT: [&str; 2] = ["198.51.100.11:80", "[2001:db8:1::11]:80"];

/// What was seen before, during and after the cut.
pub struct Seen {
    pub drill: Drill,
    /// kube-proxy's tables and the names of all tables on the target's worker.
    pub tables: [Tables; 3],
    paths: [Paths; 3],
    /// Connections of before that still answer during the cut, and those that do after it.
    established: [Vec<String>; 2],
}

pub struct Tables {
    pub kube_proxy: String,
    pub names: String,
}

/// Which connections open, in words.
type Paths = Vec<String>;

static LAB: Mutex<Option<Lab>> = Mutex::new(None);
static SEEN: OnceLock<Seen> = OnceLock::new();

/// Takes the lab down after the last test.
pub fn end() {
    // Also when a test panicked with it: it would stay up for ever.
    let mut lab = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    drop(lab.take());
}

pub fn seen() -> &'static Seen {
    SEEN.get_or_init(|| {
        let mut lab = LAB.lock().expect("no test panics while it holds the lab");
        let lab = lab.insert(Lab::clusters("clusters", &[]));
        seen::attempts(|| look(lab))
    })
}

impl AsRef<Drill> for Seen {
    fn as_ref(&self) -> &Drill {
        &self.drill
    }
}

fn look(lab: &Lab) -> Seen {
    let mut kept = Kept::open(lab);
    let before = (tables(lab), paths(lab));
    assert_eq!(
        before.1.len(),
        8,
        "all paths are open before: {:?}",
        before.1
    );
    assert_eq!(kept.answering().len(), 2);
    let running = start(lab, "black-hole-cloud", &WHOLE_CLUSTERS);
    running.until_fired();
    let during = (tables(lab), paths(lab));
    let silent = kept.answering();
    let drill = running.finish();
    let mut after = paths(lab);
    until("all paths are back", Duration::from_secs(30), || {
        after = paths(lab);
        after.len() == before.1.len()
    });
    Seen {
        drill,
        tables: [before.0, during.0, tables(lab)],
        paths: [before.1, during.1, after],
        established: [silent, kept.answering()],
    }
}

fn tables(lab: &Lab) -> Tables {
    let nft = |arguments: &[&str]| {
        let output = lab.exec(WORKER, &[&["nft"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let both = ["ip", "ip6"].map(|family| nft(&["list", "table", family, "kube-proxy"]));
    Tables {
        kube_proxy: both.concat(),
        names: nft(&["list", "tables"]),
    }
}

/// From users to the front, from a pod, from the worker and from the control plane outward.
fn paths(lab: &Lab) -> Paths {
    let mut open = Vec::new();
    let to = |addresses: [&'static str; 2]| move || addresses.map(opens);
    let looks = [
        ("users", FRONT, lab.within("users", to(FRONT))),
        (
            "pod",
            OUTSIDE,
            lab.within_pod(WORKER, "--listen=[::]:8080", to(OUTSIDE)),
        ),
        ("worker", OUTSIDE, lab.within(WORKER, to(OUTSIDE))),
        (
            "control plane",
            OUTSIDE,
            lab.within("cp.gd-aliyun", to(OUTSIDE)),
        ),
    ];
    for (from, addresses, opened) in looks {
        let named = addresses.iter().zip(opened).filter(|(_, open)| *open);
        open.extend(named.map(|(address, _)| format!("{from} -> {address}")));
    }
    open
}

fn opens(address: &str) -> bool {
    let address: SocketAddr = address.parse().expect("an address");
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// Connections of users to the front that are kept over the whole drill.
struct Kept(Vec<(String, TcpStream)>);

impl Kept {
    fn open(lab: &Lab) -> Kept {
        let connect = || {
            FRONT.map(|address| {
                let stream = TcpStream::connect(address).expect("the front listens");
                let limit = Some(Duration::from_secs(1));
                stream.set_read_timeout(limit).expect("a limit above zero");
                (address.to_string(), stream)
            })
        };
        Kept(lab.within("users", connect).into())
    }

    fn answering(&mut self) -> Vec<String> {
        let answers = |stream: &mut TcpStream| {
            let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
            let mut answer = [0; 1024];
            asked.is_ok() && stream.read(&mut answer).is_ok_and(|length| length > 0)
        };
        let all = self.0.iter_mut();
        let answering = all.filter_map(|(address, s)| answers(s).then(|| address.clone()));
        answering.collect()
    }
}

/// Forwarded to pods through a service, from pods, from hosts; new and established.
pub fn cut_paths() {
    let seen = seen();
    let [before, during, after] = &seen.paths;
    assert!(during.is_empty(), "still open: {during:?}");
    assert_eq!(before, after);
    let [silent, back] = &seen.established;
    assert!(silent.is_empty(), "still answering: {silent:?}");
    // TCP repeats what was lost, so a connection that nobody closed is as good as before.
    assert_eq!(back.len(), 2, "{back:?}");
}

pub fn both_planes() {
    let drill = &seen().drill;
    drill.assert_exit(0);
    let row = |stream: &str, window: Window| {
        let rows = drill.rows(stream);
        let row = rows.iter().find(|row| row.window == window).copied();
        row.unwrap_or_else(|| panic!("{stream} has no row for {window:?}"))
    };
    for probe in ["checkout", "home", "api-ready", "api-list", "api-watch"] {
        let target = row(&format!("gd-aliyun/{probe}"), Window::Fault);
        // The scenario names the checkout; of the control plane every stream counts.
        let wanted = match probe {
            "home" => Class::Reported,
            _ => Class::Effective,
        };
        assert!(target.class == wanted && target.l > 0.9, "{target:?}");
        for cell in ["gd-tencent", "gd-aws"] {
            for window in [Window::Fault, Window::After] {
                let other = row(&format!("{cell}/{probe}"), window);
                assert!(
                    other.class == Class::Isolated && other.u < 0.02,
                    "{other:?}"
                );
            }
        }
    }
    for ledger in drill.ledgers() {
        let wrong = (ledger.lost, ledger.duplicated, ledger.unread);
        assert_eq!(wrong, (0, 0, 0), "{ledger:?}");
    }
    let residue = drill.residue();
    assert_eq!(residue.len(), 6, "every agent was scanned");
    assert!(
        residue.iter().all(|r| r.verified && r.left.is_empty()),
        "{residue:?}"
    );
}
