//! What the agent can alter, and the contract by which every alteration has its way back.

pub mod cgroup;
pub mod file;
pub mod filesystem;
pub mod firewall;
mod hands;
pub mod helper;
mod network;
pub mod process;
pub mod qdisc;
pub mod route;

use std::net::IpAddr;
use std::path::PathBuf;

use scenarios::change::Change;
use serde::{Deserialize, Serialize};

use crate::journal::Permit;
use crate::kernel::netlink;
use crate::kernel::nft::{Gate, Nft, TableSeen};
use crate::mistakes;
use crate::neighbours::Claims;
use crate::pods;

pub use firewall::Directions;
pub use hands::Hands;

/// Everything of ours in the kernel has a name that begins so.
pub const OURS: &str = "cellwall_";
/// What to do about an undo that belongs where this process cannot see.
const IN_ITS_MOUNT_NAMESPACE: &str =
    "run `cellwall-agent revert --all` in that mount namespace (nsenter --mount --pid)";

/// Which change of which drill on this node.
#[derive(Clone, Debug)]
pub struct Place {
    pub drill: String,
    pub step: u32,
    /// Number of the change on this node, over all steps: 0, 1, 2, ...
    pub index: u32,
    /// Where the journals are: what holds them is never altered.
    pub state: PathBuf,
    pub management: Management,
}

impl Place {
    /// The name of whatever this change makes: `cellwall_DRILL_STEP_INDEX`.
    pub fn name(&self) -> String {
        format!("{OURS}{}_{}_{}", self.drill, self.step, self.index)
    }
}

/// What stays open during a cut: TCP between these addresses and the agent's own port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Management {
    pub operator: Vec<IpAddr>,
    pub port: u16,
}

