//! Arming 60,000 prefixes against the bare nftables batch of the same elements; then fire and revert.
//!
//! Both are made here by the agent's own code, in turns: once the batch alone, once a whole drill.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent::boottime::{Boottime, sleep_until};
use agent::changes::Hands;
use agent::drill::{Armed, Firing, Order};
use agent::guardian::{Guardian, Home};
use agent::guards::Identity;
use agent::journal::{self, Journal, Permit};
use agent::kernel::nft::{Family, Nft, SetKind, Table, Transaction};
use scenarios::change::Change;
use scenarios::plan::Plan;

use crate::figure::{Figure, Unit};
use crate::packets::Stream;
use crate::root::support::{PEER, PORT, plan, step};
use crate::said::Said;
use crate::{Bench, cloud, millis, one};

const LEASE_MS: u64 = 30_000;
const DURATION_MS: u64 = 60_000;
const AHEAD: Duration = Duration::from_millis(60);
const CUT: Duration = Duration::from_millis(30);
/// The kernel frees what a table held after it has answered, and a guardian looks every 200 ms.
const SETTLED: Duration = Duration::from_millis(400);

/// What one drill came to, in milliseconds.
struct Drill {
    guardian: f64,
    arm: f64,
    canary: f64,
    fire: f64,
    first_packet: f64,
    revert: f64,
}

/// The bare batch, in milliseconds, and the drill before or after it.
struct Pair {
    bare: f64,
    drill: Drill,
}

pub fn measure(bench: &Bench) -> Vec<Figure> {
    let stream = Stream::open(&bench.site.node, PEER);
    let state = tempfile::tempdir_in(bench.dir.path()).expect("a folder");
    let (path, said, runs) = (state.path().to_owned(), bench.said.clone(), bench.runs);
    let (pairs, small) = bench.site.node.run(move || {
        let mut turns = Turns::begin(path, said, stream);
        (turns.pairs(runs), turns.small(runs))
    });
    let mut figures = arms(&pairs);
    let large: Vec<Drill> = pairs.into_iter().map(|pair| pair.drill).collect();
    figures.extend(ways_there_and_back("60,000 prefixes", &large));
    figures.extend(ways_there_and_back("one prefix", &small));
    figures
}

fn arms(pairs: &[Pair]) -> Vec<Figure> {
    use Unit::{Millis, Times};
    let figure = |what: &str, unit, wanted, value: fn(&Pair) -> f64| {
        let values = pairs.iter().map(value).collect();
        Figure::new(what, unit, wanted, values)
    };
    vec![
        figure("60,000 prefixes: the bare batch", Millis, None, |pair| {
            pair.bare
        }),
        figure("arm, without its canaries", Millis, None, |pair| {
            pair.drill.arm - pair.drill.canary
        }),
        figure("its canaries", Millis, None, |pair| pair.drill.canary),
        figure("the guardian's start before it", Millis, None, |pair| {
            pair.drill.guardian
        }),
        figure(
            "arm without canaries : bare batch",
            Times,
            Some(1.3),
            |pair| (pair.drill.arm - pair.drill.canary) / pair.bare,
        ),
        figure(
            "guardian and arm without canaries : bare batch",
            Times,
            Some(1.3),
            |pair| (pair.drill.guardian + pair.drill.arm - pair.drill.canary) / pair.bare,
        ),
        figure(
            "guardian and arm with canaries : bare batch",
            Times,
            Some(1.3),
            |pair| (pair.drill.guardian + pair.drill.arm) / pair.bare,
        ),
    ]
}

fn ways_there_and_back(size: &str, drills: &[Drill]) -> Vec<Figure> {
    let figure = |what: &str, wanted, value: fn(&Drill) -> f64| {
        let values = drills.iter().map(value).collect();
        Figure::new(&format!("{what}, {size}"), Unit::Millis, wanted, values)
    };
    vec![
        figure("fire: T → in force", Some(1.0), |drill| drill.fire),
        figure("revert → first packet", Some(5.0), |drill| {
            drill.first_packet
        }),
        figure(
            "revert → also looked for and journaled",
            Some(5.0),
            |drill| drill.revert,
        ),
    ]
}

struct Turns {
    state: PathBuf,
    said: Said,
    stream: Stream,
    runtime: tokio::runtime::Runtime,
    hands: Hands,
    permit: Permit,
    me: Identity,
    cloud: Change,
}

