//! The closed vocabulary of what an agent may alter on a machine, each one with an undo.

mod cgroup;
mod file;
mod filesystem;
mod firewall;
mod helper;
mod process;
mod qdisc;
mod route;

use serde::{Deserialize, Serialize};

pub use cgroup::{CgroupLimit, Limit};
pub use file::{FileAct, FileChange};
pub use filesystem::{FilesystemAct, FilesystemChange};
pub use firewall::{Direction, FirewallCut, Management, Peers};
pub use helper::{HelperChange, HelperWork};
pub use process::{ProcessAct, ProcessChange, Processes};
pub use qdisc::{Netem, QdiscChange, Shape, Tbf};
pub use route::{Instead, RouteChange};

macro_rules! changes {
    ($($(#[$doc:meta])* $variant:ident($data:ty) = $kind:literal,)*) => {
        /// One reversible alteration of a node. Faults produce these; agents know nothing else.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub enum Change {
            $($(#[$doc])* #[serde(rename = $kind)] $variant($data),)*
        }

        impl Change {
            /// Every kind that there is.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The word for this kind of change in the agent's policy, the plan and the journal.
            pub fn kind(&self) -> &'static str {
                match self { $(Change::$variant(_) => $kind,)* }
            }

            /// What is altered, in words.
            pub fn summary(&self) -> String {
                match self { $(Change::$variant(change) => change.summary(),)* }
            }
        }
    };
}

changes! {
    /// Packets to and from `peers` vanish without a word to either side.
    Firewall(FirewallCut) = "firewall",
    /// Routes are withdrawn, or another one stands in their place.
    Route(RouteChange) = "route",
    /// What leaves a device is delayed, lost or held back.
    Qdisc(QdiscChange) = "qdisc",
    /// Processes stand still or are killed.
    Process(ProcessChange) = "process",
    /// A control group gets less than it had.
    Cgroup(CgroupLimit) = "cgroup",
    /// One file has other content, another mode, or is gone.
    File(FileChange) = "file",
    /// One file system takes no writes.
    Filesystem(FilesystemChange) = "filesystem",
    /// A process of the agent's uses something up.
    Helper(HelperChange) = "helper",
}

impl Change {
    /// What ends it, each without the ones before it, where the agent's kernel has them all; an
    /// agent that lacks one says so when it is asked (`plan --live`) and refuses to arm.
    pub fn ends_by(&self) -> &'static [&'static str] {
        match self {
            Change::Firewall(_) => &["timer", "lease", "guardian", "gate", "owner", "journal"],
            // The kernel kills a helper when the agent ends.
            Change::Helper(_) => &["timer", "lease", "guardian", "parent", "journal"],
            Change::Process(change) if change.act == ProcessAct::Kill => &[],
            Change::Route(_)
            | Change::Qdisc(_)
            | Change::Process(_)
            | Change::Cgroup(_)
            | Change::File(_)
            | Change::Filesystem(_) => &["timer", "lease", "guardian", "journal"],
        }
    }

    /// Why no undo can bring back what this takes, if none can; such a change needs consent.
    pub fn undo_impossible(&self) -> Option<&'static str> {
        match self {
            Change::Process(change) if change.act == ProcessAct::Kill => {
                Some("a killed process does not come back unless something starts it again")
            }
            _ => None,
        }
    }

    /// The cut, if it is one: what endpoints, planes and canaries reason about.
    pub fn as_cut(&self) -> Option<&FirewallCut> {
        match self {
            Change::Firewall(cut) => Some(cut),
            _ => None,
        }
    }
}
