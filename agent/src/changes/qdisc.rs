//! A root queueing discipline of ours on one device, and the one of before put back.
//!
//! Ours has the handle `c5a0:`. A root of others is replaced only if it can be put back exactly: one
//! with nothing below it whose options the kernel tells whole. Anything else is refused by name.
//! Whoever alters ours in place (`tc qdisc replace` without a handle does) keeps what was set: it is
//! told, as drifted and, since it still has our handle, as residue.

use std::path::Path;

use scenarios::change::{QdiscChange, Shape};
use serde::{Deserialize, Serialize};

use super::{Error, Hands, Place, Reversible, network};
use crate::journal::Permit;
use crate::kernel::links::Links;
use crate::kernel::netlink::{self, Socket};
use crate::kernel::nft::Gate;
use crate::kernel::qdisc::{self, Filter, Options, Root};
use crate::kernel::tryout;

/// Disciplines of others that come back from what the kernel tells about them.
const RESTORABLE: [&str; 3] = ["pfifo", "bfifo", "tbf"];
/// DEFAULT_TX_QUEUE_LEN of linux/netdevice.h.
const USUAL_LENGTH: u32 = 1_000;
const NEXT: &str = "look at it with `tc qdisc show`, then run `cellwall-agent revert --all`";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    pub name: String,
    /// The device's number: another device under the name is not ours.
    pub device: u32,
    /// What stood there; none if the kernel told of none.
    pub before: Option<Root>,
    /// By which ours is told from one that others have altered since; none in a journal of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// Where the device is; none in a journal of before, and from a kernel that cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u64>,
    /// The device's queue had the length 0, which the kernel makes [`USUAL_LENGTH`] with a first qdisc.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_length: bool,
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
        let look = |cause: netlink::Error| Error::Capture {
            what: format!("look at the qdiscs of {name}"),
            cause: cause.into(),
        };
        let before = root(hands, device).map_err(look)?;
        if let Some(root) = &before {
            if root.is_ours() {
                return Err(refuse(format!("{name} has one of ours already")));
            }
            if let Some(lost) = lost(root, hands).map_err(look)? {
                return Err(refuse(format!(
                    "{name} has {root} of another owner, which could not be put back exactly{lost}"
                )));
            }
        }
        if let Shape::Towards { peers, .. } = &self.shape
            && peers.is_empty()
        {
            return Err(refuse("no peer is named".to_owned()));
        }
        for options in all_options(&self.shape) {
            if let Some(why) = tryout::qdisc(&options) {
                return Err(refuse(format!("this kernel cannot do it: {why}")));
            }
        }
        Ok(Undo {
            name: name.clone(),
            device,
            before,
            shape: Some(self.shape.clone()),
            namespace: network::here(hands).map_err(look)?,
            without_length: length(device).map_err(look)? == Some(0),
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
        let lost = match &now {
            Some(root) => lost(root, hands).map_err(|cause| not_applied(cause.to_string()))?,
            None => None,
        };
        if let Some(lost) = lost {
            return Err(not_applied(format!("the qdisc got more since arm{lost}")));
        }
        let socket = hands
            .route()
            .map_err(|cause| not_applied(cause.to_string()))?;
        let first = root_options(&self.shape);
        qdisc::set(socket, device, &first, permit).map_err(|cause| match cause.errno() {
            Some(_) => not_applied(cause.to_string()),
            None => act(cause),
        })?;
        let Some((class, inside, filters)) = divided(&self.shape) else {
            let as_asked = same(&first, root(hands, device).map_err(act)?);
            if as_asked.is_err() {
                // To the undo it would look like one that others have altered.
                take_away(undo, hands, permit)?;
            }
            return as_asked;
        };
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
        let what = format!("take our qdisc from {name}");
        if let Some(gone) = network::elsewhere(undo.namespace, hands, &what)? {
            return Ok(gone);
        }
        let drifted = undo_root(undo, hands, permit)?;
        if undo.without_length {
            let now = root(hands, undo.device).map_err(|cause| back(undo, cause.into()))?;
            // Not before: a qdisc of ours that stands there counts on it.
            if !now.is_some_and(|now| now.is_ours()) {
                take_length_away(undo, permit)?;
            }
        }
        Ok(drifted)
    }

    fn lapsed(undo: &Undo) -> Vec<String> {
        let name = &undo.name;
        let roots = match Socket::open_route().and_then(|mut socket| qdisc::roots(&mut socket)) {
            Ok(roots) => roots,
            Err(cause) => return vec![format!("whether the qdisc held cannot be told: {cause}")],
        };
        let now = roots.into_iter().find(|root| root.device == undo.device);
        let early = match &now {
            Some(root) if root.is_ours() => undo
                .shape
                .as_ref()
                .and_then(|shape| altered(shape, root))
                .map(|how| format!("our qdisc of {name} was altered early: {how}")),
            Some(root) => Some(format!("{name} had {root} instead of ours")),
            None => Some(format!("{name} was gone, and our qdisc with it")),
        };
        early.into_iter().collect()
    }

    /// A length bears no name.
    fn may_repeat(undo: &Undo) -> bool {
        !undo.without_length
    }
}

