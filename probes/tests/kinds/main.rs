//! Every kind of probe against a real server: what it must call good, and what it must call bad.

#[path = "../fleet/mod.rs"]
mod fleet;

mod authority;
mod dns;
mod grpc;
mod http;
mod journey;
mod prometheus;
mod tcp;
mod tls;

use std::time::Duration;

use scenarios::fleet::Fleet;

/// A fleet with the cell `a` on 127.0.0.1 and the probe `p`, as a file would have it.
pub fn fleet_of(probe: &str) -> Fleet {
    fleet_with(&[("p".to_owned(), probe)])
}

/// The reader takes no loopback for a cell's address, so it is put in behind it.
fn fleet_with(probes: &[(String, &str)]) -> Fleet {
    let named = |(name, probe): &(String, &str)| {
        format!("{name}: {{ plane: data, rate: 5/s, timeout: 2s, {probe} }}")
    };
    let probes: Vec<String> = probes.iter().map(named).collect();
    let text = format!(
        "{{ apiVersion: cellwall.dev/v1, kind: Fleet, metadata: {{ name: f }}, spec: {{ operator: {{ \
         addresses: [203.0.113.10] }}, clouds: {{ c: {{ prefixes: [198.51.100.0/24] }} }}, cells: {{ a: \
         {{ cloud: c, region: r, addresses: [198.51.100.2], prefixes: [10.1.0.0/16], nodes: [{{ name: \
         n1, address: 198.51.100.5 }}], uses: {{ db: {{ address: 198.51.100.9, port: 1 }} }} }} }}, \
         probes: {{ {} }} }} }}",
        probes.join(", ")
    );
    let read = scenarios::read_fleet(&text, "f.yaml");
    let mut fleet = read.unwrap_or_else(|error| panic!("{error}"));
    fleet.cells.get_mut("a").unwrap().addresses = vec!["127.0.0.1".parse().unwrap()];
    fleet
}

/// What was seen of one probe within a second: how many were valid, how many bad, in what words.
pub struct Told {
    pub valid: u32,
    pub bad: u32,
    pub words: Vec<String>,
}

/// Of the probe `p`.
pub async fn ask(fleet: &Fleet) -> Told {
    told(&seen(fleet).await, "p")
}

/// One second in which each probe was asked: on a busy machine the prober may spoil one, or five.
async fn seen(fleet: &Fleet) -> fleet::Seen {
    for _ in 0..10 {
        let (seen, _) = fleet::probe(fleet, 1).await;
        let asked = |probe: &String| told(&seen, probe).valid > 0;
        if fleet.probes.keys().all(asked) {
            return seen;
        }
    }
    panic!("the prober came to ask nothing");
}

fn told(seen: &fleet::Seen, probe: &str) -> Told {
    let stream = format!("a/{probe}");
    let samples = seen.samples.iter().filter(|sample| sample.stream == stream);
    Told {
        valid: seen.sum(&stream, |block| block.valid),
        bad: seen.sum(&stream, |block| block.bad),
        words: samples.map(|sample| sample.what.clone()).collect(),
    }
}

/// Probes, and what they must come to, all asked by one prober.
#[derive(Default)]
pub struct Cases(Vec<(String, Option<String>)>);

impl Cases {
    pub fn good(&mut self, probe: &str) {
        self.0.push((probe.to_owned(), None));
    }

    /// All of them bad, each told in these words.
    pub fn bad(&mut self, probe: &str, words: &str) {
        self.0.push((probe.to_owned(), Some(words.to_owned())));
    }

    pub async fn hold(self) {
        let names = (0..).map(|index| format!("p{index}"));
        let named: Vec<(String, &str)> = names
            .zip(self.0.iter().map(|(probe, _)| probe.as_str()))
            .collect();
        let seen = seen(&fleet_with(&named)).await;
        for ((name, probe), (_, words)) in named.iter().zip(&self.0) {
            let told = told(&seen, name);
            let Some(words) = words else {
                assert_eq!(told.bad, 0, "{probe}: {:?}", told.words);
                continue;
            };
            assert_eq!(told.bad, told.valid, "{probe}");
            assert!(!told.words.is_empty(), "{probe}: no sample");
            let said = told.words.iter().all(|what| what.contains(words));
            assert!(said, "{probe}: not `{words}` but {:?}", told.words);
        }
    }
}

/// Limits of the probe `p` in milliseconds. What the prober itself lost is taken off before a probe is
/// called late, so the slo stands well below the timeout.
pub fn give_up_after(fleet: &mut Fleet, slo: u64, timeout: u64) {
    let probe = fleet.probes.get_mut("p").unwrap();
    probe.timeout = Duration::from_millis(timeout);
    probe.slo = Some(Duration::from_millis(slo));
}

/// Runs a server on a thread and a runtime of its own, until the test binary ends.
pub fn on_a_thread(serve: impl Future<Output = ()> + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(serve);
    });
}

/// A listener on 127.0.0.1, and its port.
pub fn listener() -> (std::net::TcpListener, u16) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port on which nobody listens.
pub fn dead_port() -> u16 {
    listener().1
}

/// Asks a server until it answers; for programs that take a while to start.
pub fn wait_for(address: std::net::SocketAddr) {
    for _ in 0..600 {
        if std::net::TcpStream::connect(address).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("nobody listens on {address}");
}
