//! The three questions to a real API server with a real etcd: healthy, stopped, killed, and back.

mod cluster;
mod fleet;

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::Cluster;
use probes::{ProbeOut, Prober};
use scenarios::fleet::{Ask, Fleet, KubernetesAccess, KubernetesQuestion, Plane, Probe};
use scenarios::history::{BadSample, Block};
use tokio::sync::mpsc;
use tokio::time::Instant;

const QUESTIONS: [(&str, KubernetesQuestion); 3] = [
    ("api-list", KubernetesQuestion::List),
    ("api-ready", KubernetesQuestion::Ready),
    ("api-watch", KubernetesQuestion::Watch),
];

fn fleet_of(cluster: &Cluster, context: &str, rate: f64, asked: &[usize]) -> Fleet {
    let mut fleet = fleet::fleet();
    fleet::add_cell(&mut fleet, "a", "10.99.0.1");
    fleet.cells.get_mut("a").unwrap().kubernetes = Some(KubernetesAccess {
        kubeconfig: cluster.kubeconfig(),
        context: context.to_owned(),
    });
    for &index in asked {
        let (name, question) = QUESTIONS[index];
        let probe = Probe {
            plane: Plane::Control,
            ask: Ask::Kubernetes(question),
            read_back: None,
            rate,
            timeout: Duration::from_secs(1),
            slo: Some(Duration::from_millis(500)),
        };
        fleet.probes.insert(name.to_owned(), probe);
    }
    fleet
}

/// A prober of one fleet and what it has seen.
struct Seen {
    prober: Prober,
    out: mpsc::Receiver<ProbeOut>,
    samples: Vec<BadSample>,
    last: BTreeMap<String, Block>,
}

impl Seen {
    fn start(fleet: &Fleet) -> Self {
        let streams = probes::streams(fleet, &[]);
        let (sender, out) = mpsc::channel(64);
        let origin = Instant::now() + Duration::from_millis(20);
        let prober = Prober::start(fleet, &streams, "test", origin, sender).unwrap();
        let (samples, last) = (Vec::new(), BTreeMap::new());
        Self {
            prober,
            out,
            samples,
            last,
        }
    }

    async fn second(&mut self) {
        let Some(ProbeOut::Second {
            blocks, samples, ..
        }) = self.out.recv().await
        else {
            panic!("the prober ended");
        };
        self.samples = samples;
        self.last = blocks
            .into_iter()
            .map(|block| (block.stream.clone(), block))
            .collect();
    }

    /// Share of bad probes of each question in the last second, in the order of QUESTIONS.
    fn bad(&self) -> [f64; 3] {
        QUESTIONS.map(|(name, _)| {
            let block = &self.last[&format!("a/{name}")];
            f64::from(block.bad) / f64::from(block.valid.max(1))
        })
    }

    /// Goes on until a second is as wanted; `within` seconds at most.
    async fn until(&mut self, what: &str, within: usize, wanted: impl Fn([f64; 3]) -> bool) {
        let mut told = Vec::new();
        for _ in 0..within {
            self.second().await;
            told.push(self.bad());
            if wanted(self.bad()) {
                println!("{what}: {told:?}");
                return;
            }
        }
        panic!("not {what} within {within} s: {told:?}; {:?}", self.samples);
    }

    fn words(&self, probe: &str) -> Vec<&str> {
        let of = |sample: &&BadSample| sample.stream == format!("a/{probe}");
        self.samples
            .iter()
            .filter(of)
            .map(|sample| sample.what.as_str())
            .collect()
    }
}

