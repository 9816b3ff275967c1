//! What runs in a cell, as manifests: templates filled with the cell's addresses and wiring.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::config::SHOP_IMAGE;
use super::network::Networks;
use super::worker::Worker;
use super::{WORKER, programs};
use crate::error::{Error, Result};
use crate::flaw::{Argument, Spot, Wiring};
use crate::layout::{CellLayout, Layout};

const TEMPLATES: [(&str, &str); 2] = [
    ("10-dns.yaml", include_str!("manifests/dns.yaml")),
    ("20-shop.yaml", include_str!("manifests/shop.yaml")),
];
/// Only in the cell that serves all others, in a flawed fleet.
const SHARED: (&str, &str) = ("30-shared.yaml", include_str!("manifests/shared.yaml"));
const PRICING_PORT: u16 = 8081;
const STORE_PORT: u16 = 8082;
const SHARED_PORT: u16 = 8083;
const DNS_PORT: u16 = 53;
/// The names of the services as the cell's own DNS knows them.
const OWN_PRICING: &str = "pricing.shop.svc.cluster.local";
const OWN_STORE: &str = "store.shop.svc.cluster.local";

/// Writes the manifests of the cell with this index into a directory of their own.
pub fn write(layout: &Layout, cell: usize, worker: &Worker, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
    let values = values(layout, cell, worker)?;
    let shared = Wiring::of(layout, cell).serves_all.then_some(SHARED);
    for (name, template) in TEMPLATES.into_iter().chain(shared) {
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
        ("shared_ip", networks.shared().to_string()),
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
    let wiring = Wiring::of(layout, cell);
    let foreign = wiring.resolver != cell;
    let resolver = match foreign {
        true => super::node(&layout.cells[wiring.resolver], WORKER)?.public[0],
        false => networks.dns(),
    };
    // A foreign resolver knows nothing of this cell's cluster.local.
    let pricing = match foreign || wiring.pricing != cell {
        true => format!("pricing.{}.example", layout.cells[wiring.pricing].name),
        false => OWN_PRICING.to_string(),
    };
    let store = match wiring.store == Spot::Store(cell) && !foreign {
        true => format!("{OWN_STORE}:{STORE_PORT}"),
        false => address(layout, cell, wiring.store)?.to_string(),
    };
    Ok(vec![
        ("pricing_host", format!("{pricing}:{PRICING_PORT}")),
        ("resolver", format!("{resolver}:{DNS_PORT}")),
        ("store", store),
        ("front_flaws", more_words(layout, cell, &wiring.front)?),
        (
            "store_flaws",
            more_words(layout, cell, &wiring.store_arguments)?,
        ),
    ])
}

/// Where a spot is, seen from a pod of a cell: another cell's is behind its worker.
fn address(layout: &Layout, from: usize, spot: Spot) -> Result<SocketAddr> {
    let own = Networks::of(&layout.cells[from])?;
    let (cell, inside, port) = match spot {
        Spot::Host(host) => return Ok(host),
        Spot::Pricing(cell) => (cell, own.pricing(), PRICING_PORT),
        Spot::Store(cell) => (cell, own.store(), STORE_PORT),
        Spot::Shared(cell) => (cell, own.shared(), SHARED_PORT),
    };
    let ip = match cell == from {
        true => inside,
        false => super::node(&layout.cells[cell], WORKER)?.public[0],
    };
    Ok(SocketAddr::new(ip, port))
}

/// Further words of a YAML list on one line.
fn more_words(layout: &Layout, cell: usize, all: &[Argument]) -> Result<String> {
    let mut list = String::new();
    for argument in all {
        let word = match argument {
            Argument::Word(word) => word.clone(),
            Argument::Spot(before, spot) => {
                format!("{before}{}", address(layout, cell, *spot)?)
            }
            // All fronts are replicas of one Deployment.
            Argument::Turn(_) => {
                let why = "pods of one Deployment cannot be told apart by their arguments";
                return Err(Error::Layout(why.to_string()));
            }
        };
        list += &format!(", \"{word}\"");
    }
    Ok(list)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Description;
    use crate::flaw::Flaw;
    use crate::kind::{Kind, Place};
    use crate::state::LabDirectory;

    /// All manifests of the first two cells of a fleet with this flaw.
    fn rendered(flaw: &str) -> [String; 2] {
        let place = Place {
            directory: LabDirectory("/nowhere".into()),
            programs: "/bin".into(),
        };
        let flaws: Vec<Flaw> = Flaw::named(flaw).into_iter().collect();
        let cells = Description::default_fleet(3);
        let layout = Layout::new("a", Kind::Kubernetes, &flaws, &cells, &place).unwrap();
        [0, 1].map(|cell| {
            let worker = super::super::worker_of(&layout.cells[cell], &place.directory).unwrap();
            let values = values(&layout, cell, &worker).unwrap();
            let shared = Wiring::of(&layout, cell).serves_all.then_some(SHARED);
            let templates = TEMPLATES.into_iter().chain(shared);
            templates.map(|(_, text)| fill(text, &values)).collect()
        })
    }

    #[test]
    fn a_flaw_is_only_another_word_of_a_manifest() {
        let sound = rendered("none");
        assert!(sound[1].contains("\"--store=store.shop.svc.cluster.local:8082\"]"));
        assert!(!sound[0].contains("name: shared"));
        for (flaw, wanted) in [
            ("shared-auth", "\"--needs\", \"token=198.51.100.11:8083\"]"),
            ("shared-clock", "\"--needs\", \"clock=198.51.100.11:8083\"]"),
            ("shared-database", "\"--store=198.51.100.11:8082\"]"),
            ("shared-resolver", "\"--store=10.2.96.21:8082\"]"),
            ("managed-database", "\"--store=198.51.100.40:5432\"]"),
            ("cross-cell-call", "\"--detour\", \"198.51.100.11:8081\", "),
            (
                "retry-storm",
                "\"--workers\", \"2\", \"--work-ms\", \"48\"]",
            ),
            ("lossy-store", "--data, /data/orders, \"--lossy\", \"10\"]"),
        ] {
            let [first, second] = rendered(flaw);
            assert!(second.contains(wanted), "{flaw}: {second}");
            assert!(!sound[1].contains(wanted), "{flaw}");
            assert!(!first.contains("{{") && !second.contains("{{"), "{flaw}");
            // Others reach the first cell's parts by its worker.
            assert!(first.contains("externalIPs: [\"198.51.100.11\""), "{flaw}");
        }
        assert!(rendered("shared-auth")[0].contains("clusterIP: 10.1.96.22"));
    }
}
