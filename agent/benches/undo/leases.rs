//! A lease that nobody renews: how long after its end is the drill reverted?

use std::time::Duration;

use scenarios::change::Change;

use crate::figure::{Figure, Unit};
use crate::rehearsal::Rehearsal;
use crate::{Bench, deaths, millis, one};

const LEASE: Duration = Duration::from_secs(1);

/// An agent says `armed` right after the last time that it begins the lease anew, and `reverted` when
/// everything is undone, looked for, and journaled.
pub fn measure(bench: &Bench) -> Vec<Figure> {
    deaths::withdrawable(&bench.site.node, &bench.site.peer);
    let kinds = [("a cut", one()), ("a withdrawn route", deaths::withdrawn())];
    let of = |(what, change): (&str, Change)| {
        Figure::new(
            &format!("end of the lease → reverted, {what}"),
            Unit::Millis,
            Some(100.0),
            each(bench, &change),
        )
    };
    kinds.into_iter().map(of).collect()
}

fn each(bench: &Bench, change: &Change) -> Vec<f64> {
    let files = tempfile::tempdir_in(bench.dir.path()).expect("a folder");
    let one = |run| {
        let drill = format!("lease{run}");
        let mut drill = Rehearsal::start(&bench.site.node, files.path(), &drill, LEASE, change);
        let armed = drill.until("armed");
        drill.until("in force");
        let reverted = drill.until("reverted: lease");
        drill.end();
        millis(reverted - armed) - millis(LEASE)
    };
    (0..bench.runs).map(one).collect()
}