/// The root as it was, if ours is there; what somebody else has put there stays.
fn undo_root(undo: &Undo, hands: &mut Hands, permit: &Permit) -> Result<Vec<String>, Error> {
    let name = &undo.name;
    let now = root(hands, undo.device).map_err(|cause| back(undo, cause.into()))?;
    let Some(ours) = now.as_ref().filter(|root| root.is_ours()) else {
        // Not applied, or undone before, or gone with its device; or somebody has changed it.
        let changed = now.is_some() && now != undo.before;
        let drifted = changed && number(name) == Some(undo.device);
        return Ok(drifted
            .then(|| format!("{name} has another qdisc than was captured: {}", told(&now)))
            .into_iter()
            .collect());
    };
    if let Some(how) = undo.shape.as_ref().and_then(|shape| altered(shape, ours)) {
        return Ok(vec![format!(
            "somebody else has altered our qdisc of {name}, and it stays so: {how}"
        )]);
    }
    match undo.shape.as_ref().and_then(divided) {
        Some(below) => undo_divided(undo, &below, hands, permit),
        None => undo_whole(undo, ours, hands, permit),
    }
}

/// A root that shapes all: as long as it is there it does, so what others have put below cannot stay.
fn undo_whole(
    undo: &Undo,
    ours: &Root,
    hands: &mut Hands,
    permit: &Permit,
) -> Result<Vec<String>, Error> {
    let name = &undo.name;
    let failed = |cause: netlink::Error| back(undo, cause.into());
    let below = qdisc::beyond(hands.route().map_err(failed)?, ours).map_err(failed)?;
    let mut drifted = take_away(undo, hands, permit)?;
    drifted.extend(below.iter().map(|what| {
        format!("our qdisc of {name} went, and what others had put there with it: {what}")
    }));
    Ok(drifted)
}

/// A root that shapes only what our filters lead into our class: where others have put something below it,
/// which would go with it, it stays without our filters, so that the fault ends.
fn undo_divided(
    undo: &Undo,
    (class, inside, filters): &Divided,
    hands: &mut Hands,
    permit: &Permit,
) -> Result<Vec<String>, Error> {
    let failed = |cause: netlink::Error| back(undo, cause.into());
    let socket = hands.route().map_err(failed)?;
    let within = (class, inside.as_ref());
    let foreign = qdisc::foreign(socket, undo.device, within, filters).map_err(failed)?;
    if foreign.is_empty() {
        return take_away(undo, hands, permit);
    }
    qdisc::unsteer(socket, undo.device, filters, permit).map_err(failed)?;
    Ok(vec![format!(
        "somebody else has put something below our qdisc of {}, so it stays, and none of our filters \
         leads anything into our class any more: {}",
        undo.name,
        foreign.join(", ")
    )])
}

/// The class below a dividing root, what is inside, and what leads into it.
type Divided = (Options, Option<Options>, Vec<Filter>);

fn divided(shape: &Shape) -> Option<Divided> {
    let Shape::Towards {
        peers,
        rate_bps,
        netem,
    } = shape
    else {
        return None;
    };
    let class = Options::HtbClass {
        rate_bps: *rate_bps,
    };
    let inside = netem.clone().map(Options::Netem);
    Some((class, inside, peers.iter().copied().map(Filter).collect()))
}

