//! What questions cost an API server and its etcd: `cargo bench -p probes --bench kubernetes` as root.

#[path = "../tests/cluster/mod.rs"]
mod cluster;
#[path = "../tests/fleet/mod.rs"]
mod fleet;
#[path = "../tests/seen/mod.rs"]
mod seen;

use std::time::Duration;

use cluster::Cluster;
use seen::{QUESTIONS, Seen, fleet_of};

const ROUNDS: usize = 5;
/// Length of one measurement.
const SECONDS: u32 = 10;
/// Questions per second.
const RATE: f64 = 40.0;

fn main() {
    cluster::in_a_network_of_its_own(async {
        let cluster = Cluster::start().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut idle = Vec::new();
        let mut costs = [const { Vec::new() }; QUESTIONS.len()];
        for _ in 0..ROUNDS {
            let before = cluster.cpu();
            tokio::time::sleep(Duration::from_secs(SECONDS.into())).await;
            let rest = cluster.cpu() - before;
            idle.push(rest);
            for (index, costs) in costs.iter_mut().enumerate() {
                let cost = asked(&cluster, index).await - rest;
                costs.push(cost / (RATE * f64::from(SECONDS)) * 1000.0);
            }
        }
        println!("idle: median {:.2} CPU-s in {SECONDS} s", median(&mut idle));
        for ((probe, _), costs) in QUESTIONS.iter().zip(&mut costs) {
            println!(
                "{probe}: median {:.2} CPU-s per 1000 questions",
                median(costs)
            );
        }
    });
}

/// CPU seconds of the servers while one question is asked for `SECONDS`.
async fn asked(cluster: &Cluster, question: usize) -> f64 {
    let mut seen = Seen::start(&fleet_of(cluster, "here", RATE, &[question]));
    seen.second().await;
    let before = cluster.cpu();
    for _ in 0..SECONDS {
        seen.second().await;
        assert!(seen.samples.is_empty(), "{:?}", seen.samples);
    }
    let cost = cluster.cpu() - before;
    seen.prober.stop().await;
    cost
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
