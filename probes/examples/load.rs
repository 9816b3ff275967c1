//! Measures what probing costs: `cargo run --release -p probes --example load -- IP:PORT RATE`
//! probes `GET /` there on five streams for ten seconds and prints the CPU time of this process.

use std::time::Duration;

use probes::{ProbeOut, Prober};
use scenarios::fleet::{Ask, Cell, Fleet, HttpRequest, Plane, Probe};
use tokio::sync::mpsc;
use tokio::time::Instant;

const SECONDS: u64 = 10;
const CELLS: u8 = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let server: std::net::SocketAddr = arguments.next().ok_or("IP:PORT is missing")?.parse()?;
    let rate: f64 = arguments.next().ok_or("RATE is missing")?.parse()?;
    let mut fleet = Fleet {
        name: "load".to_owned(),
        operator: Vec::new(),
        tls: None,
        clouds: Default::default(),
        cells: Default::default(),
        probes: Default::default(),
        entrypoints: Default::default(),
        traffic: Default::default(),
        gauges: Default::default(),
        references: Vec::new(),
        vantages: Vec::new(),
    };
    for number in 0..CELLS {
        let cell = Cell {
            cloud: "cloud".to_owned(),
            region: "region".to_owned(),
            addresses: vec![server.ip()],
            prefixes: Vec::new(),
            nodes: Vec::new(),
            uses: Default::default(),
            kubernetes: None,
        };
        fleet.cells.insert(format!("cell-{number}"), cell);
    }
    let http = HttpRequest::get(format!("http://{{cell}}:{}/", server.port()));
    let probe = Probe {
        plane: Plane::Data,
        ask: Ask::Http(http),
        read_back: None,
        rewrites: Default::default(),
        slower_within: None,
        rate: rate / f64::from(CELLS),
        timeout: Duration::from_secs(1),
        slo: Some(Duration::from_millis(500)),
    };
    fleet.probes.insert("home".to_owned(), probe);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure(&fleet))
}

async fn measure(fleet: &Fleet) -> Result<(), Box<dyn std::error::Error>> {
    let streams = probes::streams(fleet, &[]);
    let (sender, mut out) = mpsc::channel(16);
    let mut prober = Prober::start(fleet, &streams, "load", Instant::now(), sender)?;
    let (cpu, wall) = (cpu_ms()?, Instant::now());
    let (mut scheduled, mut valid, mut bad) = (0, 0, 0);
    for _ in 0..SECONDS {
        let Some(ProbeOut::Second { blocks, .. }) = out.recv().await else {
            break;
        };
        scheduled += blocks.iter().map(|block| block.scheduled).sum::<u32>();
        valid += blocks.iter().map(|block| block.valid).sum::<u32>();
        bad += blocks.iter().map(|block| block.bad).sum::<u32>();
    }
    let (cpu, wall) = (cpu_ms()? - cpu, wall.elapsed());
    prober.stop().await;
    let share = cpu as f64 / wall.as_millis() as f64 * 100.0;
    println!("{scheduled} scheduled (controls too), {valid} valid, {bad} bad");
    println!(
        "{cpu} ms CPU in {} ms: {share:.1} % of one core",
        wall.as_millis()
    );
    Ok(())
}

/// User and system time of this process; clock ticks of proc(5) are 10 ms.
fn cpu_ms() -> Result<u64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').ok_or("unreadable /proc/self/stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    Ok((fields[11].parse::<u64>()? + fields[12].parse::<u64>()?) * 10)
}
