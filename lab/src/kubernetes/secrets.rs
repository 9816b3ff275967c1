//! What a cell's control plane trusts: certificates, one token, kubeconfigs; all die with the lab.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};

use super::network::Networks;
use super::{API_PORT, CONTROL_PLANE, WORKER};
use crate::error::{Error, Result};
use crate::layout::{CellLayout, Layout, NodeLayout};
use crate::state::LabDirectory;
use crate::tls::{Authority, write_secret};

/// Names in the directory of a control plane's keys.
pub const AUTHORITY: &str = "ca.pem";
pub const API_SERVER: &str = "apiserver";
pub const SERVICE_ACCOUNTS: &str = "service-accounts";
pub const TOKENS: &str = "tokens.csv";

pub fn keys(directory: &LabDirectory, cell: &CellLayout) -> PathBuf {
    directory
        .node(&format!("{CONTROL_PLANE}.{}", cell.name))
        .join("keys")
}

/// The kubeconfig of the cell's own parts, on one of its nodes.
pub fn kubeconfig(directory: &LabDirectory, node: &NodeLayout) -> PathBuf {
    directory.node(&node.namespace).join("kubeconfig")
}

/// Writes the keys of every cell, the kubeconfigs of its nodes, and one kubeconfig with a context
/// for each cell for who stands outside.
pub fn write(directory: &LabDirectory, layout: &Layout) -> Result<()> {
    let mut outside = Vec::new();
    for cell in &layout.cells {
        let authority = Authority::new(&format!("kubernetes of {}", cell.name))?;
        let token = token()?;
        write_keys(&keys(directory, cell), cell, &authority, &token)?;
        let control_plane = super::node(cell, CONTROL_PLANE)?;
        let access = |address: &IpAddr| Access {
            name: cell.name.clone(),
            server: format!("https://{}", std::net::SocketAddr::new(*address, API_PORT)),
            authority: BASE64_STANDARD.encode(&authority.pem),
            token: token.clone(),
        };
        let inside = text(&[access(&control_plane.inside[0])]);
        for name in [CONTROL_PLANE, WORKER] {
            let node = super::node(cell, name)?;
            write_secret(&kubeconfig(directory, node), &inside)?;
        }
        outside.push(access(&control_plane.public[0]));
    }
    write_secret(&directory.kubeconfig(), &text(&outside))
}

fn write_keys(keys: &Path, cell: &CellLayout, authority: &Authority, token: &str) -> Result<()> {
    fs::create_dir_all(keys).map_err(Error::file("make", keys))?;
    write_secret(&keys.join(AUTHORITY), &authority.pem)?;
    let mut names = Vec::new();
    for name in ["kubernetes", "kubernetes.default", "kubernetes.default.svc"] {
        names.push(SanType::DnsName(name.try_into()?));
    }
    let control_plane = super::node(cell, CONTROL_PLANE)?;
    let api = Networks::of(cell)?.api();
    let addresses = control_plane.public.iter().chain(&control_plane.inside);
    names.extend(addresses.chain([&api]).map(|a| SanType::IpAddress(*a)));
    authority.leaf(keys, API_SERVER, ExtendedKeyUsagePurpose::ServerAuth, names)?;
    let accounts = KeyPair::generate()?;
    let file = |ending: &str| keys.join(format!("{SERVICE_ACCOUNTS}.{ending}"));
    write_secret(&file("key"), &accounts.serialize_pem())?;
    write_secret(&file("pub"), &accounts.public_key_pem())?;
    let line = format!("{token},admin,admin,\"system:masters\"\n");
    write_secret(&keys.join(TOKENS), &line)
}

/// 122 random bits.
fn token() -> Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    let uuid = fs::read_to_string(path).map_err(Error::file("read", path))?;
    Ok(uuid.trim().to_string())
}

struct Access {
    name: String,
    server: String,
    authority: String,
    token: String,
}

fn text(all: &[Access]) -> String {
    let mut clusters = String::new();
    let mut users = String::new();
    let mut contexts = String::new();
    for access in all {
        let Access {
            name,
            server,
            authority,
            token,
        } = access;
        clusters += &format!(
            "- name: {name}\n  cluster:\n    server: {server}\n    \
             certificate-authority-data: {authority}\n"
        );
        users += &format!("- name: {name}\n  user: {{ token: {token} }}\n");
        contexts += &format!("- name: {name}\n  context: {{ cluster: {name}, user: {name} }}\n");
    }
    let current = all.first().map_or("", |access| access.name.as_str());
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {current}\nclusters:\n{clusters}users:\n\
         {users}contexts:\n{contexts}"
    )
}
