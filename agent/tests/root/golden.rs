//! Stored journals of every version still take back what they say, on a real kernel.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::*;

const V1: &str = include_str!("../../src/journal/golden-v1.journal");
pub const V2: &str = include_str!("../../src/journal/golden-v2.journal");

/// The same journal, had it been written in this boot: what a kernel held before a reboot is gone.
pub fn of_this_boot(golden: &str) -> String {
    let boot = agent::boottime::boot_id().unwrap();
    let mut text = String::new();
    let mut before = ("00000000".to_owned(), "00000000".to_owned()); // checksum: golden's, ours
    for line in golden.lines() {
        let mut parts = line.splitn(3, ' ').skip(1);
        let (golden_crc, json) = (parts.next().unwrap(), parts.next().unwrap());
        let link = |crc: &str| format!("\"prev\":\"{crc}\"");
        let json = json
            .replace("\"boot_id\":\"boot\"", &format!("\"boot_id\":\"{boot}\""))
            .replace(&link(&before.0), &link(&before.1));
        let crc = format!("{:08x}", crc32fast::hash(json.as_bytes()));
        text.push_str(&format!("{} {crc} {json}\n", json.len()));
        before = (golden_crc.to_owned(), crc);
    }
    text
}

fn revert_all(site: &Site, state: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellwall-agent"));
    command.args(["revert", "--all", "--state-dir"]).arg(state);
    site.node.run(move || command.output().unwrap())
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn every_version_still_takes_back_what_it_says() {
    let site = Site::new();
    for (version, golden) in [("1", V1), ("2", V2)] {
        let state = tempfile::tempdir().unwrap();
        let journals = agent::journal::directory(state.path());
        std::fs::create_dir(&journals).unwrap();
        let path = agent::journal::path_of(&journals, "d");
        std::fs::write(&path, of_this_boot(golden)).unwrap();
        site.node.command("nft", "add table inet cellwall_d_0_0");
        site.node.command("nft", "add table inet others");
        let output = revert_all(&site, state.path());
        assert!(output.status.success(), "version {version}: {output:?}");
        assert_eq!(site.node.our_tables(), 0, "version {version}");
        assert!(site.node.command("nft", "list tables").contains("others"));
        let contents = agent::journal::read(&path).unwrap();
        assert!(contents.closed && !contents.corrupt, "version {version}");
    }
}
