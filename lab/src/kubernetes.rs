//! Kubernetes cells: a control plane and a worker with pods, each a node with an agent of its own.

mod config;
pub mod deploy;
mod image;
mod manifests;
mod network;
pub mod node;
pub mod programs;
mod secrets;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use self::network::Networks;
use self::worker::Worker;
use crate::error::{Error, Result};
use crate::internet::{self, OPERATOR};
use crate::kind::{CellKind, FleetLines, Place};
use crate::layout::{Ask, CellLayout, Check, Host, Layout, NodeLayout, Role, Route, Service};
use crate::state::LabDirectory;

const CONTROL_PLANE: &str = "cp";
const WORKER: &str = "n1";
const API_PORT: u16 = 6443;
const ETCD_PORT: u16 = 2379;
const FRONT_PORT: u16 = 80;

/// What the Kubernetes API of every cell is asked.
const PROBES: &str = "    api-ready:
      plane: control
      kubernetes: ready
      rate: 20/s
      timeout: 1s
      slo: 500ms
    api-list:
      plane: control
      kubernetes: list
      rate: 20/s
      timeout: 1s
      slo: 500ms
    api-watch:
      plane: control
      kubernetes: watch
      rate: 20/s
      timeout: 1s
      slo: 500ms
";

/// See the module.
pub struct Kubernetes;

impl CellKind for Kubernetes {
    fn nodes(&self) -> &'static [(&'static str, u8)] {
        &[(CONTROL_PLANE, 10), (WORKER, 11)]
    }

    fn entry(&self) -> &'static str {
        WORKER
    }

    fn check(&self, cell: &CellLayout) -> Result<()> {
        Networks::of(cell).map(|_| ())
    }

    /// The worker forwards for its pods; the control plane reaches them by the worker.
    fn shape(&self, cell: &CellLayout, node: &NodeLayout, host: &mut Host) {
        let (Ok(networks), Some(worker)) = (Networks::of(cell), cell.node(WORKER)) else {
            return; // refused by `check`
        };
        if node.name == WORKER {
            host.forwards = true;
            return;
        }
        let pods = networks.pods.iter().zip(&worker.inside);
        host.routes.extend(pods.map(|(to, via)| Route {
            to: *to,
            via: *via,
            from: None,
        }));
    }

    fn fleet_lines(&self, cell: &CellLayout) -> FleetLines {
        FleetLines {
            cell: format!(
                "      kubernetes: {{ kubeconfig: kubeconfig, context: {} }}\n",
                cell.name
            ),
            probes: PROBES,
        }
    }

    fn services(&self, layout: &Layout, cell: usize, place: &Place) -> Result<Vec<Service>> {
        let own = &layout.cells[cell];
        let mut all = control_plane(own, place)?;
        all.push(worker(own, place)?);
        all.push(deployment(own, place)?);
        all.extend(
            own.nodes
                .iter()
                .map(|node| crate::agent::service(own, node, place)),
        );
        Ok(all)
    }

    fn checks(&self, cell: &CellLayout) -> Vec<Check> {
        let mut all = internet::user_checks(cell, FRONT_PORT);
        let control_plane = cell.node(CONTROL_PLANE).into_iter();
        all.extend(
            control_plane
                .flat_map(|node| &node.public)
                .map(|address| Check {
                    from: OPERATOR.to_string(),
                    to: SocketAddr::new(*address, API_PORT),
                    ask: Ask::Connect,
                }),
        );
        all.extend(cell.nodes.iter().map(crate::agent::check));
        all
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(110)
    }

    fn require(&self) -> Result<()> {
        programs::require()
    }

    fn prepare(&self, layout: &Layout, place: &Place) -> Result<()> {
        secrets::write(&place.directory, layout)?;
        for (index, cell) in layout.cells.iter().enumerate() {
            let worker = worker_of(cell, &place.directory)?;
            config::write(&worker)?;
            worker.write()?;
            image::write_shop(&place.programs, &worker.images())?;
            let manifests = manifests_of(cell, &place.directory)?;
            manifests::write(layout, index, &worker, &manifests)?;
        }
        Ok(())
    }
}

fn node<'a>(cell: &'a CellLayout, name: &str) -> Result<&'a NodeLayout> {
    let missing = || Error::Layout(format!("cell `{}` has no node `{name}`", cell.name));
    cell.node(name).ok_or_else(missing)
}

fn manifests_of(cell: &CellLayout, directory: &LabDirectory) -> Result<PathBuf> {
    let own = node(cell, CONTROL_PLANE)?;
    Ok(directory.node(&own.namespace).join("manifests"))
}

fn worker_of(cell: &CellLayout, directory: &LabDirectory) -> Result<Worker> {
    let own = node(cell, WORKER)?;
    let networks = Networks::of(cell)?;
    Ok(Worker {
        directory: directory.node(&own.namespace),
        lab: directory.0.clone(),
        namespace: own.namespace.clone(),
        inside: own.inside.clone(),
        cell: cell.inside.clone(),
        pods: networks.pods,
        dns: networks.dns(),
        kubelet: programs::cluster("kubelet"),
        kube_proxy: programs::cluster("kube-proxy"),
        unpacked: programs::node(),
    })
}

