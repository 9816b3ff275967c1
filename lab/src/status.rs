//! Which labs are up, what is in them, and how to stand in one of their namespaces.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::flaw::Flaw;
use crate::kind::Kind;
use crate::process::ProcessId;
use crate::state::{LabDirectory, Record, Root, Step};

/// What `status --json` prints.
#[derive(Serialize)]
pub struct Report {
    pub labs: Vec<LabReport>,
}

/// One lab that is up. All pids are the host's.
#[derive(Serialize)]
pub struct LabReport {
    pub name: String,
    pub kind: Kind,
    pub flaws: Vec<Flaw>,
    pub holder_pid: i32,
    pub janitor_pid: i32,
    pub directory: PathBuf,
    pub fleet_file: PathBuf,
    pub cells: Vec<CellReport>,
    /// Names that `exec` knows besides the cells' nodes.
    pub others: Vec<String>,
}

#[derive(Serialize)]
pub struct CellReport {
    pub name: String,
    pub cloud: String,
    pub region: String,
    pub addresses: Vec<IpAddr>,
    pub nodes: Vec<NodeReport>,
}

#[derive(Serialize)]
pub struct NodeReport {
    pub name: String,
    /// Public ones first, then those of the cell's inside.
    pub addresses: Vec<IpAddr>,
    pub agent: SocketAddr,
    /// None while it is being started again.
    pub agent_pid: Option<i32>,
}

/// Every lab that is up; `None` stands for all names.
pub fn report(root: &Root, name: Option<&str>) -> Result<Report> {
    root.sweep()?;
    let mut labs = Vec::new();
    for (directory, record) in root.labs()? {
        let Some(holder) = &record.holder else {
            continue;
        };
        let up = record.step == Step::Up && holder.open().is_some();
        if up && name.is_none_or(|name| name == record.name) {
            labs.push(lab_report(&directory, &record, holder)?);
        }
    }
    Ok(Report { labs })
}

fn lab_report(directory: &LabDirectory, record: &Record, holder: &ProcessId) -> Result<LabReport> {
    let layout = directory.layout()?;
    let mut known = Vec::new();
    let mut cells = Vec::new();
    for cell in &layout.cells {
        known.extend(cell.nodes.iter().map(|node| node.namespace.clone()));
        let nodes = cell.nodes.iter().map(|node| NodeReport {
            name: node.name.clone(),
            addresses: node.public.iter().chain(&node.inside).copied().collect(),
            agent: node.agent,
            agent_pid: record.agents.get(&node.namespace).copied(),
        });
        cells.push(CellReport {
            name: cell.name.clone(),
            cloud: cell.cloud.clone(),
            region: cell.region.clone(),
            addresses: cell.addresses.clone(),
            nodes: nodes.collect(),
        });
    }
    let others = layout.hosts().map(|host| host.namespace.clone());
    Ok(LabReport {
        name: record.name.clone(),
        kind: layout.kind,
        flaws: layout.flaws.clone(),
        holder_pid: holder.pid,
        janitor_pid: record.keeper.pid,
        directory: directory.0.clone(),
        fleet_file: directory.fleet_file(),
        others: others.filter(|name| !known.contains(name)).collect(),
        cells,
    })
}

impl Report {
    /// For people.
    pub fn text(&self) -> String {
        if self.labs.is_empty() {
            return "no lab is up\n".to_string();
        }
        let mut lines = Vec::new();
        for lab in &self.labs {
            let kind = clap::ValueEnum::to_possible_value(&lab.kind);
            let kind = kind.map_or_else(String::new, |kind| kind.get_name().to_string());
            lines.push(format!(
                "lab {} ({kind}), holder {}",
                lab.name, lab.holder_pid
            ));
            lines.push(format!("  fleet   {}", lab.fleet_file.display()));
            for flaw in &lab.flaws {
                lines.push(format!("  flaw    {}", flaw.name()));
            }
            for cell in &lab.cells {
                let addresses: Vec<String> = cell.addresses.iter().map(IpAddr::to_string).collect();
                lines.push(format!(
                    "  cell    {} in {} ({}): {}",
                    cell.name,
                    cell.cloud,
                    cell.region,
                    addresses.join(", ")
                ));
                for node in &cell.nodes {
                    let pid = node
                        .agent_pid
                        .map_or("starting".to_string(), |pid| pid.to_string());
                    let name = format!("{}.{}", node.name, cell.name);
                    lines.push(format!("    {name:<24} agent {} pid {pid}", node.agent));
                }
            }
            lines.push(format!("  others  {}", lab.others.join(" ")));
        }
        lines.join("\n") + "\n"
    }
}

/// The lab of this name, or the only one. It may still be coming up.
pub fn find(root: &Root, name: Option<&str>) -> Result<(LabDirectory, Record)> {
    root.sweep()?;
    let mut labs = root.labs()?;
    let names: Vec<String> = labs.iter().map(|(_, record)| record.name.clone()).collect();
    let at = match name {
        Some(name) => names
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| match names.is_empty() {
                true => Error::NoLab,
                false => Error::NoSuchLab {
                    name: name.to_string(),
                    up: names.join(", "),
                },
            })?,
        None if names.is_empty() => return Err(Error::NoLab),
        None if names.len() > 1 => return Err(Error::SeveralLabs(names.join(", "))),
        None => 0,
    };
    Ok(labs.swap_remove(at))
}
