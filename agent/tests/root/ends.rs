//! Every way in which a fault ends, each on real traffic, each without the ones before it.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use agent::changes::firewall::Undo as FirewallUndo;
use agent::changes::{Hands, Management, Undo};
use agent::journal::{Armed, FORMAT, Intent, Journal};
use agent::kernel::nft::{Family, Gate, Nft, SetKind, Table, Transaction};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scenarios::change::Direction;
use wire::State;

use crate::support::*;

/// A site with a cut of the peer in force: lease and duration in ms.
fn firing(lease_ms: u64, duration_ms: u64) -> (Site, AgentProcess, Client, UdpPath) {
    let (site, agent, client) = Site::with_agent();
    Echo::start(&site.peer, ECHO);
    let path = UdpPath::open(&site.node, PEER, ECHO);
    assert_eq!(
        path.ask(Duration::from_millis(300)),
        Reach::Answered,
        "before the cut"
    );
    let cut = cut(&[PEER, PEER_6], Direction::Both);
    client.cut("d", &plan(lease_ms, vec![step(0, 0, duration_ms, cut)]));
    assert_eq!(
        path.ask(Duration::from_millis(150)),
        Reach::Silent,
        "the cut bites"
    );
    (site, agent, client, path)
}

/// How long until traffic flows again.
fn back_after(path: &UdpPath, patience: Duration) -> Duration {
    let begun = Instant::now();
    while path.ask(Duration::from_millis(15)) != Reach::Answered {
        assert!(begun.elapsed() < patience, "no traffic after {patience:?}");
    }
    begun.elapsed()
}