fn control_plane(cell: &CellLayout, place: &Place) -> Result<Vec<Service>> {
    let own = node(cell, CONTROL_PLANE)?;
    let files = place.directory.node(&own.namespace);
    let kubeconfig = secrets::kubeconfig(&place.directory, own)
        .display()
        .to_string();
    let keys = secrets::keys(&place.directory, cell);
    let key = |name: &str| keys.join(name).display().to_string();
    let signing = key(&format!("{}.key", secrets::SERVICE_ACCOUNTS));
    let etcd = SocketAddr::from(([127, 0, 0, 1], ETCD_PORT));
    let api = SocketAddr::new(own.inside[0], API_PORT);
    let service = |name: &str, after: Option<SocketAddr>, arguments: Vec<String>| Service {
        role: Role::Part,
        namespace: own.namespace.clone(),
        program: programs::cluster(name),
        arguments,
        after,
        log: files.join(format!("{name}.log")),
    };
    let etcd_arguments = vec![
        format!("--data-dir={}", files.join("etcd").display()),
        format!("--listen-client-urls=http://{etcd}"),
        format!("--advertise-client-urls=http://{etcd}"),
        // What is in it dies with the lab.
        "--unsafe-no-fsync".to_string(),
    ];
    let client = |more: &[&str]| {
        let own = [
            format!("--kubeconfig={kubeconfig}"),
            "--leader-elect=false".to_string(),
            "--secure-port=0".to_string(),
        ];
        let more = more.iter().map(ToString::to_string);
        own.into_iter().chain(more).collect::<Vec<String>>()
    };
    // A node that is silent is noticed after 10 s instead of 50 s.
    let manager = client(&[
        &format!("--service-account-private-key-file={signing}"),
        &format!("--root-ca-file={}", key(secrets::AUTHORITY)),
        "--node-monitor-grace-period=10s",
        "--node-monitor-period=1s",
    ]);
    Ok(vec![
        service("etcd", None, etcd_arguments),
        service(
            "kube-apiserver",
            Some(etcd),
            api_server(cell, own, etcd, &key)?,
        ),
        service("kube-controller-manager", Some(api), manager),
        service("kube-scheduler", Some(api), client(&[])),
    ])
}

fn api_server(
    cell: &CellLayout,
    own: &NodeLayout,
    etcd: SocketAddr,
    key: &dyn Fn(&str) -> String,
) -> Result<Vec<String>> {
    let [v4, v6] = Networks::of(cell)?.services;
    Ok(vec![
        format!("--etcd-servers=http://{etcd}"),
        "--bind-address=::".to_string(),
        format!("--advertise-address={}", own.inside[0]),
        format!("--secure-port={API_PORT}"),
        format!(
            "--tls-cert-file={}",
            key(&format!("{}.pem", secrets::API_SERVER))
        ),
        format!(
            "--tls-private-key-file={}",
            key(&format!("{}.key", secrets::API_SERVER))
        ),
        format!("--service-cluster-ip-range={v4},{v6}"),
        "--service-account-issuer=https://kubernetes.default.svc".to_string(),
        format!(
            "--service-account-key-file={}",
            key(&format!("{}.pub", secrets::SERVICE_ACCOUNTS))
        ),
        format!(
            "--service-account-signing-key-file={}",
            key(&format!("{}.key", secrets::SERVICE_ACCOUNTS))
        ),
        format!("--token-auth-file={}", key(secrets::TOKENS)),
        "--authorization-mode=RBAC".to_string(),
        // exec and logs would resolve the node's name by DNS otherwise.
        "--kubelet-preferred-address-types=InternalIP".to_string(),
    ])
}

fn own_program(place: &Place) -> PathBuf {
    place.programs.join("cellwall-lab")
}

fn worker(cell: &CellLayout, place: &Place) -> Result<Service> {
    let own = node(cell, WORKER)?;
    let files = place.directory.node(&own.namespace);
    Ok(Service {
        role: Role::Part,
        namespace: own.namespace.clone(),
        program: own_program(place),
        arguments: vec!["worker".to_string(), files.display().to_string()],
        after: None,
        log: files.join("worker.log"),
    })
}

fn deployment(cell: &CellLayout, place: &Place) -> Result<Service> {
    let own = node(cell, CONTROL_PLANE)?;
    let files = place.directory.node(&own.namespace);
    let arguments = [
        PathBuf::from("deploy"),
        programs::cluster("kubectl"),
        secrets::kubeconfig(&place.directory, own),
        manifests_of(cell, &place.directory)?,
    ];
    Ok(Service {
        role: Role::Task,
        namespace: own.namespace.clone(),
        program: own_program(place),
        arguments: arguments
            .iter()
            .map(|argument| argument.display().to_string())
            .collect(),
        after: Some(SocketAddr::new(own.inside[0], API_PORT)),
        log: files.join("deploy.log"),
    })
}
