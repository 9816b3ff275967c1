//! kill -9 of the agent with a fault in force: how long until the first packet comes through again?

use std::path::Path;
use std::time::Duration;

use scenarios::change::{Change, RouteChange};

use crate::figure::{Figure, Unit};
use crate::packets::Stream;
use crate::rehearsal::Rehearsal;
use crate::root::support::{Namespace, PEER, Stopped};
use crate::{Bench, cloud, millis, one};

/// Longer than anything here takes.
const LEASE: Duration = Duration::from_secs(50);
const CUT: Duration = Duration::from_millis(30);
/// An address of the peer's that only the withdrawn route leads to.
const FAR: &str = "10.255.0.1";
const FAR_NET: &str = "10.255.0.0/24";

/// Who ends the fault when the agent is dead.
#[derive(Clone, Copy, PartialEq)]
enum Ender {
    /// The tables die with the socket of their owner. The guardian is stopped.
    Kernel,
    Guardian,
}

pub fn measure(bench: &Bench) -> Vec<Figure> {
    let site = &bench.site;
    let near = Stream::open(&site.node, PEER);
    near.go_on();
    let gaps = near.gaps(Duration::from_secs(2));
    let fineness = gaps.into_iter().map(millis).collect();
    let mut figures = vec![Figure::new(
        "between one packet and the next, no fault: how finely this measures",
        Unit::Millis,
        Some(1.0),
        fineness,
    )];
    for (what, change) in [("one prefix", one()), ("60,000 prefixes", cloud())] {
        let values = each(bench, &near, &change, Ender::Kernel);
        figures.push(Figure::new(
            &format!("kill -9 → first packet, by the kernel (owner flag), {what}"),
            Unit::Millis,
            Some(10.0),
            values,
        ));
    }
    drop(near);
    let far = Stream::open(&site.node, FAR);
    withdrawable(&site.node, &site.peer);
    far.go_on();
    let values = each(bench, &far, &withdrawn(), Ender::Guardian);
    figures.push(Figure::new(
        "kill -9 → first packet, by the guardian alone (a withdrawn route)",
        Unit::Millis,
        Some(100.0),
        values,
    ));
    figures
}

/// The routes to [`FAR`] withdrawn.
pub fn withdrawn() -> Change {
    Change::Route(RouteChange {
        destination: FAR_NET.parse().expect("a prefix"),
        table: 254,
        instead: None,
    })
}

/// What [`withdrawn`] takes away; may be there already.
pub fn withdrawable(node: &Namespace, peer: &Namespace) {
    peer.ip(&format!("addr replace {FAR}/32 dev lo"));
    node.ip(&format!("route replace {FAR_NET} via {PEER}"));
}

fn each(bench: &Bench, stream: &Stream, change: &Change, ender: Ender) -> Vec<f64> {
    let files = tempfile::tempdir_in(bench.dir.path()).expect("a folder");
    let one = |run| death(&bench.site.node, files.path(), run, stream, change, ender);
    (0..bench.runs).map(|run| millis(one(run))).collect()
}

fn death(
    node: &Namespace,
    files: &Path,
    run: usize,
    stream: &Stream,
    change: &Change,
    ender: Ender,
) -> Duration {
    let mut drill = Rehearsal::start(node, files, &format!("kill{run}"), LEASE, change);
    drill.until("in force");
    stream.must_be_cut(CUT);
    let guardian = drill.guardian();
    let stopped = (ender == Ender::Kernel).then(|| Stopped::stop(guardian));
    let killed = drill.crash();
    let took = stream.first_after(killed) - killed;
    drop(stopped);
    drill.end();
    took
}
