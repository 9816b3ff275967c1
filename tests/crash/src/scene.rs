//! What each scene puts in force: one mechanism in all its ways, or six mechanisms together.

use std::net::IpAddr;

use scenarios::change::{
    CgroupLimit, Change, Direction, FileAct, FileChange, FilesystemAct, FilesystemChange,
    FirewallCut, HelperChange, HelperWork, Instead, Limit, Management, Peers, ProcessAct,
    ProcessChange, Processes, QdiscChange, RouteChange, Shape, Tbf,
};

use crate::inventory::Section;
use crate::world::{OPERATOR, SIDE, UPLINK};
use crate::world::{World, files, groups};

/// Scenes on one node, heaviest first.
pub const SCENES: &[&str] = &[
    "six",
    "firewall",
    "filesystem",
    "file",
    "route",
    "process",
    "qdisc",
    "cgroup",
    "helper",
];

/// Whether file systems of its own are needed.
pub fn has_volumes(scene: &str) -> bool {
    scene == "filesystem"
}

/// What must differ while the scene's fault is in force: a fault that alters nothing proves nothing.
pub fn bites(scene: &str) -> &'static [Section] {
    use Section::{Files, Groups, Mounts, Nft, Processes, Qdiscs, Routes, Volumes};
    match scene {
        "firewall" => &[Nft],
        "route" => &[Routes],
        "qdisc" => &[Qdiscs],
        "process" => &[Processes, Groups],
        "cgroup" => &[Groups],
        "file" => &[Files],
        "filesystem" => &[Volumes, Mounts],
        "helper" => &[Processes],
        "six" => &[Nft, Routes, Qdiscs, Processes, Groups, Files],
        _ => &[],
    }
}

/// All in force at the same time.
pub fn changes(scene: &str, world: &World) -> Result<Vec<Change>, String> {
    Ok(match scene {
        "firewall" => firewall(),
        "route" => routes(),
        "qdisc" => qdiscs(),
        "process" => processes(world)?,
        "cgroup" => limits(world)?,
        "file" => files_of(world),
        "filesystem" => volumes(world),
        "helper" => helpers(),
        "six" => {
            let mut six = vec![firewall().remove(1), routes().remove(0), qdiscs().remove(0)];
            six.push(processes(world)?.remove(0));
            six.push(limits(world)?.remove(0));
            six.push(files_of(world).remove(0));
            six
        }
        other => return Err(format!("there is no scene {other}")),
    })
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap_or_default()
}

fn firewall() -> Vec<Change> {
    let cut = |peers, direction| {
        Change::Firewall(FirewallCut {
            peers,
            direction,
            management: Management::Keep,
        })
    };
    let some = vec![net("198.51.100.0/24"), net("2001:db8:1::/48")];
    let spared = vec![net("10.99.0.0/16")];
    vec![
        cut(Peers::Only(some), Direction::Both),
        cut(Peers::AllBut(spared), Direction::Ingress),
    ]
}

fn routes() -> Vec<Change> {
    let hop: IpAddr = IpAddr::from([10, 9, 0, 3]);
    let all = [
        ("10.50.0.0/16", 254, None),
        ("10.51.0.0/16", 254, Some(Instead::Blackhole)),
        ("10.52.0.0/16", 254, Some(Instead::Via(hop))),
        ("10.53.0.0/16", 254, Some(Instead::Unreachable)),
        ("fd50::/48", 254, None),
        ("fd51::/48", 254, Some(Instead::Prohibit)),
        ("10.60.0.0/16", 100, None),
    ];
    let change = |(destination, table, instead)| {
        Change::Route(RouteChange {
            destination: net(destination),
            table,
            instead,
        })
    };
    all.into_iter().map(change).collect()
}