impl Management {
    /// Nothing stays open.
    pub fn none() -> Self {
        Self {
            operator: Vec::new(),
            port: 0,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot list the network devices: {0}; this cut was not put in force")]
    Devices(std::io::Error),
    #[error("cannot look at the nftables of the host or a pod: {0}")]
    Look(#[source] netlink::Error),
    #[error("cannot look for pods: {0}")]
    Pods(std::io::Error),
    #[error("cannot look into the pods: {0}")]
    LookAtPods(#[from] pods::Error),
    #[error("{0} is there already; nothing was altered; end its holder or delete it first")]
    Taken(String),
    #[error("cannot load the inert tables: {0}; no packet was touched")]
    Load(#[source] netlink::Error),
    #[error(
        "cannot put the cut in force: {0}; the drill is reverted now, with whatever of it is in force"
    )]
    Apply(#[source] netlink::Error),
    #[error("the gate had closed by itself, so the cut is over and stays over")]
    GateClosed,
    #[error("cannot renew the gate: {0}; the cut ends when the gate runs out")]
    Renew(#[source] netlink::Error),
    #[error("cannot delete {table}: {cause}; it may still be in force until its gate runs out")]
    Undo {
        table: String,
        cause: netlink::Error,
    },
    /// Found at arm: the change cannot or must not be made here.
    #[error("{what}: {why}; nothing was altered")]
    Refused { what: String, why: String },
    #[error("cannot {what}: {cause}; nothing was altered by this change")]
    Capture { what: String, cause: Cause },
    /// Found at fire; known to have altered nothing, so its undo is not owed.
    #[error("{what}: {why}; this change was not put in force; the drill is reverted now")]
    NotApplied { what: String, why: String },
    #[error("cannot {what}: {cause}; the drill is reverted now, with whatever of it is in force")]
    Act { what: String, cause: Cause },
    /// The way back failed; `now` is how the host is, `next` what to do.
    #[error("cannot {what}: {cause}; {now}; {next}")]
    Back {
        what: String,
        cause: Cause,
        now: String,
        next: &'static str,
    },
}

/// Why a step of a change failed, in the words of whoever refused it.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// One mechanism. `capture` looks, `load` puts in place what has no effect, `apply` makes it bite,
/// `renew` keeps it, `undo` takes all of it away.
///
/// Contract of `undo`: idempotent; succeeds if the others never ran or what they made is gone; never
/// touches what is neither ours nor as captured; works from the serialised `Undo` alone, in another
/// process, after a crash at any instruction. The methods are synchronous because the kernel answers
/// within the system call: there is nothing to await, and nothing else may run between the steps of
/// an alteration.
pub trait Reversible {
    type Undo;

    fn capture(&self, hands: &mut Hands, place: &Place) -> Result<Self::Undo, Error>;

    fn load(&self, _undo: &Self::Undo, _: &mut Hands, _: &Permit) -> Result<(), Error> {
        Ok(())
    }

    /// Drops what only [`Self::load`] needed: a drill may be held for long.
    fn forget_loaded(&mut self) {}

    /// Looks afterwards whether what was asked is there: an answer without an error is no proof.
    fn apply(
        &self,
        undo: &Self::Undo,
        hands: &mut Hands,
        gate: Gate,
        permit: &Permit,
    ) -> Result<(), Error>;

    fn renew(_undo: &Self::Undo, _: &mut Hands, _: Gate, _: &Permit) -> Result<(), Error> {
        Ok(())
    }

    /// Succeeds only after having seen that nothing of the change is left. The answer lists what has
    /// drifted: what is neither as captured nor as changed, and was left as it is.
    fn undo(undo: &Self::Undo, hands: &mut Hands, permit: &Permit) -> Result<Vec<String>, Error>;

    /// What of a change in force holds no more although nobody has taken it back, in words. Asked right
    /// before its undo, so it must not take long.
    fn lapsed(_undo: &Self::Undo) -> Vec<String> {
        Vec::new()
    }

    /// What the change does not reach any more although it should, in words.
    fn gaps(_undo: &Self::Undo) -> Vec<String> {
        Vec::new()
    }

    /// Whether what it alters is still there after a reboot, on a disk.
    fn survives_reboot(_undo: &Self::Undo) -> bool {
        false
    }

    /// Whether an undo that has succeeded may come again: what it takes away bears our name, so it
    /// cannot meet what others have set since.
    fn may_repeat(_undo: &Self::Undo) -> bool {
        false
    }

    /// Whether its undo may have to wait for a disk: then it is walked behind all that need none.
    fn needs_disk(_undo: &Self::Undo) -> bool {
        false
    }

    /// Whether it may be undone while the last system call of an agent that was killed may still come. Not
    /// where that call, coming late, would meet what the undo made of it: two renames of one name, say.
    fn may_go_ahead(_undo: &Self::Undo) -> bool {
        true
    }

    /// Removes what only the way back needed. Comes when the undo has succeeded, that is in the journal, and
    /// nobody else can still act.
    fn tidy(_undo: &Self::Undo, _: &mut Hands) {}

    /// Whether what has drifted or failed may only have needed what the undo of another change puts back: then
    /// it is walked again after all the others, as long as that helps.
    fn leans_on_others(_undo: &Self::Undo) -> bool {
        false
    }

    /// What of this node other drills must leave alone meanwhile.
    fn claims(_undo: &Self::Undo) -> Claims {
        Claims::default()
    }
}

macro_rules! mechanisms {
    ($($variant:ident($change:ty, $undo:ty),)*) => {
        /// The way back of any change, as the journal keeps it.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        pub enum Undo {
            $($variant($undo),)*
        }

        pub fn capture(change: &Change, hands: &mut Hands, place: &Place) -> Result<Undo, Error> {
            match change {
                $(Change::$variant(change) => change.capture(hands, place).map(Undo::$variant),)*
            }
        }

        pub fn load(
            change: &Change,
            undo: &Undo,
            hands: &mut Hands,
            permit: &Permit,
        ) -> Result<(), Error> {
            match (change, undo) {
                $((Change::$variant(change), Undo::$variant(undo)) => {
                    change.load(undo, hands, permit)
                })*
                _ => Err(mixed_up(change)),
            }
        }

        /// After [`load`]: the change holds only what [`apply`] needs of it.
        pub fn forget_loaded(change: &mut Change) {
            match change { $(Change::$variant(change) => change.forget_loaded(),)* }
        }

        pub fn apply(
            change: &Change,
            undo: &Undo,
            hands: &mut Hands,
            gate: Gate,
            permit: &Permit,
        ) -> Result<(), Error> {
            match (change, undo) {
                $((Change::$variant(change), Undo::$variant(undo)) => {
                    change.apply(undo, hands, gate, permit)
                })*
                _ => Err(mixed_up(change)),
            }
        }

        impl Undo {
            pub fn renew(&self, hands: &mut Hands, gate: Gate, permit: &Permit) -> Result<(), Error> {
                match self {
                    $(Undo::$variant(undo) => <$change>::renew(undo, hands, gate, permit),)*
                }
            }

            /// The answer lists what has drifted.
            pub fn undo(&self, hands: &mut Hands, permit: &Permit) -> Result<Vec<String>, Error> {
                match self {
                    $(Undo::$variant(_) if mistakes::forgets(stringify!($variant)) => Ok(Vec::new()),)*
                    $(Undo::$variant(undo) => <$change>::undo(undo, hands, permit),)*
                }
            }

            pub fn lapsed(&self) -> Vec<String> {
                match self { $(Undo::$variant(undo) => <$change>::lapsed(undo),)* }
            }

            pub fn gaps(&self) -> Vec<String> {
                match self { $(Undo::$variant(undo) => <$change>::gaps(undo),)* }
            }

            pub fn survives_reboot(&self) -> bool {
                match self { $(Undo::$variant(undo) => <$change>::survives_reboot(undo),)* }
            }

            pub fn may_repeat(&self) -> bool {
                match self { $(Undo::$variant(undo) => <$change>::may_repeat(undo),)* }
            }

            pub fn needs_disk(&self) -> bool {
                match self { $(Undo::$variant(undo) => <$change>::needs_disk(undo),)* }
            }

            pub fn may_go_ahead(&self) -> bool {
                match self { $(Undo::$variant(undo) => <$change>::may_go_ahead(undo),)* }
            }

            pub fn tidy(&self, hands: &mut Hands) {
                match self { $(Undo::$variant(undo) => <$change>::tidy(undo, hands),)* }
            }

            pub fn leans_on_others(&self) -> bool {
                match self { $(Undo::$variant(undo) => <$change>::leans_on_others(undo),)* }
            }

            pub fn claims(&self) -> Claims {
                match self { $(Undo::$variant(undo) => <$change>::claims(undo),)* }
            }
        }
    };
}

mechanisms! {
    Firewall(scenarios::change::FirewallCut, firewall::Undo),
    Route(scenarios::change::RouteChange, route::Undo),
    Qdisc(scenarios::change::QdiscChange, qdisc::Undo),
    Process(scenarios::change::ProcessChange, process::Undo),
    Cgroup(scenarios::change::CgroupLimit, cgroup::Undo),
    Helper(scenarios::change::HelperChange, helper::Undo),
    File(scenarios::change::FileChange, file::Undo),
    Filesystem(scenarios::change::FilesystemChange, filesystem::Undo),
}

/// A change beside the undo of another one is a mistake of ours, met before anything is altered.
fn mixed_up(change: &Change) -> Error {
    Error::NotApplied {
        what: change.summary(),
        why: "its undo is of another kind".to_owned(),
    }
}

/// What of a packet's way a change cuts, and so has to be proven by a canary.
pub fn directions(change: &Change) -> Directions {
    change
        .as_cut()
        .map_or_else(Directions::default, |cut| Directions {
            ingress: cut.direction.ingress(),
            egress: cut.direction.egress(),
        })
}

/// Everything of ours that the kernel holds now, at the host and in its pods, in words.
pub fn scan(hands: &mut Hands) -> Result<Vec<String>, Error> {
    let host = hands.nft().and_then(Nft::tables).map_err(Error::Look)?;
    let mut words = ours(hands, &host);
    for pod in pods::look()?.attached {
        let nft = pod.namespace.run(Nft::open).map_err(Error::Pods)?;
        let seen = nft.and_then(|mut nft| nft.tables()).map_err(Error::Look)?;
        words.extend(
            ours(hands, &seen)
                .iter()
                .map(|table| format!("{table} in pod {}", pod.name)),
        );
    }
    words.extend(route::seen(hands)?);
    words.extend(qdisc::seen(hands)?);
    words.extend(helper::seen(hands)?);
    Ok(words)
}

fn ours(hands: &Hands, seen: &[TableSeen]) -> Vec<String> {
    seen.iter()
        .filter(|table| table.name.starts_with(OURS) && !hands.is_anothers(table))
        .map(ToString::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_mechanism_and_words_for_failures() {
        let cause = || Cause::from("EIO");
        let what = || "x".to_owned();
        for (error, state) in [
            (
                Error::Refused {
                    what: what(),
                    why: what(),
                },
                "nothing was altered",
            ),
            (
                Error::Capture {
                    what: what(),
                    cause: cause(),
                },
                "nothing was altered",
            ),
            (
                Error::NotApplied {
                    what: what(),
                    why: what(),
                },
                "was not put in force",
            ),
            (
                Error::Act {
                    what: what(),
                    cause: cause(),
                },
                "whatever of it is in force",
            ),
        ] {
            assert!(error.to_string().contains(state), "{error}");
        }
    }

    #[test]
    fn an_unknown_answer_is_not_called_harmless() {
        let unknown = netlink::Error::Receive(std::io::ErrorKind::TimedOut.into());
        let text = Error::Apply(unknown).to_string();
        assert!(text.contains("what it did is unknown"), "{text}");
        assert!(text.contains("the drill is reverted now"), "{text}");
        assert!(!text.contains("not in force"), "{text}");
    }
}
