//! The canary: flows of our own prove that a cut would hold, before anything of the fault is loaded.
//!
//! For the host and every pod of this node, in each address family, an ICMP echo flow runs to a peer
//! outside. It must be answered (a) without rules, vanish while a table with the hooks, priorities
//! and gate of the real cut drops the answers (b) and then the requests (c), as far as the change cuts
//! these directions, and be answered again without it (d). The table matches that peer and our ids
//! only, is owned by our socket and named like the drill's, so that it dies with the agent and the
//! residue scan sees it.
//!
//! What has to be proven: a pod in each family in which its namespace has a default route; the host in
//! each family in which it has one, or in which the plan names an operator that it can send to. The
//! peers are the host's default gateways and the operator's addresses; the first that answers is taken.
//! A path that nobody answers without rules is refused by name. The one exception: a host without any
//! default route and a plan without an operator, where there is nobody to ask. A pod without a default
//! route sends nothing past this node and has nothing to prove.
//!
//! A pod whose canary is answered with the host's table in force does not pass the host's nftables. It
//! is tried again with the table in its own namespace, if the policy allows that, else refused.

mod flows;
mod paths;
mod rules;

use std::net::IpAddr;

use crate::changes::Hands;
use crate::changes::firewall::Directions;
use crate::journal::Permit;
use crate::kernel::namespaces::NamespaceId;
use crate::kernel::netlink;
use crate::pods::{Pod, PodId};

use flows::Flows;
use paths::Path;
use rules::Rules;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot send canaries {0}: {1}")]
    Open(String, std::io::Error),
    #[error("cannot ask for this node's default routes: {0}")]
    Routes(netlink::Error),
    #[error("cannot list the network devices {0}: {1}")]
    Devices(String, std::io::Error),
    #[error("cannot put the canary's own table in force {0}: {1}")]
    Table(String, netlink::Error),
    #[error("cannot read answers to canaries: {0}")]
    Read(std::io::Error),
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
}

/// What is asked.
pub struct Question<'a> {
    /// Name of the canary's tables.
    pub table: &'a str,
    pub directions: Directions,
    pub operator: &'a [IpAddr],
    pub pods: &'a [Pod],
    /// Whether tables may be loaded in the namespaces of pods.
    pub pod_namespaces: bool,
    /// NODE.CELL, for refusals.
    pub node: &'a str,
}

/// Where the tables are by which a path is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    HostTable,
    PodNamespace,
}

impl Way {
    pub fn word(self) -> &'static str {
        match self {
            Way::HostTable => "host table",
            Way::PodNamespace => "pod namespace",
        }
    }
}

/// What was proven.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// The host and each pod with the way by which a cut reaches it.
    pub ways: Vec<(String, Way)>,
    /// Pods that must be cut in their own namespace.
    pub inside: Vec<PodId>,
}

/// How a path failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    Ingress,
    Egress,
}

impl Passed {
    fn word(self) -> &'static str {
        match self {
            Passed::Ingress => "ingress",
            Passed::Egress => "egress",
        }
    }
}

/// Runs all phases. Takes about half a second, and as much again if pods must be tried inside.
pub fn prove(asked: &Question<'_>, hands: &mut Hands, permit: &Permit) -> Result<Proof, Error> {
    let paths = paths::all(asked)?;
    let mut flows = Flows::open(&paths)?;
    refuse(flows.choose_peers(&paths)?)?;
    let rules = Rules {
        table: asked.table,
        peers: flows.peers(),
        ids: flows.ids(),
    };
    let everyone: Vec<usize> = (0..paths.len()).collect();
    let passed = drop_both(asked, &everyone, &[None], &rules, &mut flows, hands, permit)?;
    let mut refusals = Vec::new();
    let mut inside = Vec::new();
    for (path, direction) in passed {
        match &paths[path].pod {
            Some(pod) if asked.pod_namespaces => inside.push((path, pod.clone())),
            pod => refusals.push(refused(asked, &paths[path], direction, pod.is_some())),
        }
    }
    refuse(refusals)?;
    let mut proof = Proof::default();
    if !inside.is_empty() {
        prove_inside(asked, &paths, &inside, &rules, &mut flows, hands, permit)?;
        proof.inside = inside.into_iter().map(|(_, pod)| pod).collect();
        proof.inside.sort_by_key(|pod| pod.namespace);
        proof.inside.dedup();
    }
    let silent = flows.answered(&everyone)?;
    let silent: Vec<String> = silent
        .into_iter()
        .map(|path| {
            format!(
                "{} on node {}: its canary was not answered again after the canary's table was \
                 deleted",
                paths[path].words(),
                asked.node
            )
        })
        .collect();
    refuse(silent)?;
    for path in &paths {
        let pod = path.pod.as_ref();
        let within = pod.is_some_and(|pod| proof.inside.contains(pod));
        let way = if within {
            Way::PodNamespace
        } else {
            Way::HostTable
        };
        let way = (path.name.clone(), way);
        if !proof.ways.contains(&way) {
            proof.ways.push(way);
        }
    }
    Ok(proof)
}

