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
use scenarios::history::Record;
use scenarios::verdict::{Class, Window};

const CELLS: [&str; 3] = ["gd-aliyun", "gd-tencent", "gd-aws"];
/// Where the operator stands; Prometheus listens there on the host's own loopback.
const OPERATOR: &str = "operator";
const SERVER: &str = "127.0.0.1:9090";

/// 24 s are twelve blocks of the shops' counters, and enough for 5 %.
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
      every: 2s
      rate: 15/s
      coverage: 95%
    scraped:
      plane: data
      prometheus: {{ url: "http://{SERVER}", cellLabel: cell }}
      total: shop_requests_total
      bad: 'shop_requests_total{{outcome=~"b.d"}}'
      every: 2s
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

#[test]
#[ignore = "needs root: a lab in network namespaces, and Prometheus in it"]
fn real_traffic_is_judged_beside_the_probes() {
    let lab = Lab::up("traffic", &[]);
    let mut prometheus = Prometheus::start(&lab);
    let plain = judge_traffic(&lab, "checkout: /checkout, orders: /orders");
    // The probes are all that asks here: 60/s of the judged routes and more in each cell.
    let load = "  load: { traffic: requests, peak: 30/s }\n  hypothesis:";
    let text = library("black-hole-cloud").replace("  hypothesis:", load);
    let whole = run_text(&lab, &text, &TRAFFIC);
    whole.assert_exit(0);
    whole.assert_reason(&[
        "capacity of the other cells: tested by the requests that requests counts",
        "45.5/s needed",
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
    whole.assert_reason(&["real requests of the other cells counted"]);
    assert!(whole.text.contains("before: p50"), "{}", whole.text);

    // Nobody looks at the orders: the drill is not begun.
    std::fs::write(&lab.status.fleet_file, &plain).expect("root may write it");
    judge_traffic(&lab, "checkout: /checkout");
    let narrow = run(&lab, "black-hole-cloud", &TRAFFIC);
    narrow.assert_exit(3);
    narrow.assert_reason(&["coverage", "judge the other strata as well"]);
    let fired =
        |r: &Record| matches!(r, Record::Phase(m) if m.phase == scenarios::history::Phase::Fire);
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
