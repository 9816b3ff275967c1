//! What a prober sees of one real control plane, asked all or some of the questions.
#![allow(dead_code)] // each test binary uses some of it

use std::collections::BTreeMap;
use std::time::Duration;

use probes::{ProbeOut, Prober};
use scenarios::fleet::{Ask, Fleet, KubernetesAccess, KubernetesQuestion, Plane, Probe};
use scenarios::history::{BadSample, Block};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::fleet;

pub const QUESTIONS: [(&str, KubernetesQuestion); 3] = [
    ("api-list", KubernetesQuestion::List),
    ("api-ready", KubernetesQuestion::Ready),
    ("api-watch", KubernetesQuestion::Watch),
];

pub fn fleet_of(cluster: &Cluster, context: &str, rate: f64, asked: &[usize]) -> Fleet {
    let mut fleet = fleet::fleet();
    fleet::add_cell(&mut fleet, "a", "10.99.0.1");
    fleet.cells.get_mut("a").unwrap().kubernetes = Some(KubernetesAccess {
        kubeconfig: cluster.kubeconfig(),
        context: context.to_owned(),
    });
    for &index in asked {
        let (name, question) = &QUESTIONS[index];
        let probe = Probe {
            plane: Plane::Control,
            ask: Ask::Kubernetes(question.clone()),
            read_back: None,
            rewrites: Default::default(),
            slower_within: None,
            rate,
            timeout: Duration::from_secs(1),
            slo: Some(Duration::from_millis(500)),
        };
        fleet.probes.insert((*name).to_owned(), probe);
    }
    fleet
}

/// A prober of one fleet and what it has seen.
pub struct Seen {
    pub prober: Prober,
    out: mpsc::Receiver<ProbeOut>,
    pub samples: Vec<BadSample>,
    pub last: BTreeMap<String, Block>,
}

impl Seen {
    pub fn start(fleet: &Fleet) -> Self {
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

    pub async fn second(&mut self) {
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
    pub fn bad(&self) -> [f64; 3] {
        QUESTIONS.map(|(name, _)| {
            let block = &self.last[&format!("a/{name}")];
            f64::from(block.bad) / f64::from(block.valid.max(1))
        })
    }

    /// Goes on until a second is as wanted; `within` seconds at most.
    pub async fn until(&mut self, what: &str, within: usize, wanted: impl Fn([f64; 3]) -> bool) {
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

    pub fn words(&self, probe: &str) -> Vec<&str> {
        let of = |sample: &&BadSample| sample.stream == format!("a/{probe}");
        self.samples
            .iter()
            .filter(of)
            .map(|sample| sample.what.as_str())
            .collect()
    }
}
