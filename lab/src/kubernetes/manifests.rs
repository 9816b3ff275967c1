//! What runs in a cell, as manifests: templates filled with the cell's addresses and wiring.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::config::SHOP_IMAGE;
use super::network::Networks;
use super::worker::Worker;
use super::{WORKER, programs};
use crate::error::{Error, Result};
use crate::flaw::Wiring;
use crate::layout::{CellLayout, Layout};

const TEMPLATES: [(&str, &str); 2] = [
    ("10-dns.yaml", include_str!("manifests/dns.yaml")),
    ("20-shop.yaml", include_str!("manifests/shop.yaml")),
];
const PRICING_PORT: u16 = 8081;
const STORE_PORT: u16 = 8082;
const DNS_PORT: u16 = 53;
/// The names of the services as the cell's own DNS knows them.
const OWN_PRICING: &str = "pricing.shop.svc.cluster.local";
const OWN_STORE: &str = "store.shop.svc.cluster.local";

/// Writes the manifests of the cell with this index into a directory of their own.
pub fn write(layout: &Layout, cell: usize, worker: &Worker, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
    let values = values(layout, cell, worker)?;
    for (name, template) in TEMPLATES {
        let path = directory.join(name);
        fs::write(&path, fill(template, &values)).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

fn fill(template: &str, values: &[(&str, String)]) -> String {
    values
        .iter()
        .fold(template.to_string(), |text, (name, value)| {
            text.replace(&format!("{{{{{name}}}}}"), value)
        })
}

type Values = Vec<(&'static str, String)>;

fn values(layout: &Layout, cell: usize, worker: &Worker) -> Result<Values> {
    let own = &layout.cells[cell];
    let networks = Networks::of(own)?;
    let coredns = programs::cluster("coredns");
    let mut all = vec![
        ("image", SHOP_IMAGE.to_string()),
        ("coredns_program", coredns.display().to_string()),
        ("dns_ip", networks.dns().to_string()),
        ("pricing_ip", networks.pricing().to_string()),
        ("store_ip", networks.store().to_string()),
        ("records", records(layout, cell)?),
        ("store_data", worker.file("orders").display().to_string()),
        ("public", public(own)?),
        ("wired_public", wired_public(layout, own)?),
    ];
    all.extend(wiring(layout, cell, &networks)?);
    Ok(all)
}

/// Where the fronts of a cell find pricing, names and the store. A flaw is only another value.
fn wiring(layout: &Layout, cell: usize, networks: &Networks) -> Result<Values> {
    let own = &layout.cells[cell];
    let wiring = Wiring::of(layout, cell);
    let pricing_cell = wiring.pricing_cell();
    let foreign = wiring.foreign_resolver();
    let resolver = match foreign {
        Some(other) => super::node(other, WORKER)?.public[0],
        None => networks.dns(),
    };
    // A foreign resolver knows nothing of this cell's cluster.local.
    let shared_zone = foreign.is_some() || pricing_cell.name != own.name;
    let pricing = match shared_zone {
        true => format!("pricing.{}.example", pricing_cell.name),
        false => OWN_PRICING.to_string(),
    };
    let store = match (wiring.foreign_store(), foreign) {
        (Some(database), _) => database.to_string(),
        (None, Some(_)) => format!("{}:{STORE_PORT}", networks.store()),
        (None, None) => format!("{OWN_STORE}:{STORE_PORT}"),
    };
    let arguments = wiring.store_arguments();
    let list: Vec<String> = arguments.iter().map(|a| format!(", \"{a}\"")).collect();
    Ok(vec![
        ("pricing_host", format!("{pricing}:{PRICING_PORT}")),
        ("resolver", format!("{resolver}:{DNS_PORT}")),
        ("store", store),
        ("store_flaws", list.concat()),
    ])
}

/// Lines of a hosts file: every cell's pricing, as a name in a shared zone would give it.
fn records(layout: &Layout, cell: usize) -> Result<String> {
    let mut lines = String::new();
    for (index, other) in layout.cells.iter().enumerate() {
        let address = match index == cell {
            true => Networks::of(other)?.pricing(),
            false => super::node(other, WORKER)?.public[0],
        };
        lines += &format!("            {address} pricing.{}.example\n", other.name);
    }
    Ok(lines.trim().to_string())
}

/// The worker's public addresses as a YAML list.
fn public(cell: &CellLayout) -> Result<String> {
    let worker = super::node(cell, WORKER)?;
    let quoted: Vec<String> = worker.public.iter().map(quote).collect();
    Ok(format!("[{}]", quoted.join(", ")))
}

/// Public addresses of what another cell may be wired to: only where a flaw wires it.
fn wired_public(layout: &Layout, cell: &CellLayout) -> Result<String> {
    match layout.flaws.is_empty() {
        true => Ok("[]".to_string()),
        false => public(cell),
    }
}

fn quote(address: &IpAddr) -> String {
    format!("\"{address}\"")
}
