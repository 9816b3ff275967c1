//! Container images from one static program: an archive as `docker save` writes it, no registry.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::config::{PAUSE_IMAGE, SHOP_IMAGE};
use crate::error::{Error, Result};

/// The shop as one static program, beside the other programs of the lab.
pub const PROGRAM: &str = "shop.static";
const LAYER: &str = "layer.tar";
const ARCHIVE: &str = "shop.tar";
/// Of an ELF header: `\x7fELF`.
const ELF: [u8; 4] = [0x7f, b'E', b'L', b'F'];

/// Two images of one layer: the shop, and what holds a pod's namespaces.
pub fn write_shop(programs: &Path, directory: &Path) -> Result<()> {
    let program = programs.join(PROGRAM);
    let bytes = fs::read(&program).map_err(|_| Error::MissingBinary(program.clone()))?;
    if !bytes.starts_with(&ELF) || has_interpreter(&bytes) {
        return Err(Error::Layout(format!(
            "{} is no static program and would find no libraries in a container: `make build` \
             makes it static",
            program.display()
        )));
    }
    let images = [
        Image {
            tag: SHOP_IMAGE,
            entrypoint: &["/shop"],
        },
        Image {
            tag: PAUSE_IMAGE,
            entrypoint: &["/shop", "pause"],
        },
    ];
    let path = directory.join(ARCHIVE);
    let file = File::create(&path).map_err(Error::file("make", &path))?;
    archive(&images, &[("shop", &bytes)], file).map_err(Error::file("write", &path))
}

struct Image<'a> {
    tag: &'a str,
    entrypoint: &'a [&'a str],
}

/// The same bytes for the same content: no times, no owners.
fn archive(images: &[Image<'_>], files: &[(&str, &[u8])], out: impl Write) -> io::Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    for (path, content) in files {
        append(&mut layer, path, content, 0o755)?;
    }
    let layer = layer.into_inner()?;
    let digest = hex(&Sha256::digest(&layer));
    let mut archive = tar::Builder::new(out);
    append(&mut archive, LAYER, &layer, 0o644)?;
    let mut manifest = Vec::new();
    for image in images {
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": image.entrypoint },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        });
        let config = serde_json::to_vec(&config)?;
        let name = format!("{}.json", hex(&Sha256::digest(&config)));
        append(&mut archive, &name, &config, 0o644)?;
        manifest.push(json!({
            "Config": name,
            "RepoTags": [image.tag],
            "Layers": [LAYER],
        }));
    }
    append(
        &mut archive,
        "manifest.json",
        &serde_json::to_vec(&manifest)?,
        0o644,
    )?;
    archive.into_inner()?.flush()
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    content: &[u8],
    mode: u32,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    archive.append_data(&mut header, path, content)
}

/// As the image specification names processors.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a 64-bit little-endian ELF file asks for a dynamic loader: a program header of the type
/// PT_INTERP (elf(5)).
fn has_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, length: usize| -> Option<usize> {
        let mut all = [0; 8];
        elf.get(at..at.checked_add(length)?)?
            .read_exact(&mut all[..length])
            .ok()?;
        usize::try_from(u64::from_le_bytes(all)).ok()
    };
    let headers = || {
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        Some((0..count).map(move |index| table.saturating_add(index * size)))
    };
    headers().is_some_and(|mut all| all.any(|at| number(at, 4) == Some(PT_INTERP as usize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Vec<u8> {
        let image = Image {
            tag: "example/a:b",
            entrypoint: &["/a"],
        };
        let mut out = Vec::new();
        archive(&[image], &[("a", b"content")], &mut out).unwrap();
        out
    }

    #[test]
    fn the_manifest_names_what_is_in_the_archive_and_the_digest_is_the_layers() {
        let written = bytes();
        assert_eq!(written, bytes(), "the same content gives the same bytes");
        let mut entries = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(&written[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            entries.insert(path, content);
        }
        let manifest: serde_json::Value =
            serde_json::from_slice(&entries["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "example/a:b");
        let config = &entries[manifest[0]["Config"].as_str().unwrap()];
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        let layer = &entries[manifest[0]["Layers"][0].as_str().unwrap()];
        let digest = format!("sha256:{}", hex(&Sha256::digest(layer)));
        assert_eq!(config["rootfs"]["diff_ids"][0], digest);
        assert_eq!(config["config"]["Entrypoint"][0], "/a");
    }

    #[test]
    fn a_program_that_wants_a_loader_is_told_from_a_static_one() {
        // This test itself is linked as Debian links everything.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(has_interpreter(&own));
        assert!(!has_interpreter(b"\x7fELF"));
    }
}