/// The paths that passed the host's tables, once more with tables in their own namespaces.
fn prove_inside(
    asked: &Question<'_>,
    paths: &[Path],
    inside: &[(usize, PodId)],
    rules: &Rules<'_>,
    flows: &mut Flows,
    hands: &mut Hands,
    permit: &Permit,
) -> Result<(), Error> {
    let which: Vec<usize> = inside.iter().map(|(path, _)| *path).collect();
    let mut places: Vec<Option<NamespaceId>> =
        inside.iter().map(|(_, pod)| Some(pod.namespace)).collect();
    places.sort();
    places.dedup();
    for pod in asked.pods {
        if places.contains(&Some(pod.namespace.id)) {
            hands
                .enter(&pod.namespace)
                .map_err(|cause| Error::Table(format!("in pod {}", pod.name), cause))?;
        }
    }
    let passed = drop_both(asked, &which, &places, rules, flows, hands, permit)?;
    let refusals = passed
        .into_iter()
        .map(|(path, direction)| {
            format!(
                "{} on node {}: its canary was still answered with the cut of {} in force in its own \
                 namespace too",
                paths[path].words(),
                asked.node,
                direction.word()
            )
        })
        .collect();
    refuse(refusals)
}

/// Phases (b) and (c) for `which` paths with the tables in `places` (none: the host). The answer is
/// the paths whose canary was answered nevertheless, each once. No table is left behind.
fn drop_both(
    asked: &Question<'_>,
    which: &[usize],
    places: &[Option<NamespaceId>],
    rules: &Rules<'_>,
    flows: &mut Flows,
    hands: &mut Hands,
    permit: &Permit,
) -> Result<Vec<(usize, Passed)>, Error> {
    let mut passed: Vec<(usize, Passed)> = Vec::new();
    let phases = [
        (asked.directions.ingress, Passed::Ingress),
        (asked.directions.egress, Passed::Egress),
    ];
    for (_, phase) in phases.into_iter().filter(|(wanted, _)| *wanted) {
        let loaded = places
            .iter()
            .try_for_each(|place| rules.load(phase, *place, hands, permit));
        let answered = loaded.and_then(|()| flows.still_answered(which));
        let deleted = places
            .iter()
            .map(|place| rules.delete(phase, *place, hands, permit))
            .fold(Ok(()), Result::and);
        for path in answered? {
            if passed.iter().all(|(known, _)| *known != path) {
                passed.push((path, phase));
            }
        }
        deleted?;
    }
    Ok(passed)
}

fn refused(asked: &Question<'_>, path: &Path, direction: Passed, pod: bool) -> String {
    let how = if pod {
        "its traffic does not pass this node's nftables (a BPF redirect?); allow `pod_namespaces` in \
         the agent's policy, or leave this node out"
    } else {
        "the host's traffic does not pass its own nftables (a BPF redirect?); leave this node out"
    };
    format!(
        "{} on node {}: its canary was still answered with the cut of {} in force at the host: {how}",
        path.words(),
        asked.node,
        direction.word()
    )
}

fn refuse(refusals: Vec<String>) -> Result<(), Error> {
    if refusals.is_empty() {
        Ok(())
    } else {
        Err(Error::Refused(refusals))
    }
}