impl Turns {
    fn begin(state: PathBuf, said: Said, stream: Stream) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Self {
            permit: permit(&state.join("bare")),
            hands: Hands::of(&state).expect("a netlink socket"),
            runtime: runtime.expect("a runtime"),
            me: Identity {
                cell: "a".into(),
                node: "n1".into(),
            },
            cloud: cloud(),
            state,
            said,
            stream,
        }
    }

    fn pairs(&mut self, runs: usize) -> Vec<Pair> {
        let plan = of(self.cloud.clone());
        let mut pairs = Vec::new();
        for run in 0..runs {
            let early = (run % 2 == 0).then(|| self.bare());
            let drill = self.drill(&format!("large{run}"), &plan);
            let bare = millis(early.unwrap_or_else(|| self.bare()));
            pairs.push(Pair { bare, drill });
        }
        pairs
    }

    fn small(&mut self, runs: usize) -> Vec<Drill> {
        let plan = of(one());
        let drill = |run| self.drill(&format!("small{run}"), &plan);
        (0..runs).map(drill).collect()
    }

    /// Tables, sets and elements as a drill loads them, encoded and sent.
    fn bare(&self) -> Duration {
        let mut nft = Nft::open().expect("a netlink socket");
        let prefixes = self.cloud.as_cut().expect("a cut").peers.prefixes();
        let begun = Instant::now();
        let mut batch = Transaction::default();
        let families = [Family::Inet, Family::Netdev];
        for (number, family) in (0..).zip(families) {
            let name = "cellwall_bare".to_owned();
            let table = Table { family, name };
            batch.add_owned_table(&table);
            batch.add_set(&table, "peers4", SetKind::Prefixes4, 3 * number + 1);
            batch.add_set(&table, "peers6", SetKind::Prefixes6, 3 * number + 2);
            batch.add_set(&table, "gate", SetKind::Gate, 3 * number + 3);
            batch.add_prefixes(&table, "peers4", prefixes, false);
            batch.add_prefixes(&table, "peers6", prefixes, true);
        }
        nft.commit(batch, &self.permit).expect("the bare batch");
        let took = begun.elapsed();
        drop(nft); // and its tables with it
        std::thread::sleep(SETTLED);
        took
    }

    fn drill(&mut self, drill: &str, plan: &Plan) -> Drill {
        let order = Order {
            drill: drill.to_owned(),
            plan: plan.clone(),
            plan_sha256: String::new(),
            claim: wire::Claim::default(),
            armed_most: Duration::from_secs(60),
            pod_namespaces: true,
        };
        let directory = journal::directory(&self.state);
        let path = journal::path_of(&directory, drill);
        self.said.forget();

        let begun = Instant::now();
        let home = Home::of(Vec::new());
        let guardian = self.runtime.block_on(Guardian::start(&path, &home));
        let guardian = guardian.expect("a guardian");
        let guardian_took = millis(begun.elapsed());

        let begun = Instant::now();
        let hands = &mut self.hands;
        let armed = Armed::arm(order, &self.me, PORT, &directory, guardian, hands);
        let arm = millis(begun.elapsed());
        let armed = armed.expect("an armed drill");
        let canary = self.said.number("ms");

        let firing = self.fire(armed);
        let fire = self.said.number("late_us") / 1_000.0;
        self.stream.go_on();
        self.stream.must_be_cut(CUT);

        let begun = Instant::now();
        let over = firing.revert(&mut self.hands, "bench");
        let revert = millis(begun.elapsed());
        let first_packet = millis(self.stream.first_after(begun) - begun);
        self.stream.rest();
        assert!(over.outcome.clean(), "{:?}", over.outcome);
        // The runtime also reaps the guardian.
        self.runtime
            .block_on(async { tokio::time::sleep(SETTLED).await });
        Drill {
            guardian: guardian_took,
            arm,
            canary,
            fire,
            first_packet,
            revert,
        }
    }

    /// As an agent waits for its instant.
    fn fire(&mut self, armed: Armed) -> Firing {
        let fired = armed.fire(Boottime::now().plus(AHEAD));
        let mut firing = fired.map_err(|refused| refused.1).expect("a fire");
        while !firing.in_force() {
            self.runtime.block_on(sleep_until(firing.wake()));
            let ended = firing.act(&mut self.hands);
            assert_eq!(ended, None, "it must not end yet");
        }
        firing
    }
}

fn of(change: Change) -> Plan {
    plan(LEASE_MS, vec![step(0, 0, DURATION_MS, change)])
}

/// Only a journal gives one; that of a drill without changes.
fn permit(state: &Path) -> Permit {
    let armed = journal::Armed {
        format: journal::FORMAT,
        drill: "bare".to_owned(),
        conductor: String::new(),
        plan_sha256: String::new(),
        boot_id: String::new(),
        expires: Boottime::now(),
    };
    let made = Journal::create(&journal::directory(state), armed, &[]);
    made.expect("a journal").1
}
