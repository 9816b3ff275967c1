//! The fleet file of a lab: what a user would write by hand for the same fleet.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::description::Description;
use crate::error::{Error, Result};
use crate::internet;
use crate::layout::{CellLayout, Layout};
use crate::state::LabDirectory;
use crate::tls::CONDUCTOR;

/// What users of every cell do; one stream per probe and cell.
const PROBES: &str = r#"  probes:
    home:
      plane: data
      http: { url: "http://{cell}/", expect: { status: 200 } }
      rate: 20/s
      timeout: 1s
      slo: 500ms
    checkout:
      plane: data
      http: { url: "http://{cell}/checkout", expect: { status: 200 } }
      rate: 20/s
      timeout: 1s
      slo: 500ms
    orders:
      plane: data
      http:
        method: POST
        url: "http://{cell}/orders"
        body: '{"id":"{id}"}'
        expect: { status: 201 }
      readBack: "http://{cell}/orders/{id}"
      update: { url: "http://{cell}/orders/{id}", body: '{"version":{version}}', expect: { status: 200 } }
      delete: { url: "http://{cell}/orders/{id}", expect: { status: 200 } }
      rate: 20/s
      timeout: 1s
      slo: 500ms
"#;

/// Writes `fleet.yaml` and reads it back as every other part of cellwall will.
pub fn write(directory: &LabDirectory, layout: &Layout) -> Result<()> {
    let path = directory.fleet_file();
    let text = text(layout);
    std::fs::write(&path, &text).map_err(Error::file("write", &path))?;
    match scenarios::read_fleet(&text, &path.display().to_string()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::WrittenFleet(error.to_string())),
    }
}

/// The YAML. Names are checked words and the rest are addresses and numbers, so nothing in it
/// needs escaping but the IPv6 colons, which are quoted.
pub fn text(layout: &Layout) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_text(&mut out, layout);
    out
}

/// Which parts of a user's fleet file the lab does not take, in one line.
pub fn remark(wanted: &Description, layout: &Layout) -> String {
    let mut dropped = Vec::new();
    for cell in &wanted.cells {
        let built = layout.cells.iter().find(|built| built.name == cell.name);
        let built = built.map(|built| &built.uses);
        let missing = |name: &&String| built.is_none_or(|uses| !uses.contains_key(*name));
        let names = cell.uses.keys().filter(missing);
        dropped.extend(names.map(|name| format!("{}.{name}", cell.name)));
    }
    let uses = match dropped.is_empty() {
        true => "all kept".to_string(),
        false => format!(
            "dropped {} (the lab has no such address)",
            dropped.join(", ")
        ),
    };
    format!("the lab's own: probes, entrypoints, operator, references, tls; uses: {uses}")
}

fn write_text(out: &mut String, layout: &Layout) -> std::fmt::Result {
    writeln!(out, "# Written by `cellwall-lab up`; gone with the lab.")?;
    writeln!(out, "apiVersion: cellwall.dev/v1\nkind: Fleet")?;
    writeln!(out, "metadata: {{ name: {} }}", layout.name)?;
    writeln!(out, "spec:")?;
    writeln!(
        out,
        "  operator: {{ addresses: {} }}",
        addresses(&internet::operator())
    )?;
    writeln!(
        out,
        "  tls: {{ ca: tls/ca.pem, certificate: tls/{CONDUCTOR}.pem, key: tls/{CONDUCTOR}.key }}"
    )?;
    writeln!(out, "  clouds:")?;
    for cloud in &layout.clouds {
        writeln!(
            out,
            "    {}: {{ prefixes: {} }}",
            cloud.name,
            nets(&cloud.prefixes)
        )?;
    }
    writeln!(out, "  cells:")?;
    for cell in &layout.cells {
        write_cell(out, cell)?;
        out.push_str(&layout.kind.builder().fleet_lines(cell).cell);
    }
    out.push_str(PROBES);
    if let Some(first) = layout.cells.first() {
        out.push_str(layout.kind.builder().fleet_lines(first).probes);
    }
    write_entrypoint(out, layout)?;
    writeln!(out, "  references: {}", sockets(&internet::references()))
}

fn write_cell(out: &mut String, cell: &CellLayout) -> std::fmt::Result {
    writeln!(out, "    {}:", cell.name)?;
    writeln!(out, "      cloud: {}", cell.cloud)?;
    writeln!(out, "      region: {}", cell.region)?;
    writeln!(out, "      addresses: {}", addresses(&cell.addresses))?;
    writeln!(out, "      prefixes: {}", nets(&cell.inside))?;
    writeln!(out, "      nodes:")?;
    for node in &cell.nodes {
        writeln!(
            out,
            "        - {{ name: {}, address: \"{}\", agent: \"{}\" }}",
            node.name, node.public[0], node.agent
        )?;
    }
    if !cell.uses.is_empty() {
        writeln!(out, "      uses:")?;
    }
    for (name, endpoint) in &cell.uses {
        let (address, port) = (endpoint.ip(), endpoint.port());
        writeln!(
            out,
            "        {name}: {{ address: \"{address}\", port: {port} }}"
        )?;
    }
    Ok(())
}

fn write_entrypoint(out: &mut String, layout: &Layout) -> std::fmt::Result {
    let Some(first) = layout.cells.first() else {
        return Ok(());
    };
    let shares: Vec<String> = internet::shares(&layout.cells)
        .iter()
        .map(|(cell, percent)| format!("{}: {percent}%", cell.name))
        .collect();
    writeln!(out, "  entrypoints:\n    shop:")?;
    writeln!(out, "      region: {}", first.region)?;
    writeln!(
        out,
        "      dns: {{ name: {}, resolver: \"{}\" }}",
        internet::ENTRYPOINT,
        internet::resolver()
    )?;
    writeln!(
        out,
        "      http: {{ url: \"http://{{address}}/checkout\", expect: {{ status: 200 }} }}"
    )?;
    writeln!(out, "      rate: 60/s\n      timeout: 1s\n      slo: 500ms")?;
    writeln!(out, "      shares: {{ {} }}", shares.join(", "))
}

fn list(items: impl Iterator<Item = String>) -> String {
    let quoted: Vec<String> = items.map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

fn addresses(all: &[IpAddr]) -> String {
    list(all.iter().map(IpAddr::to_string))
}

fn nets(all: &[IpNet]) -> String {
    list(all.iter().map(IpNet::to_string))
}

fn sockets(all: &[SocketAddr]) -> String {
    list(all.iter().map(SocketAddr::to_string))
}
