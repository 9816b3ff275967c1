//! Real traffic on a real lab: counters of the shops themselves, and what a real Prometheus scraped.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proof::binary;
use proof::drill::{Size, library, size, start_text};
use proof::lab::Lab;
use proof::seen::{run, run_text};
use proof::traffic::until;
use scenarios::history::{Phase, Record};
use scenarios::verdict::{Class, Window};

const CELLS: [&str; 3] = ["gd-aliyun", "gd-tencent", "gd-aws"];
/// Where the operator stands; Prometheus listens there on the host's own loopback.
const OPERATOR: &str = "operator";
/// Where users stand.
const USERS: &str = "users";
const SERVER: &str = "127.0.0.1:9090";

/// 24 s are 24 blocks of the shops' counters, of which one may be unread, and enough for 5 %.
const TRAFFIC: Size = size("24s", "30/s", "5%");

fn traffic(judged: &str) -> String {
    format!(
        r#"  traffic:
    requests:
      plane: data
      metrics: "http://{{cell}}/metrics"
      total: shop_requests_total
      bad: 'shop_requests_total{{outcome="bad"}}'
      strata: {{ label: route, judged: {{ {judged} }}, probed: {{ home: / }} }}
      every: 1s
      rate: 15/s
      coverage: 95%
    scraped:
      plane: data
      prometheus: {{ url: "http://{SERVER}", cellLabel: cell }}
      total: shop_requests_total
      bad: 'shop_requests_total{{outcome=~"b.d"}}'
      every: 1s
      rate: 60/s
"#
    )
}

/// A Prometheus of the lab, which ends with the test.
struct Prometheus {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let fleet = std::fs::read_to_string(&lab.status.fleet_file).expect("the fleet");
        let fleet = scenarios::read_fleet(&fleet, "the lab's fleet").expect("a good fleet");
        let mut config = String::from(
            "global: { scrape_interval: 500ms, scrape_timeout: 400ms }\nscrape_configs:\n  - job_name: shop\n    static_configs:\n",
        );
        for (cell, described) in &fleet.cells {
            let address = described.addresses[0];
            config.push_str(&format!(
                "      - {{ targets: [\"{address}:80\"], labels: {{ cell: {cell} }} }}\n"
            ));
        }
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("a configuration");
        let child = Command::new(binary("cellwall-lab"))
            .args(["exec", "--lab", &lab.name, OPERATOR, "--", "prometheus"])
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={SERVER}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's package prometheus is installed by `make setup`");
        let prometheus = Self {
            child,
            _folder: folder,
        };
        until("Prometheus", Duration::from_secs(60), || {
            lab.within(OPERATOR, || has_series(CELLS.len()))
        });
        prometheus
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Users of all cells, 70 checkouts a second each; whoever gets no answer goes to the next cell. They end with
/// the test.
struct Users(Child);

impl Users {
    fn come(lab: &Lab) -> Self {
        let fleet = std::fs::read_to_string(&lab.status.fleet_file).expect("the fleet");
        let fleet = scenarios::read_fleet(&fleet, "the lab's fleet").expect("a good fleet");
        let cells = fleet.cells.values();
        let doors = cells.map(|cell| format!("--cell={}:80", cell.addresses[0]));
        let child = Command::new(binary("cellwall-lab"))
            .args(["exec", "--lab", &lab.name, USERS, "--"])
            .arg(binary("shop"))
            .args(["crowd", "--rate", "210", "--attempts", "2"])
            .args(doors)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the shop's program is built");
        Self(child)
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether Prometheus has scraped so many shops.
fn has_series(cells: usize) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(SERVER)?;
        let query = "GET /api/v1/query?query=count(up%3D%3D1) HTTP/1.0\r\nHost: x\r\n\r\n";
        stream.write_all(query.as_bytes())?;
        std::io::read_to_string(stream)
    };
    ask().is_ok_and(|answer| answer.contains(&format!("\"{cells}\"")))
}

fn judge_traffic(lab: &Lab, judged: &str) -> String {
    let file = &lab.status.fleet_file;
    let text = std::fs::read_to_string(file).expect("the fleet");
    std::fs::write(file, format!("{text}{}", traffic(judged))).expect("root may write it");
    text
}

fn fired(record: &Record) -> bool {
    matches!(record, Record::Phase(mark) if mark.phase == Phase::Fire)
}

#[test]
#[ignore = "needs root: a lab in network namespaces, and Prometheus in it"]
fn real_traffic_is_judged_beside_the_probes() {
    let lab = Lab::up("traffic", &[]);
    let mut prometheus = Prometheus::start(&lab);
    let plain = judge_traffic(&lab, "checkout: /checkout, orders: /orders");
    // Of the 130 requests of the judged routes in a second and cell more than 100 may be cellwall's own: probes of
    // other routes are taken away as well.
    let load = "  load: { traffic: requests, peak: 5/s }\n  hypothesis:";
    let text = library("black-hole-cloud").replace("  hypothesis:", load);

    // The probes are all that asks, more than 60/s in each cell: of users nothing is known.
    let alone = run_text(&lab, &text, &TRAFFIC);
    alone.assert_exit(3);
    alone.assert_reason(&["requests of requests", "cellwall may have sent them all"]);
    assert!(!alone.records.iter().any(fired));

    let _users = Users::come(&lab);
    let whole = run_text(&lab, &text, &TRAFFIC);
    whole.assert_exit(0);
    whole.assert_reason(&[
        "capacity of the other cells: tested by users' requests that requests counts",
        "7.6/s needed",
    ]);
    for stream in [
        "gd-tencent/requests.checkout",
        "gd-tencent/requests.orders",
        "gd-aws/requests.checkout",
        "gd-tencent/scraped",
        "gd-aws/scraped",
    ] {
        for window in [Window::Fault, Window::After] {
            let rows = whole.rows(stream);
            let row = rows.iter().find(|row| row.window == window);
            let row = row.unwrap_or_else(|| panic!("{stream} has no row for {window:?}"));
            assert_eq!(row.class, Class::Isolated, "{row:?}");
            assert!(row.total > 400, "the probes alone are that many: {row:?}");
        }
    }
    whole.assert_reason(&["users' requests of the other cells counted"]);
    assert!(whole.text.contains("before: p50"), "{}", whole.text);

    // Nobody looks at the orders: the drill is not begun.
    std::fs::write(&lab.status.fleet_file, &plain).expect("root may write it");
    judge_traffic(&lab, "checkout: /checkout");
    let narrow = run(&lab, "black-hole-cloud", &TRAFFIC);
    narrow.assert_exit(3);
    narrow.assert_reason(&["coverage", "judge the other strata as well"]);
    assert!(!narrow.records.iter().any(fired));

    // Prometheus dies while the fault lasts: its streams are blind, and that ends the fault.
    std::fs::write(&lab.status.fleet_file, &plain).expect("root may write it");
    judge_traffic(&lab, "checkout: /checkout, orders: /orders");
    let running = start_text(&lab, library("black-hole-cloud"), &TRAFFIC, Stdio::piped());
    running.until_fired();
    prometheus.kill();
    let blind = running.finish();
    blind.assert_exit(2);
    blind.assert_reason(&["scraped was blind"]);
}
