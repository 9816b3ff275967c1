//! A root queueing discipline of ours on one device, and the one of before put back.
//!
//! Ours has the handle `c5a0:`. A root of others is replaced only if it can be put back exactly: one
//! without classes whose options the kernel tells whole. Anything else is refused by name.

use std::path::Path;

use scenarios::change::{QdiscChange, Shape};
use serde::{Deserialize, Serialize};

use super::{Error, Hands, Place, Reversible};
use crate::journal::Permit;
use crate::kernel::netlink;
use crate::kernel::nft::Gate;
use crate::kernel::qdisc::{self, Filter, Options, Root};
use crate::kernel::tryout;

/// Disciplines of others that come back from what the kernel tells about them.
const RESTORABLE: [&str; 3] = ["pfifo", "bfifo", "tbf"];
const NEXT: &str = "look at it with `tc qdisc show`, then run `cellwall-agent revert --all`";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    pub name: String,
    /// The device's number: another device under the name is not ours.
    pub device: u32,
    /// What stood there; none if the kernel told of none.
    pub before: Option<Root>,
}

impl Reversible for QdiscChange {
    type Undo = Undo;

    fn capture(&self, hands: &mut Hands, _: &Place) -> Result<Undo, Error> {
        let refuse = |why: String| Error::Refused {
            what: self.summary(),
            why,
        };
        let name = &self.device;
        let device = number(name).ok_or_else(|| refuse(format!("there is no device {name}")))?;
        let before = root(hands, device).map_err(|cause| Error::Capture {
            what: format!("look at the qdiscs of {name}"),
            cause: cause.into(),
        })?;
        if let Some(root) = &before {
            if root.is_ours() {
                return Err(refuse(format!("{name} has one of ours already")));
            }
            if !root.is_default() && !RESTORABLE.contains(&root.kind.as_str()) {
                return Err(refuse(format!(
                    "{name} has {root} of another owner, which could not be put back exactly"
                )));
            }
        }
        if let Shape::Towards { peers, .. } = &self.shape
            && peers.is_empty()
        {
            return Err(refuse("no peer is named".to_owned()));
        }
        for options in self.all_options() {
            if let Some(why) = tryout::qdisc(&options) {
                return Err(refuse(format!("this kernel cannot do it: {why}")));
            }
        }
        Ok(Undo {
            name: name.clone(),
            device,
            before,
        })
    }

    fn apply(&self, undo: &Undo, hands: &mut Hands, _: Gate, permit: &Permit) -> Result<(), Error> {
        let device = undo.device;
        let not_applied = |why: String| Error::NotApplied {
            what: self.summary(),
            why,
        };
        let act = |cause: netlink::Error| Error::Act {
            what: format!("shape what leaves {}", undo.name),
            cause: cause.into(),
        };
        let now = root(hands, device).map_err(|cause| not_applied(cause.to_string()))?;
        if now != undo.before || number(&undo.name) != Some(device) {
            return Err(not_applied("the device is not as it was at arm".to_owned()));
        }
        let socket = hands
            .route()
            .map_err(|cause| not_applied(cause.to_string()))?;
        let first = self.root_options();
        qdisc::set(socket, device, &first, permit).map_err(|cause| match cause.errno() {
            Some(_) => not_applied(cause.to_string()),
            None => act(cause),
        })?;
        let Shape::Towards {
            peers,
            rate_bps,
            netem,
        } = &self.shape
        else {
            return same(&first, root(hands, device).map_err(act)?);
        };
        let rate_bps = *rate_bps;
        let class = Options::HtbClass { rate_bps };
        let inside = netem.clone().map(Options::Netem);
        let filters: Vec<Filter> = peers.iter().copied().map(Filter).collect();
        qdisc::divide(socket, device, (&class, inside.as_ref()), &filters, permit).map_err(act)?;
        same(&first, root(hands, device).map_err(act)?)?;
        match inside {
            None => Ok(()),
            Some(inside) => {
                let socket = hands.route().map_err(act)?;
                same(&inside, qdisc::child(socket, device).map_err(act)?)
            }
        }
    }

