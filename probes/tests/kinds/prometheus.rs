//! Prometheus: a real server that scrapes itself; values, no data, errors, and a server that is gone.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Cases, dead_port, wait_for};

struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    PathBuf::from("/usr/bin/prometheus")
}

fn server() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let port = dead_port();
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "scrape_configs: [{{ job_name: self, scrape_interval: 1s, static_configs: [{{ targets: \
         ['127.0.0.1:{port}'], labels: {{ cell: a }} }}] }}]\n"
    );
    std::fs::write(&config, text).unwrap();
    // The kernel kills it should this test die without a word.
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program())
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("setpriv and prometheus (make setup)");
    wait_for(([127, 0, 0, 1], port).into());
    Server {
        child,
        port,
        _folder: folder,
    }
}

#[tokio::test]
#[ignore = "needs Debian's prometheus (make setup)"]
async fn a_value_is_compared_and_no_data_is_bad() {
    let mut cases = Cases::default();
    let mut server = server();
    let port = server.port;
    let ask = |query: &str, expect: &str| {
        format!(
            "prometheus: {{ url: \"http://{{cell}}:{port}\", query: '{query}', expect: \"{expect}\" }}"
        )
    };
    // Until the first scrape there is no data, which is bad.
    let up = ask("up{cell=\"{cell.name}\"}", "== 1");
    let mut told = crate::ask(&crate::fleet_of(&up)).await;
    for _ in 0..30 {
        if told.bad == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        told = crate::ask(&crate::fleet_of(&up)).await;
    }
    assert_eq!(told.bad, 0, "{:?}", told.words);
    cases.good(&ask("vector(0.5)", "< 1"));
    cases.good(&ask("scalar(vector(3))", "> 2"));
    cases.bad(&ask("up", "> 1"), "1 is not > 1");
    cases.bad(&ask("up{cell=\"b\"}", "== 1"), "no data (wanted: == 1)");
    cases.bad(&ask("vector(0) / 0", "< 1"), "NaN is not < 1");
    cases.bad(&ask("up[1m]", "== 1"), "gives matrix");
    cases.bad(&ask("up{", "== 1"), "parse error");
    cases.hold().await;
    let mut cases = Cases::default();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    cases.bad(&up, "refused");
    cases.hold().await;
}

#[tokio::test]
async fn another_server_is_no_prometheus() {
    let mut cases = Cases::default();
    let web = crate::fleet::serve("127.0.0.1:0", crate::fleet::always_ok());
    let port = web.address.port();
    let probe =
        format!("prometheus: {{ url: \"http://{{cell}}:{port}\", query: up, expect: \"> 0\" }}");
    cases.bad(&probe, "no answer of Prometheus");
    cases.hold().await;
}
