//! What each cell's API server says before a drill: whether it can be asked, and whom no agent cuts.
//!
//! Only server-side checks: `/version`, SelfSubjectAccessReviews (answered and never stored) and a
//! list of nodes. Nothing in a cluster is written.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Node as ClusterNode;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, Config};
use scenarios::fleet::{Ask, Cell, Fleet, KubernetesQuestion, Node};

/// Of each question; a cell that takes longer to answer is not one to begin a drill with.
const PATIENCE: Duration = Duration::from_secs(5);

/// One thing that the probes and this check must be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Right {
    verb: &'static str,
    /// Empty: the group of pods and services.
    group: &'static str,
    resource: &'static str,
    /// Empty: all of them.
    namespace: String,
    /// Empty: all of them.
    name: String,
}

impl Right {
    fn new(verb: &'static str, resource: &'static str, namespace: &str, name: &str) -> Self {
        Self {
            verb,
            group: "",
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        match self.namespace.is_empty() {
            true => Ok(()),
            false => write!(f, " in namespace {}", self.namespace),
        }
    }
}

/// What is always needed, and what the fleet's own probes need beside it.
fn needed(fleet: &Fleet) -> Vec<Right> {
    let mut rights = vec![
        Right::new("list", "services", "default", ""),
        Right::new("watch", "services", "default", ""),
        Right::new("list", "nodes", "", ""),
    ];
    for probe in fleet.probes.values() {
        match &probe.ask {
            Ask::Kubernetes(KubernetesQuestion::Write {
                namespace,
                config_map,
            }) => rights.extend(
                ["create", "patch"]
                    .map(|verb| Right::new(verb, "configmaps", namespace, config_map)),
            ),
            Ask::Kubernetes(KubernetesQuestion::Lease {
                namespace, name, ..
            }) => rights.push(Right {
                group: "coordination.k8s.io",
                ..Right::new("get", "leases", namespace, name)
            }),
            _ => {}
        }
    }
    rights
}

/// What the API servers of a fleet said.
#[derive(serde::Serialize, Default)]
pub struct Answers {
    /// One line for each cell: its version and nodes.
    pub lines: Vec<String>,
    /// Nodes of a cluster without an agent in the fleet file; what runs there is not cut.
    pub not_cut: Vec<String>,
    /// Why the drill would be refused.
    pub refusals: Vec<String>,
}

/// Asks every API server of the fleet at once; none if no cell has one.
pub async fn ask(fleet: &Fleet, targets: &[String]) -> Answers {
    let cells = fleet
        .cells
        .iter()
        .filter(|(_, cell)| cell.kubernetes.is_some());
    let rights = &needed(fleet);
    let asked =
        cells.map(|(name, cell)| async move { (name, cell, ask_cell(name, cell, rights).await) });
    let mut answers = Answers::default();
    for (name, cell, answer) in futures::future::join_all(asked).await {
        match answer {
            Err(why) => answers.refusals.push(format!("{name}: {why}")),
            Ok((version, nodes)) => answers.compare(name, cell, targets, &version, &nodes),
        }
    }
    answers
}

impl Answers {
    /// The cluster's nodes against those of the fleet file: by internal address, or by the name
    /// `NODE.CELL`, which is also the one in an agent's certificate and tells two cells apart.
    ///
    /// A node without an agent is not cut. In the target the drill may go on: what the probes still
    /// reach there is seen by them and denies the pass. Not a single common node means another cluster.
    fn compare(
        &mut self,
        name: &str,
        cell: &Cell,
        targets: &[String],
        version: &str,
        nodes: &BTreeMap<String, Vec<IpAddr>>,
    ) {
        let has_agent = |called: &str, addresses: &[IpAddr]| {
            let own = |node: &Node| called == format!("{}.{name}", node.name);
            cell.nodes
                .iter()
                .any(|node| own(node) || addresses.contains(&node.address))
        };
        let bare: Vec<&str> = nodes
            .iter()
            .filter(|(called, addresses)| !has_agent(called, addresses))
            .map(|(node, _)| node.as_str())
            .collect();
        self.lines.push(format!(
            "{name}: Kubernetes {version}, {} nodes, {} with an agent",
            nodes.len(),
            nodes.len() - bare.len()
        ));
        if nodes.is_empty() || bare.len() == nodes.len() {
            let found: Vec<String> = nodes
                .iter()
                .map(|(node, at)| format!("{node} {at:?}"))
                .collect();
            self.refusals.push(format!(
                "{name}: no node of its cluster ({}) is a node of the fleet file; is this the \
                 right context? Give the nodes their InternalIP as address, or call them \
                 NODE.{name} in the cluster",
                found.join(", ")
            ));
            return;
        }
        let side = if targets.iter().any(|target| target == name) {
            "target"
        } else {
            "must survive"
        };
        self.not_cut.extend(
            bare.iter()
                .map(|node| format!("{name} ({side}): not cut: node {node} has no agent")),
        );
    }
}

/// The version and the nodes with their internal addresses, or why not, with what to do.
async fn ask_cell(
    name: &str,
    cell: &Cell,
    rights: &[Right],
) -> Result<(String, BTreeMap<String, Vec<IpAddr>>), String> {
    let access = cell.kubernetes.as_ref().ok_or("it has no Kubernetes API")?;
    let config = probes::kubernetes_config(name, access).map_err(|error| error.to_string())?;
    let server = config.cluster_url.to_string();
    let client = client(config).map_err(|why| format!("{server}: {why}"))?;
    let version = answered(client.apiserver_version()).await.map_err(|why| {
        format!(
            "{server} did not tell its version: {why}; is it up, and are context and token right?"
        )
    })?;
    for right in rights {
        let allowed = may(&client, right).await;
        let allowed = allowed.map_err(|why| {
            format!("{server} did not say what we may do there: {why}; is the token or certificate of context {} right?", access.context)
        })?;
        if !allowed {
            return Err(format!(
                "{server}: forbidden: {right}; give the user of context {} the role view, a role that \
                 may list nodes, and what docs/probes.md says of write and lease",
                access.context
            ));
        }
    }
    let nodes: Api<ClusterNode> = Api::all(client);
    let nodes = answered(nodes.list(&ListParams::default()))
        .await
        .map_err(|why| format!("{server} did not list its nodes: {why}"))?;
    Ok((
        version.git_version,
        nodes.into_iter().map(internal).collect(),
    ))
}

fn client(config: Config) -> Result<Client, String> {
    Client::try_from(config).map_err(|error| error.to_string())
}

async fn answered<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| match error {
            kube::Error::Api(status) => format!("{} {}", status.code, status.message),
            error => told(&error),
        }),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

