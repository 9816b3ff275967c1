//! What stands in the way of a drill, and that nothing which is not ours is touched.

use std::io::Write;

use scenarios::change::Direction;

use crate::support::*;

fn simple() -> scenarios::plan::Plan {
    plan(
        5_000,
        vec![step(0, 0, 5_000, cut(&[PEER], Direction::Both))],
    )
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_table_of_our_name_without_a_journal_is_reported_and_forbids_arming() {
    let site = Site::new();
    site.node.command("nft", "add table ip cellwall_unknown");
    let _agent = site.start_agent();
    let client = site.client();
    let residue = client.status().unwrap().residue.join("; ");
    assert!(
        residue.contains("nftables table ip cellwall_unknown"),
        "{residue}"
    );
    let refused = words(client.arm("d", &simple()));
    assert!(refused.contains("cellwall_unknown") && refused.contains("nothing was altered"));
    let reply = client.revert("d").unwrap();
    assert!(
        reply.residue.join("; ").contains("cellwall_unknown"),
        "{reply:?}"
    );
    assert_eq!(
        site.node.our_tables(),
        1,
        "not in any journal: not ours to delete"
    );
    site.node.command("nft", "delete table ip cellwall_unknown");
    client.arm("d", &simple()).unwrap();
    client.revert_clean("d");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn what_the_kernel_refuses_is_named_before_anything_is_armed() {
    let (site, agent, client) = Site::with_agent();
    // The probe's own table is in the way: it fails as on a kernel without the feature.
    site.node.command(
        "nft",
        &format!("add table netdev cellwall_probe_{}", agent.pid()),
    );
    let refusals = client.plan(&simple()).unwrap().refusals.join("; ");
    assert!(refusals.contains("family netdev"), "{refusals}");
    let refused = words(client.arm("d", &simple()));
    assert!(refused.contains("family netdev"), "{refused}");
    assert!(
        !agent.state.join("journal/d.journal").exists(),
        "no journal, no change"
    );
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_corrupt_journal_is_undone_as_far_as_it_can_be_read_and_forbids_arming() {
    let site = Site::new();
    let journals = site.state.path().join("journal");
    std::fs::create_dir(&journals).unwrap();
    let golden = include_bytes!("../../src/journal/golden-v1.journal");
    let boot = agent::boottime::boot_id().unwrap();
    let mut file = std::fs::File::create(journals.join("d.journal")).unwrap();
    // Its first line is not readable: another boot's id stands there with the old checksum.
    file.write_all(
        String::from_utf8_lossy(golden)
            .replace("\"boot\"", &format!("{boot:?}"))
            .as_bytes(),
    )
    .unwrap();
    site.node.command("nft", "add table inet cellwall_d_0_0");
    let _agent = site.start_agent();
    let client = site.client();
    assert_eq!(site.node.our_tables(), 0, "the readable intent was undone");
    let residue = client.status().unwrap().residue.join("; ");
    assert!(residue.contains("d.journal is corrupt"), "{residue}");
    let refused = words(client.arm("e", &simple()));
    assert!(refused.contains("d.journal is corrupt"), "{refused}");
    std::fs::remove_file(journals.join("d.journal")).unwrap();
    client.arm("e", &simple()).unwrap();
    client.revert_clean("e");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_journal_of_another_boot_is_closed_without_touching_what_is_there_now() {
    let site = Site::new();
    let journals = site.state.path().join("journal");
    std::fs::create_dir(&journals).unwrap();
    let golden = include_bytes!("../../src/journal/golden-v1.journal");
    std::fs::write(journals.join("d.journal"), golden).unwrap();
    let agent = site.start_agent();
    assert!(site.client().status().unwrap().residue.is_empty());
    assert!(
        agent
            .closed("d", std::time::Duration::ZERO)
            .contains("start")
    );
}

/// All of the first write was on disk before the file had its name, so none of these is a crash's.
#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_journal_that_lacks_some_of_its_first_write_is_undone_and_forbids_arming() {
    let whole = crate::golden::of_this_boot(crate::golden::V2);
    let two: String = whole.split_inclusive('\n').take(2).collect(); // of three that arm
    for (text, left) in [("", 1), ("120 0011aabb {\"boott", 1), (&two, 0)] {
        let site = Site::new();
        let journals = site.state.path().join("journal");
        std::fs::create_dir(&journals).unwrap();
        std::fs::write(journals.join("d.journal"), text).unwrap();
        site.node.command("nft", "add table inet cellwall_d_0_0");
        let _agent = site.start_agent();
        let client = site.client();
        assert_eq!(site.node.our_tables(), left, "what is there was undone");
        let residue = client.status().unwrap().residue.join("; ");
        assert!(residue.contains("d.journal is corrupt"), "{residue}");
        let refused = words(client.arm("e", &simple()));
        assert!(refused.contains("d.journal is corrupt"), "{refused}");
        std::fs::remove_file(journals.join("d.journal")).unwrap();
        if left > 0 {
            site.node.command("nft", "delete table inet cellwall_d_0_0");
        }
        client.arm("e", &simple()).unwrap();
        client.revert_clean("e");
    }
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_drill_whose_agent_was_restarted_says_when_and_why_it_ended() {
    let (site, mut agent, client) = Site::with_agent();
    let before = boottime();
    client.cut("d", &simple());
    agent.crash();
    agent.closed("d", std::time::Duration::from_secs(5));
    let _agent = site.start_agent();
    client.wait_until_up();
    let reply = client.revert("d").unwrap();
    assert!(reply.verified && reply.residue.is_empty(), "{reply:?}");
    assert!(reply.cause.contains("the agent died"), "{reply:?}");
    assert!((before..boottime()).contains(&reply.ended_boottime_ns));
    for strange in ["never-seen", "../journal/d", ""] {
        let reply = client.revert(strange).unwrap();
        assert_eq!((reply.cause.as_str(), reply.ended_boottime_ns), ("", 0));
    }
}

/// The program with another number for each of its own and others' versions: as long as ours.
fn newer(folder: &std::path::Path) -> std::path::PathBuf {
    let (ours, newer) = (env!("CARGO_PKG_VERSION"), "9.9.9");
    assert_eq!(ours.len(), newer.len());
    let mut program = std::fs::read(env!("CARGO_BIN_EXE_cellwall-agent")).unwrap();
    let found: Vec<usize> = program
        .windows(ours.len())
        .enumerate()
        .filter_map(|(at, bytes)| (bytes == ours.as_bytes()).then_some(at))
        .collect();
    for at in found {
        program[at..at + newer.len()].copy_from_slice(newer.as_bytes());
    }
    let path = folder.join("cellwall-agent");
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn an_agent_that_comes_back_in_a_newer_version_has_ended_the_fault() {
    let (site, mut agent, client) = Site::with_agent();
    assert_eq!(client.status().unwrap().version, env!("CARGO_PKG_VERSION"));
    client.cut("d", &simple());
    nix::sys::signal::kill(guardian_of(agent.pid()), nix::sys::signal::Signal::SIGKILL).unwrap();
    agent.crash();
    let folder = tempfile::tempdir().unwrap();
    let program = newer(folder.path());
    let way = Way {
        program: &program,
        ..Way::usual(site.state.path())
    };
    let _agent = AgentProcess::start_as(&way, &site.node, &site.pki);
    client.wait_until_up();
    let status = client.status().unwrap();
    assert_eq!(status.version, "9.9.9");
    assert!(status.residue.is_empty(), "{status:?}");
    assert_eq!(site.node.our_tables(), 0);
    // By this the conductor calls its drill truncated.
    let refused = words(client.renew("d"));
    assert!(
        refused.contains("over") || refused.contains("not armed"),
        "{refused}"
    );
    let reply = client.revert("d").unwrap();
    assert!(reply.verified && reply.residue.is_empty(), "{reply:?}");
    assert!(
        !reply.cause.is_empty() && reply.ended_boottime_ns > 0,
        "{reply:?}"
    );
    client.cut("e", &simple());
    client.revert_clean("e");
}