fn revert_all(site: &Site) -> Output {
    let state = site.state.path().to_owned();
    site.node.run(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cellwall-agent"));
        command
            .args(["revert", "--all", "--state-dir"])
            .arg(state)
            .output()
            .unwrap()
    })
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn the_deadline_ends_it_although_the_lease_is_renewed() {
    let (site, _agent, client, path) = firing(5_000, 1_500);
    client.renew("d").unwrap();
    let took = back_after(&path, Duration::from_secs(2));
    assert!(took > Duration::from_millis(700), "ended early: {took:?}");
    std::thread::sleep(Duration::from_millis(50)); // the gate counts in ms: it may be a little earlier
    let refused = words(client.renew("d"));
    assert!(
        refused.contains("deadline") && refused.contains("nothing of ours"),
        "{refused}"
    );
    assert_eq!(site.node.our_tables(), 0);
    assert_eq!(client.status().unwrap().state(), State::Reverted);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn the_lease_ends_it_when_nobody_renews() {
    let (site, agent, client, path) = firing(1_500, 60_000);
    back_after(&path, Duration::from_millis(1_500));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(site.node.our_tables(), 0);
    assert_eq!(client.status().unwrap().state(), State::Reverted);
    assert!(agent.closed("d", Duration::from_secs(1)).contains("lease"));
}

/// The guardian hears of every renewal: else it would kill the agent a second past the first lease.
#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_lease_that_is_renewed_is_no_reason_for_the_guardian() {
    let (_site, agent, client, path) = firing(1_000, 60_000);
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(300));
        client.renew("d").unwrap();
    }
    assert_eq!(path.ask(Duration::from_millis(150)), Reach::Silent);
    assert_eq!(client.status().unwrap().state(), State::Firing);
    assert!(!agent.journal("d").contains("\"closed\""));
    client.revert_clean("d");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn an_armed_drill_whose_lease_runs_out_is_closed() {
    let (site, agent, client) = Site::with_agent();
    let cut = cut(&[PEER], Direction::Both);
    client
        .arm("d", &plan(1_000, vec![step(0, 0, 1_000, cut)]))
        .unwrap();
    std::thread::sleep(Duration::from_millis(600));
    client.renew("d").unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(client.status().unwrap().state(), State::Armed, "renewed");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(client.status().unwrap().state(), State::Reverted);
    assert!(agent.closed("d", Duration::from_secs(1)).contains("lease"));
    assert_eq!(site.node.our_tables(), 0);
    let refused = words(client.fire_in("d", Duration::from_millis(200)));
    assert!(refused.contains("is over (lease)"), "{refused}");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn revert_ends_it_and_may_come_again() {
    let (site, agent, client, path) = firing(30_000, 60_000);
    client.revert_clean("d");
    assert!(back_after(&path, Duration::from_secs(1)) < Duration::from_millis(100));
    client.revert_clean("d");
    client.revert_clean("never-seen");
    assert_eq!(site.node.our_tables(), 0);
    assert!(agent.closed("d", Duration::from_secs(1)).contains("revert"));
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn sigterm_reverts_first() {
    let (site, mut agent, _client, path) = firing(30_000, 60_000);
    agent.signal(Signal::SIGTERM);
    assert!(agent.wait(Duration::from_secs(2)).success());
    back_after(&path, Duration::from_millis(100));
    assert!(
        agent.closed("d", Duration::ZERO).contains("ending"),
        "closed by the agent itself"
    );
    assert_eq!(site.node.our_tables(), 0);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn kill_9_of_the_agent_ends_it_at_once_and_the_guardian_closes_the_journal() {
    let (site, mut agent, _client, path) = firing(30_000, 60_000);
    let guardian = guardian_of(agent.pid());
    let stopped = Stopped::stop(guardian); // the kernel alone ends it
    agent.crash();
    let took = back_after(&path, Duration::from_secs(1));
    println!("kill -9: traffic after {took:?}");
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert_eq!(site.node.our_tables(), 0);
    drop(stopped);
    assert!(
        agent
            .closed("d", Duration::from_secs(3))
            .contains("the agent died")
    );
    assert_eq!(site.node.our_tables(), 0);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_stopped_agent_loses_the_fault_at_the_lease_through_the_gate() {
    let (site, agent, client, path) = firing(1_500, 60_000);
    client.renew("d").unwrap();
    let renewed = Instant::now();
    agent.signal(Signal::SIGSTOP);
    back_after(&path, Duration::from_secs(3));
    let took = renewed.elapsed();
    println!("stopped agent: traffic {took:?} after the renewal, lease 1.5 s");
    assert!(
        took > Duration::from_millis(1_400) && took < Duration::from_millis(1_800),
        "{took:?}"
    );
    assert_eq!(
        site.node.our_tables(),
        2,
        "the tables are still there; the gate ended the fault"
    );
    // A late renewal, read before the agent sees its own timer, must not revive it.
    let late = client.clone();
    let renewal = std::thread::spawn(move || late.renew("d"));
    std::thread::sleep(Duration::from_millis(100));
    agent.signal(Signal::SIGCONT);
    let refused = words(renewal.join().unwrap());
    assert!(refused.contains("is over (lease)"), "{refused}");
    assert_eq!(path.ask(Duration::from_millis(200)), Reach::Answered);
    assert_eq!(site.node.our_tables(), 0);
    assert_eq!(client.status().unwrap().state(), State::Reverted);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn an_agent_stopped_past_the_deadline_is_killed_by_the_guardian() {
    let (site, mut agent, _client, path) = firing(30_000, 1_000);
    agent.signal(Signal::SIGSTOP);
    back_after(&path, Duration::from_secs(2)); // the gate: min(lease, what is left of the step)
    assert_eq!(site.node.our_tables(), 2);
    let status = agent.wait(Duration::from_secs(4));
    assert!(!status.success());
    assert!(
        agent
            .closed("d", Duration::from_secs(3))
            .contains("hung past the deadline")
    );
    assert_eq!(site.node.our_tables(), 0);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn an_armed_agent_that_dies_leaves_nothing() {
    let (site, mut agent, client) = Site::with_agent();
    let cut = cut(&[PEER], Direction::Both);
    client
        .arm("d", &plan(30_000, vec![step(0, 0, 1_000, cut)]))
        .unwrap();
    assert_eq!(site.node.our_tables(), 2);
    agent.crash();
    assert!(
        agent
            .closed("d", Duration::from_secs(3))
            .contains("the agent died")
    );
    assert_eq!(site.node.our_tables(), 0);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_drill_without_its_guardian_is_reverted() {
    let (site, agent, client, path) = firing(30_000, 60_000);
    kill(guardian_of(agent.pid()), Signal::SIGKILL).unwrap();
    back_after(&path, Duration::from_secs(1));
    assert!(
        agent
            .closed("d", Duration::from_secs(1))
            .contains("guardian died")
    );
    assert_eq!(client.status().unwrap().state(), State::Reverted);
    assert_eq!(site.node.our_tables(), 0);
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn with_agent_and_guardian_dead_the_offline_revert_closes_the_journal() {
    let (site, mut agent, _client, path) = firing(30_000, 60_000);
    let guardian = guardian_of(agent.pid());
    let stopped = Stopped::stop(guardian);
    agent.crash();
    kill(guardian, Signal::SIGKILL).unwrap();
    drop(stopped);
    back_after(&path, Duration::from_secs(1));
    assert!(!agent.journal("d").contains("\"closed\""));
    // As a kernel without the owner flag would leave it.
    site.node.command("nft", "add table inet cellwall_d_0_0");
    let output = revert_all(&site);
    assert!(output.status.success(), "{output:?}");
    assert!(agent.closed("d", Duration::ZERO).contains("revert --all"));
    assert_eq!(site.node.our_tables(), 0);
    assert!(revert_all(&site).status.success(), "again");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn the_next_agent_reverts_before_it_serves() {
    let site = Site::new();
    drop(open_journal(&site, "d"));
    site.node.command("nft", "add table inet cellwall_d_0_0");
    let agent = site.start_agent();
    let status = site.client().status().unwrap();
    assert!(status.residue.is_empty(), "{status:?}");
    assert!(agent.closed("d", Duration::ZERO).contains("start"));
    assert_eq!(site.node.our_tables(), 0);
}

/// A journal as an agent leaves it that died with one table in the kernel.
fn open_journal(site: &Site, drill: &str) -> Journal {
    let armed = Armed {
        format: FORMAT,
        drill: drill.into(),
        conductor: "conductor".into(),
        plan_sha256: String::new(),
        boot_id: agent::boottime::boot_id().unwrap(),
        expires: agent::boottime::Boottime::now(),
    };
    let undo = Undo::Firewall(FirewallUndo {
        inside: Vec::new(),
        lasting: Default::default(),
        tables: vec![table(drill)],
        devices: Vec::new(),
        management: Management {
            operator: Vec::new(),
            port: PORT,
        },
    });
    let intent = Intent {
        step: 0,
        index: 0,
        change: "firewall".into(),
        undo,
    };
    let directory = agent::journal::directory(site.state.path());
    Journal::create(&directory, armed, &[intent]).unwrap().0
}

fn table(drill: &str) -> Table {
    Table {
        family: Family::Inet,
        name: format!("cellwall_{drill}_0_0"),
    }
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_table_owned_by_another_live_socket_is_reported_not_deleted() {
    let site = Site::new();
    let other = site.node.run({
        let directory = tempfile::tempdir().unwrap();
        let armed = open_journal(&site, "d");
        move || {
            drop(armed);
            let mut nft = Nft::open().unwrap();
            let armed = Armed {
                format: FORMAT,
                drill: "x".into(),
                conductor: String::new(),
                plan_sha256: String::new(),
                boot_id: String::new(),
                expires: agent::boottime::Boottime::now(),
            };
            let (_journal, permit) = Journal::create(directory.path(), armed, &[]).unwrap();
            let mut transaction = Transaction::default();
            transaction.add_owned_table(&table("d"));
            nft.commit(transaction, &permit).unwrap();
            nft
        }
    });
    let output = revert_all(&site);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("cellwall_d_0_0") && text.contains("owned by the live"),
        "{text}"
    );
    assert_eq!(site.node.our_tables(), 1, "not ours to delete");
    drop(other);
    assert!(revert_all(&site).status.success(), "gone with its owner");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn a_gate_that_ran_out_cannot_be_renewed() {
    let namespace = Namespace::new();
    namespace.run(|| {
        let directory = tempfile::tempdir().unwrap();
        let armed = Armed {
            format: FORMAT,
            drill: "x".into(),
            conductor: String::new(),
            plan_sha256: String::new(),
            boot_id: String::new(),
            expires: agent::boottime::Boottime::now(),
        };
        let (_journal, permit) = Journal::create(directory.path(), armed, &[]).unwrap();
        let mut hands = Hands::closed(None);
        let undo = FirewallUndo {
            inside: Vec::new(),
            lasting: Default::default(),
            tables: vec![table("d")],
            devices: Vec::new(),
            management: Management {
                operator: Vec::new(),
                port: PORT,
            },
        };
        let mut transaction = Transaction::default();
        transaction.add_owned_table(&undo.tables[0]);
        transaction.add_set(&undo.tables[0], "gate", SetKind::Gate, 1);
        transaction.add_gate(&undo.tables[0], "gate", Gate::from_millis(200));
        hands.nft().unwrap().commit(transaction, &permit).unwrap();
        let undo = Undo::Firewall(undo);
        undo.renew(&mut hands, Gate::from_millis(200), &permit)
            .expect("in time");
        std::thread::sleep(Duration::from_millis(230));
        let error = undo
            .renew(&mut hands, Gate::from_millis(60_000), &permit)
            .unwrap_err();
        assert!(
            matches!(error, agent::changes::Error::GateClosed),
            "{error}"
        );
        let set = Command::new("nft")
            .args(["list", "ruleset"])
            .output()
            .unwrap();
        let set = String::from_utf8_lossy(&set.stdout).into_owned();
        assert!(!set.contains("expires"), "revived: {set}");
        undo.undo(&mut hands, &permit).unwrap();
        undo.undo(&mut hands, &permit).expect("undo is idempotent");
    });
}

/// Set in the copy of this test program that is killed in the midst of its test.
const STOP: &str = "CELLWALL_TEST_STOPS";

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().starts_with('T')
}

fn wait_until(what: &str, reached: impl Fn() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < Duration::from_secs(5), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Of this test suite itself: an aborted run must not leave a stopped process behind.
#[test]
fn what_a_killed_test_has_stopped_goes_on() {
    if let Ok(pid) = std::env::var(STOP) {
        let _stopped = Stopped::stop(Pid::from_raw(pid.parse().unwrap()));
        std::thread::sleep(Duration::from_secs(30)); // killed meanwhile
        return;
    }
    let mut sleeper = Command::new("sleep").arg("30").spawn().unwrap();
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ends::what_a_killed_test_has_stopped_goes_on"])
        .env(STOP, sleeper.id().to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("stopped", || is_stopped(sleeper.id()));
    test.kill().unwrap();
    assert_eq!(test.wait().unwrap().signal(), Some(9));
    let begun = Instant::now();
    let mut goes_on = false;
    while !goes_on && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
        goes_on = !is_stopped(sleeper.id());
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(goes_on, "still stopped 5 s after its test was killed");
}

#[test]
#[ignore = "needs root: network namespaces and nftables"]
fn renewals_at_the_end_of_a_step_do_not_end_the_steps_after_it() {
    let (_site, agent, client) = Site::with_agent();
    let steps = (0..25).map(|id| {
        let cut = cut(&[PEER], Direction::Both);
        step(id, u64::from(id) * 120, 100, cut)
    });
    client.arm("d", &plan(5_000, steps.collect())).unwrap();
    client.fire_in("d", Duration::from_millis(200)).unwrap();
    let mut renewals = 0;
    while client.renew("d").is_ok() {
        renewals += 1;
    }
    let last = agent.closed("d", Duration::from_secs(1));
    assert!(last.contains("deadline"), "after {renewals}: {last}");
}