#[test]
#[ignore = "needs root and the control-plane binary"]
fn each_question_sees_what_happens_to_its_control_plane() {
    cluster::in_a_network_of_its_own(async {
        let mut cluster = Cluster::start().await;
        let mut seen = Seen::start(&fleet_of(&cluster, "here", 10.0, &[0, 1, 2]));
        let good = |bad: [f64; 3]| bad == [0.0; 3];
        seen.until("healthy", 5, good).await;
        for _ in 0..3 {
            seen.second().await;
            assert!(good(seen.bad()), "{:?} {:?}", seen.bad(), seen.samples);
        }

        // Cut off from etcd, the API server cannot say what is true now.
        cluster.stop_etcd();
        seen.until("etcd stopped", 8, |bad| bad == [1.0; 3]).await;
        for (probe, _) in QUESTIONS {
            println!("etcd stopped, {probe}: {:?}", seen.words(probe));
        }
        cluster.continue_etcd();
        seen.until("etcd goes on", 15, good).await;

        cluster.kill_apiserver();
        seen.until("apiserver killed", 5, |bad| bad == [1.0; 3])
            .await;
        assert!(
            seen.words("api-list")
                .iter()
                .any(|what| what.contains("refused")),
            "{:?}",
            seen.samples
        );
        cluster.start_apiserver();
        seen.until("apiserver back", 60, good).await;
        seen.prober.stop().await;
    });
}

#[test]
#[ignore = "needs root and the control-plane binary"]
fn a_wrong_token_and_a_foreign_certificate_are_told_in_words() {
    cluster::in_a_network_of_its_own(async {
        let cluster = Cluster::start().await;
        for (context, words) in [
            ("wrong-token", "401"),
            ("wrong-ca", "certificate"),
            ("nobody", "403"),
        ] {
            let mut seen = Seen::start(&fleet_of(&cluster, context, 10.0, &[0, 1, 2]));
            seen.second().await;
            // Whoever it is, even nobody, may ask whether the API server is ready.
            let asked = if context == "nobody" {
                &[0, 2][..]
            } else {
                &[0, 1, 2]
            };
            for (index, (probe, _)) in QUESTIONS
                .iter()
                .enumerate()
                .filter(|(i, _)| asked.contains(i))
            {
                assert_eq!(seen.bad()[index], 1.0, "{context} {probe}");
                let told = seen.words(probe);
                assert!(
                    told.iter().all(|what| what.contains(words)),
                    "{context} {probe}: {told:?}"
                );
            }
            seen.prober.stop().await;
        }
    });
}

/// The figures of the documentation: what 1000 questions cost the API server and its etcd.
#[test]
#[ignore = "needs root and the control-plane binary"]
fn a_question_costs_a_few_milliseconds_of_the_server() {
    const SECONDS: u32 = 10;
    const RATE: f64 = 40.0;
    cluster::in_a_network_of_its_own(async {
        let cluster = Cluster::start().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let idle = cluster.cpu();
        tokio::time::sleep(Duration::from_secs(SECONDS.into())).await;
        let idle = cluster.cpu() - idle;
        for (index, (probe, _)) in QUESTIONS.iter().enumerate() {
            let mut seen = Seen::start(&fleet_of(&cluster, "here", RATE, &[index]));
            seen.second().await;
            let (before, mut slowest, mut bad) = (cluster.cpu(), 0, 0);
            for _ in 0..SECONDS {
                seen.second().await;
                let block = &seen.last[&format!("a/{probe}")];
                bad += block.bad;
                slowest = slowest.max(block.latency_us.iter().map(|bin| bin.0).max().unwrap_or(0));
            }
            let cpu = cluster.cpu() - before - idle;
            let per_thousand = cpu / (RATE * f64::from(SECONDS)) * 1000.0;
            println!(
                "{probe}: {per_thousand:.2} CPU-s per 1000, slowest {slowest} us, {bad} bad (idle {idle:.2} CPU-s in {SECONDS} s)"
            );
            assert_eq!(bad, 0, "{probe}: {:?}", seen.samples);
            assert!(
                per_thousand < 20.0,
                "{probe}: {per_thousand} CPU-s per 1000"
            );
            seen.prober.stop().await;
        }
    });
}
