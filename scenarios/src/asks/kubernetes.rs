//! The Kubernetes API of a cell: what it is asked. None of it is stored.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::asks::{At, COSTLY_RATE, Question};
use crate::fleet::Plane;
use crate::input::InputError;
use crate::values::{Name, Text};

/// What a cell's API server is asked; none of them alters anything in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubernetesQuestion {
    /// `/readyz` answers 200.
    Ready,
    /// The services of namespace default are listed from etcd.
    List,
    /// A new watch is told a state as fresh as etcd's at the time of the question.
    Watch,
    /// One ConfigMap is written as a dry run (`dryRun=All`).
    Write {
        namespace: String,
        config_map: String,
    },
    /// A Lease was renewed at most so long ago.
    Lease {
        namespace: String,
        name: String,
        within: Duration,
    },
}

/// What a cell's API server is asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KubernetesQuestionSpec {
    /// `/readyz` answers 200.
    Ready,
    /// The services of namespace default are listed from etcd.
    List,
    /// A new watch is told a state as fresh as etcd's at the time of the question.
    Watch,
    /// One ConfigMap is written as a dry run: all of a write but its storing.
    Write(WriteSpec),
    /// A Lease that somebody in the cluster must keep renewing.
    Lease(LeaseSpec),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WriteSpec {
    namespace: Text<Name>,
    /// The user needs the verbs create and patch for this one ConfigMap; it need not exist.
    config_map: Text<Name>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaseSpec {
    namespace: Text<Name>,
    /// For instance kube-controller-manager in kube-system.
    name: Text<Name>,
    /// A renewal that is older is bad; by the clocks of the cluster.
    within: Text<Duration>,
}

impl Question for KubernetesQuestion {
    type Spec = KubernetesQuestionSpec;
    const RATE: f64 = COSTLY_RATE;

    /// Every cell must have an API server, or its control plane would go unseen.
    fn read(spec: KubernetesQuestionSpec, at: &At<'_>) -> Result<Self, InputError> {
        if at.plane != Plane::Control {
            let message = "the Kubernetes API is the control plane of a cell";
            return Err(at.beside("plane").wrong(message).with_valid(["control"]));
        }
        let cells = &at.fleet.cells;
        let bare = cells.iter().filter(|(_, cell)| cell.kubernetes.is_none());
        let bare: Vec<&String> = bare.map(|(name, _)| name).collect();
        if let Some(first) = bare.first() {
            let message = if bare.len() == cells.len() {
                "no cell has a Kubernetes API to ask".to_owned()
            } else {
                format!("cell {first} has no Kubernetes API to ask, and a probe asks every cell")
            };
            let hint = "write kubernetes: { kubeconfig: FILE, context: NAME } for each cell";
            return Err(at.wrong(message).with_hint(hint));
        }
        Ok(match spec {
            KubernetesQuestionSpec::Ready => Self::Ready,
            KubernetesQuestionSpec::List => Self::List,
            KubernetesQuestionSpec::Watch => Self::Watch,
            KubernetesQuestionSpec::Write(write) => Self::Write {
                namespace: write.namespace.0.0,
                config_map: write.config_map.0.0,
            },
            KubernetesQuestionSpec::Lease(lease) => {
                let within = lease.within.0;
                // The API server tells its time in whole seconds.
                if within < Duration::from_secs(1) {
                    let message = "less than 1s cannot be told: an API server's time is in seconds";
                    return Err(at.below("lease").below("within").wrong(message));
                }
                Self::Lease {
                    namespace: lease.namespace.0.0,
                    name: lease.name.0.0,
                    within,
                }
            }
        })
    }
}