/// Without netem, which this program's machine may lack; in the guest it is tried for real.
fn qdiscs() -> Vec<Change> {
    let change = |device: &str, shape| {
        Change::Qdisc(QdiscChange {
            device: device.to_owned(),
            shape,
        })
    };
    let tbf = Tbf {
        rate_bps: 10_000_000,
        burst_bytes: 32_000,
        latency_us: 50_000,
    };
    let towards = Shape::Towards {
        peers: vec![net("10.50.0.0/16"), net("fd50::/48")],
        rate_bps: 1_000_000,
        netem: None,
    };
    vec![change(UPLINK, Shape::Tbf(tbf)), change(SIDE, towards)]
}

fn processes(world: &World) -> Result<Vec<Change>, String> {
    let freeze = |processes| {
        Change::Process(ProcessChange {
            processes,
            act: ProcessAct::Freeze,
        })
    };
    let mut all = vec![freeze(Processes::Pids(world.victims.by_pid.to_vec()))];
    let groups = [world.groups.unified(), world.groups.freezer()];
    all.extend(
        groups
            .into_iter()
            .flatten()
            .map(|group| freeze(Processes::Cgroup(group))),
    );
    match all.len() {
        1 => Err("this machine has no freezer".to_owned()),
        _ => Ok(all),
    }
}

fn limits(world: &World) -> Result<Vec<Change>, String> {
    let mut all = Vec::new();
    let mut limit = |files: &[&str], limit: Limit| {
        let path = world.groups.victims_with(files);
        all.extend(path.map(|path| Change::Cgroup(CgroupLimit { path, limit })));
    };
    limit(&["cpu.max", "cpu.cfs_quota_us"], Limit::Cpu { millis: 200 });
    let bytes = 64 << 20;
    limit(
        &["memory.high", "memory.limit_in_bytes"],
        Limit::Memory { bytes },
    );
    if let Some((major, minor)) = groups::disk() {
        let io = Limit::Io {
            major,
            minor,
            read_bps: Some(1_000_000),
            write_bps: Some(2_000_000),
        };
        limit(&["io.max", "blkio.throttle.read_bps_device"], io);
    }
    match all.is_empty() {
        true => Err("no control group of this machine has a limit".to_owned()),
        false => Ok(all),
    }
}

fn files_of(world: &World) -> Vec<Change> {
    let change = |name: &str, act| {
        let path = world.place.files().join(name).display().to_string();
        Change::File(FileChange { path, act })
    };
    let content = "another text\n".repeat(40);
    vec![
        change(files::REPLACED, FileAct::Replace { content }),
        change(files::MOVED, FileAct::MoveAway),
        change(files::CHMODDED, FileAct::Chmod { mode: 0o000 }),
        change(files::TRUNCATED, FileAct::Truncate { bytes: 7 }),
    ]
}

fn volumes(world: &World) -> Vec<Change> {
    let change = |name: &str, act| {
        let path = world.place.volume(name).display().to_string();
        Change::Filesystem(FilesystemChange { path, act })
    };
    let leave_bytes = 64 << 10;
    vec![
        change("frozen", FilesystemAct::Freeze),
        change("readonly", FilesystemAct::ReadOnly),
        change("full", FilesystemAct::Fill { leave_bytes }),
    ]
}

fn helpers() -> Vec<Change> {
    let change = |work| Change::Helper(HelperChange { work });
    vec![
        change(HelperWork::BurnCpu { threads: 1 }),
        change(HelperWork::HoldMemory { bytes: 4 << 20 }),
    ]
}

/// Who must be reachable for the canary of a cut.
pub fn operator() -> &'static str {
    OPERATOR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_change_has_its_scene_and_every_scene_must_bite() {
        for kind in Change::KINDS {
            assert!(SCENES.contains(kind), "no scene for {kind}");
        }
        for scene in SCENES {
            assert!(!bites(scene).is_empty(), "{scene}");
        }
        assert_eq!(bites("six").len(), 6);
    }

    #[test]
    fn every_address_is_one() {
        let nothing = ipnet::IpNet::default();
        for change in [routes(), firewall(), qdiscs()].concat() {
            match change {
                Change::Route(route) => assert_ne!(route.destination, nothing),
                Change::Firewall(cut) => {
                    assert!(cut.peers.prefixes().iter().all(|net| *net != nothing));
                }
                _ => {}
            }
        }
    }
}