/// An error with its causes: kube's own words leave out why a connection failed.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

async fn may(client: &Client, right: &Right) -> Result<bool, String> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(right.verb.to_owned()),
                group: given(right.group),
                resource: Some(right.resource.to_owned()),
                namespace: given(&right.namespace),
                name: given(&right.name),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = answered(reviews.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn internal(node: ClusterNode) -> (String, Vec<IpAddr>) {
    let addresses = node
        .status
        .and_then(|status| status.addresses)
        .unwrap_or_default();
    let internal = addresses
        .iter()
        .filter(|address| address.type_ == "InternalIP");
    let addresses = internal.filter_map(|address| address.address.parse().ok());
    (node.metadata.name.unwrap_or_default(), addresses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(nodes: &[(&str, &str)]) -> Answers {
        let text = include_str!("../../scenarios/tests/fleet.yaml");
        let fleet = scenarios::read_fleet(text, "fleet.yaml").expect("a good fleet");
        let nodes = nodes
            .iter()
            .map(|(name, at)| (name.to_string(), vec![at.parse().expect("address")]))
            .collect();
        let mut answers = Answers::default();
        let targets = ["gd-aliyun".to_string()];
        answers.compare(
            "gd-aliyun",
            &fleet.cells["gd-aliyun"],
            &targets,
            "v1.36.2",
            &nodes,
        );
        answers
    }

    #[test]
    fn what_the_probes_of_a_fleet_need_is_asked_for_too() {
        let text = include_str!("../../scenarios/tests/fleet.yaml");
        let mut fleet = scenarios::read_fleet(text, "fleet.yaml").expect("a good fleet");
        assert_eq!(needed(&fleet).len(), 3);
        let probe = fleet.probes["checkout"].clone();
        let mut add = |name: &str, question| {
            let ask = Ask::Kubernetes(question);
            let probe = scenarios::fleet::Probe {
                ask,
                ..probe.clone()
            };
            fleet.probes.insert(name.to_string(), probe);
        };
        add(
            "write",
            KubernetesQuestion::Write {
                namespace: "cellwall".to_string(),
                config_map: "probe".to_string(),
            },
        );
        add(
            "lease",
            KubernetesQuestion::Lease {
                namespace: "kube-system".to_string(),
                name: "kube-controller-manager".to_string(),
                within: Duration::from_secs(20),
            },
        );
        let words: Vec<String> = needed(&fleet)[3..]
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            words,
            [
                "get leases kube-controller-manager in namespace kube-system",
                "create configmaps probe in namespace cellwall",
                "patch configmaps probe in namespace cellwall",
            ]
        );
    }

    #[test]
    fn a_node_without_an_agent_is_named_and_another_cluster_refused() {
        let whole = compared(&[("n1", "198.51.100.5"), ("n2", "198.51.100.6")]);
        assert!(whole.not_cut.is_empty() && whole.refusals.is_empty());
        let more = compared(&[("n1", "198.51.100.5"), ("gpu-1", "198.51.100.9")]);
        assert_eq!(
            more.not_cut,
            ["gd-aliyun (target): not cut: node gpu-1 has no agent"]
        );
        assert!(more.refusals.is_empty());
        let named = compared(&[("n1.gd-aliyun", "192.0.2.1")]);
        assert!(named.not_cut.is_empty() && named.refusals.is_empty());
        for foreign in [
            &[("n1.gd-aws", "192.0.2.1")][..],
            &[("n1", "192.0.2.1")],
            &[],
        ] {
            let refusals = compared(foreign).refusals;
            assert!(
                refusals.len() == 1 && refusals[0].contains("right context"),
                "{refusals:?}"
            );
        }
    }
}
