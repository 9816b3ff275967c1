//! What each flaw must show: in which cells, to which probe, when; and what it needs to show it.

use proof::drill::{Size, size};

/// For a damage that is far beyond the margin and comes at once.
pub const QUICK: Size = size("7s", "50/s", "5%");
/// The same number of probes for a busy machine.
pub const CALM: Size = size("17s", "20/s", "5%");
/// For a lease of 3 s, and for a clock that is trusted for 5 s.
const SOON: Size = size("14s", "50/s", "5%");
const SOON_CALM: Size = size("18s", "20/s", "5%");
/// For servers that are replaced once in 16 s, each at its turn.
const TURNS: Size = size("26s", "20/s", "5%");
/// For keys that are good for 40 s.
const LATE: Size = size("60s", "20/s", "5%");
/// For a damage of 5 %.
const FINE: Size = size("30s", "50/s", "2%");
/// The same for a busy machine.
const FINE_CALM: Size = size("70s", "20/s", "2%");

/// Both sides of a lost cloud, one of them, and a fault that reaches nobody.
pub const FAULTS: [&str; 3] = [
    "black-hole-cloud",
    "black-hole-cloud-one-side",
    "aa-unused-address",
];

/// How a flaw becomes visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// These cells fall, seen by this probe.
    Falls(&'static [&'static str], &'static str),
    /// Acknowledged writes of this cell are lost, whatever the fault.
    Lost(&'static str),
    /// Writes of this cell are there twice, whatever the fault.
    Twice(&'static str),
    /// Writes of this cell are there again after they were deleted or overwritten, whatever the fault.
    Resurrected(&'static str),
    /// Writes of this cell are read in an older version than was acknowledged, whatever the fault.
    Stale(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub flaw: &'static str,
    pub shows: Shows,
    pub cells: u8,
    pub size: Size,
}

/// What a drill must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Flaw(Shows),
    /// There is nothing to find, and the drill must say so: a pass, or that its fault reached nobody.
    Nothing,
    /// The drill must say that it proves nothing, since it cannot.
    NoProof,
}

impl Shows {
    /// Whatever the fault: what spoils acknowledged writes needs none.
    fn is_of_writes(self) -> bool {
        !matches!(self, Shows::Falls(..))
    }
}

impl Row {
    pub fn expected(&self, fault: &str) -> Expected {
        match self.flaw {
            _ if self.shows.is_of_writes() => Expected::Flaw(self.shows),
            // It is declared, and lies in the cloud that is said to be lost: a host without an agent,
            // which only the others' side cuts.
            "managed-database" if fault != "black-hole-cloud" => Expected::NoProof,
            _ if fault == "aa-unused-address" => Expected::Nothing,
            _ => Expected::Flaw(self.shows),
        }
    }

    /// The size on a machine that does much else.
    pub fn calm(self) -> Row {
        let size = match self.size {
            QUICK => CALM,
            SOON => SOON_CALM,
            FINE => FINE_CALM,
            other => other,
        };
        Row { size, ..self }
    }

    pub fn is_short(&self) -> bool {
        [QUICK, CALM, SOON, SOON_CALM].contains(&self.size)
    }
}

const OTHERS: &[&str] = &["gd-tencent", "gd-aws"];
const SECOND: &[&str] = &["gd-tencent"];

const fn row(flaw: &'static str, shows: Shows, cells: u8, size: Size) -> Row {
    Row {
        flaw,
        shows,
        cells,
        size,
    }
}

const fn falls(flaw: &'static str, cells: &'static [&'static str], probe: &'static str) -> Row {
    row(flaw, Shows::Falls(cells, probe), 3, QUICK)
}

/// One row for each flaw of the lab.
pub const ROWS: [Row; 18] = [
    falls("shared-config", OTHERS, "checkout"),
    falls("shared-resolver", OTHERS, "checkout"),
    falls("shared-auth", OTHERS, "checkout"),
    falls("shared-rate-limit", OTHERS, "checkout"),
    row("shared-clock", Shows::Falls(OTHERS, "orders"), 3, SOON),
    falls("shared-database", SECOND, "orders"),
    row(
        "shared-image-source",
        Shows::Falls(OTHERS, "home"),
        3,
        TURNS,
    ),
    falls("managed-database", SECOND, "orders"),
    row("cross-cell-call", Shows::Falls(OTHERS, "checkout"), 3, FINE),
    falls("synchronous-replication", OTHERS, "orders"),
    row(
        "leader-in-one-cell",
        Shows::Falls(OTHERS, "orders"),
        3,
        SOON,
    ),
    row("slow-coupling", Shows::Falls(OTHERS, "checkout"), 3, LATE),
    // The room of a cell is measured for two cells and probes of 20/s.
    row("retry-storm", Shows::Falls(SECOND, "checkout"), 2, CALM),
    row("recovery-herd", Shows::Falls(SECOND, "checkout"), 2, CALM),
    row("lossy-store", Shows::Lost("gd-tencent"), 3, QUICK),
    row("duplicating-store", Shows::Twice("gd-tencent"), 3, QUICK),
    row(
        "resurrecting-store",
        Shows::Resurrected("gd-tencent"),
        3,
        QUICK,
    ),
    row("stale-store", Shows::Stale("gd-tencent"), 3, QUICK),
];
