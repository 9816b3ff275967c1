//! What this node's kernel can do to packets, and which way leads to each pod's.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use wire::{Ability, Datapath, PodPath};

use crate::canary::{Proof, Way};
use crate::guardian::Protection;
use crate::kernel::links::{Link, Links};
use crate::kernel::tryout::{self, Abilities};
use crate::pods::{self, Seen};

/// A conductor asks for the status several times in a row, to measure its clock: only once is looked.
const FRESH: Duration = Duration::from_secs(2);

/// How a CNI is told by the devices it makes: a name, or the beginning of one.
const CNI: [(&str, &str); 8] = [
    ("cilium_host", "cilium"),
    ("cali", "calico"),
    ("vxlan.calico", "calico"),
    ("flannel.", "flannel"),
    ("antrea-gw", "antrea"),
    ("ovn-k8s-", "ovn-kubernetes"),
    ("kube-ipvs0", "kube-proxy in ipvs mode"),
    ("cni0", "bridge"),
];

/// Asked by every call that tells of the datapath.
pub struct Watcher {
    abilities: Abilities,
    protection: Protection,
    last: Mutex<Option<(Instant, Datapath)>>,
    proof: Mutex<Proof>,
}

impl Watcher {
    /// Tries the kernel's abilities once: they do not change while it runs.
    pub fn begin(protection: Protection) -> Self {
        let abilities = tryout::abilities();
        tracing::info!(?abilities, "the kernel's abilities were tried");
        Self {
            abilities,
            protection,
            last: Mutex::new(None),
            proof: Mutex::new(Proof::default()),
        }
    }

    /// What the last Arm proved; shown with the pods from now on.
    pub fn proved(&self, proof: Proof) {
        if let (Ok(mut known), Ok(mut last)) = (self.proof.lock(), self.last.lock()) {
            *known = proof;
            *last = None;
        }
    }

    /// Two seconds old at most.
    pub fn report(&self) -> Datapath {
        let Ok(mut last) = self.last.lock() else {
            return self.look();
        };
        match &*last {
            Some((when, known)) if when.elapsed() < FRESH => known.clone(),
            _ => {
                let report = self.look();
                *last = Some((Instant::now(), report.clone()));
                report
            }
        }
    }

    fn look(&self) -> Datapath {
        let proof = self.proof.lock().map(|proof| proof.clone());
        let mut errors = Vec::new();
        let links = Links::open().and_then(|mut links| links.all());
        let links = links.unwrap_or_else(|error| {
            errors.push(format!("cannot list the devices: {error}"));
            Vec::new()
        });
        let pods = pods::look().map_or_else(
            |error| {
                errors.push(error.to_string());
                Vec::new()
            },
            |seen| paths(&seen, &proof.unwrap_or_default()),
        );
        Datapath {
            abilities: words(&self.abilities, &self.protection),
            cni: cni(&links),
            pods,
            error: errors.join("; "),
        }
    }
}

/// Names of the CNIs whose devices are there, joined by ` and `; `none seen` without any.
fn cni(links: &[Link]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (device, name) in CNI {
        if !names.contains(&name) && links.iter().any(|link| link.name.starts_with(device)) {
            names.push(name);
        }
    }
    match names.is_empty() {
        true => "none seen".to_owned(),
        false => names.join(" and "),
    }
}

fn words(abilities: &Abilities, protection: &Protection) -> Vec<Ability> {
    let Abilities {
        owner,
        timeouts,
        renewal,
        egress_fwd,
        tcx,
    } = abilities;
    [
        ("table owner", owner),
        ("set timeouts", timeouts),
        ("timeout renewal", renewal),
        ("netdev egress fwd", egress_fwd),
        ("tcx", tcx),
        ("guardian cgroup", &protection.cgroup),
        ("guardian oom protection", &protection.oom),
    ]
    .map(|(name, ability)| Ability {
        name: name.to_owned(),
        missing: ability.clone().unwrap_or_default(),
    })
    .into()
}

fn paths(seen: &Seen, proof: &Proof) -> Vec<PodPath> {
    let attached = seen.attached.iter().map(|pod| {
        let name = format!("pod {}", pod.name);
        let proven = proof.ways.iter().find(|(path, _)| *path == name);
        let way = proven.map_or(Way::HostTable, |(_, way)| *way);
        PodPath {
            pod: pod.name.clone(),
            way: way.word().to_owned(),
            proven: proven.is_some(),
            not_cut: String::new(),
        }
    });
    let apart = seen.apart.iter().map(|(pod, why)| PodPath {
        pod: pod.clone(),
        way: String::new(),
        proven: false,
        not_cut: why.clone(),
    });
    attached.chain(apart).collect()
}

/// The ways that a proof found, in words: `host table: the host, pod a`.
pub fn ways(proof: &Proof) -> Vec<String> {
    [Way::HostTable, Way::PodNamespace]
        .into_iter()
        .filter_map(|way| {
            let by_it = proof.ways.iter().filter(|(_, taken)| *taken == way);
            let names: Vec<&str> = by_it.map(|(name, _)| name.as_str()).collect();
            (!names.is_empty()).then(|| format!("{}: {}", way.word(), names.join(", ")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str) -> Link {
        Link {
            name: name.to_owned(),
            ..Link::default()
        }
    }

    #[test]
    fn a_cni_is_told_by_its_devices() {
        assert_eq!(cni(&[link("lo"), link("eth0")]), "none seen");
        assert_eq!(cni(&[link("cni0"), link("veth1")]), "bridge");
        assert_eq!(
            cni(&[link("cni0"), link("flannel.1")]),
            "flannel and bridge"
        );
        assert_eq!(cni(&[link("cali1"), link("cali2")]), "calico");
        assert_eq!(cni(&[link("cilium_host"), link("cilium_net")]), "cilium");
    }

    #[test]
    fn ways_are_told_in_words() {
        let ways_of = |all: &[(&str, Way)]| {
            let ways = all.iter().map(|(name, way)| ((*name).to_owned(), *way));
            super::ways(&Proof {
                ways: ways.collect(),
                inside: Vec::new(),
            })
        };
        assert_eq!(ways_of(&[]), [""; 0]);
        let two = [
            ("the host", Way::HostTable),
            ("pod b", Way::PodNamespace),
            ("pod a", Way::HostTable),
        ];
        assert_eq!(
            ways_of(&two),
            ["host table: the host, pod a", "pod namespace: pod b"]
        );
    }
}