    fn undo(undo: &Undo, hands: &mut Hands, permit: &Permit) -> Result<Vec<String>, Error> {
        let name = &undo.name;
        let back = |cause: netlink::Error| Error::Back {
            what: format!("take our qdisc from {name}"),
            cause: cause.into(),
            now: "it may still shape what leaves".to_owned(),
            next: NEXT,
        };
        let now = root(hands, undo.device).map_err(back)?;
        if !now.as_ref().is_some_and(Root::is_ours) {
            // Not applied, or undone before, or gone with its device; or somebody has changed it.
            let changed = now.is_some() && now != undo.before;
            let drifted = changed && number(name) == Some(undo.device);
            return Ok(drifted
                .then(|| format!("{name} has another qdisc than was captured: {}", told(&now)))
                .into_iter()
                .collect());
        }
        let socket = hands.route().map_err(back)?;
        match undo.before.as_ref().filter(|before| !before.is_default()) {
            Some(before) => qdisc::restore(socket, before, permit).map_err(back)?,
            None => qdisc::delete(socket, undo.device, permit).map_err(back)?,
        }
        let after = root(hands, undo.device).map_err(back)?;
        if after.as_ref().is_some_and(Root::is_ours) {
            return Err(Error::Back {
                what: format!("take our qdisc from {name}"),
                cause: "the kernel took the answer back, but it is still there".into(),
                now: "it shapes what leaves".to_owned(),
                next: NEXT,
            });
        }
        // A default comes from the kernel, which may have been told of another one since.
        let same = after == undo.before || number(name) != Some(undo.device);
        Ok((!same)
            .then(|| {
                format!(
                    "{name} has {} where there was {}",
                    told(&after),
                    told(&undo.before)
                )
            })
            .into_iter()
            .collect())
    }

    fn may_repeat(_: &Undo) -> bool {
        true
    }
}

trait Asked {
    fn root_options(&self) -> Options;
    fn all_options(&self) -> Vec<Options>;
}

impl Asked for QdiscChange {
    fn root_options(&self) -> Options {
        match &self.shape {
            Shape::Netem(netem) => Options::Netem(netem.clone()),
            Shape::Tbf(tbf) => Options::Tbf(*tbf),
            Shape::Towards { .. } => Options::Htb,
        }
    }

    fn all_options(&self) -> Vec<Options> {
        let mut all = vec![self.root_options()];
        if let Shape::Towards {
            netem: Some(netem), ..
        } = &self.shape
        {
            all.push(Options::Netem(netem.clone()));
        }
        all
    }
}

/// An answer without an error is no proof: old kernels take what they do not know in silence.
fn same(asked: &Options, seen: Option<Root>) -> Result<(), Error> {
    let unlike = |cause: String| Error::Act {
        what: "shape what leaves the device as asked".to_owned(),
        cause: cause.into(),
    };
    let seen = seen.ok_or_else(|| unlike("nothing of it is there".to_owned()))?;
    if seen.kind != asked.kind() {
        return Err(unlike(format!("{seen} is there")));
    }
    asked
        .unlike(&seen.raw_options())
        .map_or(Ok(()), |words| Err(unlike(words)))
}

fn told(root: &Option<Root>) -> String {
    root.as_ref()
        .map_or_else(|| "none".to_owned(), ToString::to_string)
}

fn root(hands: &mut Hands, device: u32) -> Result<Option<Root>, netlink::Error> {
    let roots = qdisc::roots(hands.route()?)?;
    Ok(roots.into_iter().find(|root| root.device == device))
}

/// The number of a device of this network namespace.
fn number(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(Path::new(name)).ok()
}

/// Every root of ours that the host has now, in words.
pub fn seen(hands: &mut Hands) -> Result<Vec<String>, Error> {
    let look = |cause: netlink::Error| Error::Capture {
        what: "look at the qdiscs".to_owned(),
        cause: cause.into(),
    };
    let roots = qdisc::roots(hands.route().map_err(look)?).map_err(look)?;
    let ours = roots.iter().filter(|root| root.is_ours());
    Ok(ours
        .map(|root| format!("{root} on device {}", root.device))
        .collect())
}