/// Takes ours away, or puts in its place what was there before.
fn take_away(undo: &Undo, hands: &mut Hands, permit: &Permit) -> Result<Vec<String>, Error> {
    let name = &undo.name;
    let failed = |cause: netlink::Error| back(undo, cause.into());
    let socket = hands.route().map_err(failed)?;
    match undo.before.as_ref().filter(|before| !before.is_default()) {
        Some(before) => qdisc::restore(socket, before, permit).map_err(failed)?,
        None => qdisc::delete(socket, undo.device, permit).map_err(failed)?,
    }
    let after = root(hands, undo.device).map_err(failed)?;
    if after.as_ref().is_some_and(Root::is_ours) {
        return Err(back(undo, "the kernel said yes, but it is there".into()));
    }
    // A default comes from the kernel, which may have been told of another one since.
    let same = after == undo.before || number(name) != Some(undo.device);
    let other = || {
        let (after, before) = (told(&after), told(&undo.before));
        format!("{name} has {after} where there was {before}")
    };
    Ok((!same).then(other).into_iter().collect())
}

/// The length that the kernel has given the device for our sake.
fn take_length_away(undo: &Undo, permit: &Permit) -> Result<(), Error> {
    let failed = |cause: netlink::Error| Error::Back {
        what: format!("take the queue length of {} away", undo.name),
        cause: cause.into(),
        now: format!("the qdisc is as before, the length may be {USUAL_LENGTH}"),
        next: "look at it with `ip link`, then run `cellwall-agent revert --all`",
    };
    match length(undo.device).map_err(failed)? {
        Some(USUAL_LENGTH) => Links::open()
            .and_then(|mut links| links.set_queue_length(undo.device, 0, permit))
            .map_err(failed),
        _ => Ok(()), // never given, or of somebody else
    }
}

/// `txqueuelen` of a device; none if it is gone.
fn length(device: u32) -> Result<Option<u32>, netlink::Error> {
    let links = Links::open()?.all()?;
    let link = links.into_iter().find(|link| link.index == device);
    Ok(link.and_then(|link| link.queue_length))
}

fn back(undo: &Undo, cause: super::Cause) -> Error {
    Error::Back {
        what: format!("take our qdisc from {}", undo.name),
        cause,
        now: "it may still shape what leaves".to_owned(),
        next: NEXT,
    }
}

/// What of a root would not come back if ours stood in its place, in words; none if all would.
fn lost(root: &Root, hands: &mut Hands) -> Result<Option<String>, netlink::Error> {
    if root.is_default() {
        return Ok(None);
    }
    if !RESTORABLE.contains(&root.kind.as_str()) {
        return Ok(Some(String::new()));
    }
    let beyond = qdisc::beyond(hands.route()?, root)?;
    Ok((!beyond.is_empty()).then(|| format!(": it has {}", beyond.join(", "))))
}

fn root_options(shape: &Shape) -> Options {
    match shape {
        Shape::Netem(netem) => Options::Netem(netem.clone()),
        Shape::Tbf(tbf) => Options::Tbf(*tbf),
        Shape::Towards { .. } => Options::Htb,
    }
}

fn all_options(shape: &Shape) -> Vec<Options> {
    let mut all = vec![root_options(shape)];
    if let Shape::Towards {
        netem: Some(netem), ..
    } = shape
    {
        all.push(Options::Netem(netem.clone()));
    }
    all
}

/// How a root with our handle differs from what we have set, in words.
fn altered(shape: &Shape, seen: &Root) -> Option<String> {
    unlike(&root_options(shape), seen)
}

fn unlike(asked: &Options, seen: &Root) -> Option<String> {
    match seen.kind == asked.kind() {
        true => asked.unlike(&seen.raw_options()),
        false => Some(format!("{seen} is there")),
    }
}

/// An answer without an error is no proof: old kernels take what they do not know in silence.
fn same(asked: &Options, seen: Option<Root>) -> Result<(), Error> {
    let differs = match &seen {
        None => Some("nothing of it is there".to_owned()),
        Some(seen) => unlike(asked, seen),
    };
    differs.map_or(Ok(()), |cause| {
        Err(Error::Act {
            what: "shape what leaves the device as asked".to_owned(),
            cause: cause.into(),
        })
    })
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
