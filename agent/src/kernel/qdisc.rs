//! Root queueing disciplines of a device: the ones of ours, and raw copies of those of others.
//!
//! Numbers and structs are from linux/rtnetlink.h and linux/pkt_sched.h (uapi).

mod below;
mod options;

use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::netlink::{
    Batch, Error, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, Socket, attributes,
};
use crate::hex;
use crate::journal::Permit;

pub use below::{foreign, unsteer};
pub use options::{Filter, Options};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const QDISCS: (&str, u16) = ("qdiscs", RTM_GETQDISC);
const RTM_NEWTCLASS: u16 = 40;
const RTM_NEWTFILTER: u16 = 44;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STAB: u16 = 8;
/// Within TCA_STATS2, of linux/gen_stats.h: there only if somebody wants a rate measured.
const TCA_STATS_RATE_EST: u16 = 2;
const TC_H_ROOT: u32 = 0xffff_ffff;
/// struct tcmsg: family, 3 bytes of padding, ifindex, handle, parent, info.
const HEADER: usize = 20;

/// The handle of every root of ours, `c5a0:`; and its one class, `c5a0:1`.
pub const OURS: u32 = 0xc5a0_0000;
const CLASS: u32 = OURS | 1;
const CHILD: u32 = 0xc5a1_0000;

/// The root of one device, as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    pub device: u32,
    pub kind: String,
    /// 0: the kernel's own default, which comes by itself when there is no other.
    pub handle: u32,
    /// As the kernel wrote them, in hex.
    pub options: String,
}

impl Root {
    pub fn is_ours(&self) -> bool {
        self.handle == OURS
    }

    pub fn is_default(&self) -> bool {
        self.handle == 0
    }

    /// The options as bytes.
    pub fn raw_options(&self) -> Vec<u8> {
        hex::decode(&self.options).unwrap_or_default()
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "qdisc {} {:x}:", self.kind, self.handle >> 16)
    }
}

fn header(device: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (at, word) in [(4, device), (8, handle), (12, parent), (16, info)] {
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The root of every device, and what stands below one of ours.
pub fn roots(socket: &mut Socket) -> Result<Vec<Root>, Error> {
    all(socket, |parent| parent == TC_H_ROOT)
}

/// What stands inside the class of ours on a device.
pub fn child(socket: &mut Socket, device: u32) -> Result<Option<Root>, Error> {
    let found = all(socket, |parent| parent == CLASS)?;
    Ok(found.into_iter().find(|child| child.device == device))
}

/// What belongs to a root and would not come back by [`restore`], in words.
pub fn beyond(socket: &mut Socket, root: &Root) -> Result<Vec<String>, Error> {
    let found = dump(socket, QDISCS, (0, 0), |payload| {
        if word(payload, 4)? != root.device {
            return None;
        }
        let (handle, parent) = (word(payload, 8)?, word(payload, 12)?);
        if parent != TC_H_ROOT {
            let below = parent >> 16 == root.handle >> 16;
            return below.then(|| vec![format!("qdisc {:x}: below it", handle >> 16)]);
        }
        let all: Vec<_> = attributes(payload.get(HEADER..)?).collect();
        let has = |wanted| all.iter().find(|(kind, _)| *kind == wanted);
        let table = has(TCA_STAB).map(|_| "a table of sizes".to_owned());
        let measured = has(TCA_STATS2).filter(|(_, statistics)| {
            attributes(statistics).any(|(kind, _)| kind == TCA_STATS_RATE_EST)
        });
        let measured = measured.map(|_| "a measurement of its rate".to_owned());
        Some(table.into_iter().chain(measured).collect())
    })?;
    Ok(found.into_iter().flatten().collect())
}

fn all(socket: &mut Socket, at: impl Fn(u32) -> bool) -> Result<Vec<Root>, Error> {
    dump(socket, QDISCS, (0, 0), |payload| parse(payload, &at))
}

/// All that the kernel tells of one kind, whatever its order; device and parent are 0 where it shall
/// tell of all.
fn dump<T>(
    socket: &mut Socket,
    (label, kind): (&'static str, u16),
    (device, parent): (u32, u32),
    each: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Error> {
    let found = std::cell::RefCell::new(Vec::new());
    socket.dump_whole(
        || {
            let mut batch = Batch::default();
            let of = header(device, 0, parent, 0);
            batch.message_of(label, (kind, NLM_F_DUMP), &of, |_| {});
            batch
        },
        |payload| {
            found.borrow_mut().extend(each(payload));
            Ok(())
        },
        || found.borrow_mut().clear(),
    )?;
    Ok(found.into_inner())
}

/// A string of an attribute, which ends with a zero.
fn text(value: &[u8]) -> String {
    let name = String::from_utf8_lossy(value);
    name.trim_end_matches('\0').to_owned()
}

fn parse(payload: &[u8], at: impl Fn(u32) -> bool) -> Option<Root> {
    if !at(word(payload, 12)?) {
        return None;
    }
    let mut root = Root {
        device: word(payload, 4)?,
        kind: String::new(),
        handle: word(payload, 8)?,
        options: String::new(),
    };
    for (kind, value) in attributes(payload.get(HEADER..)?) {
        match kind {
            TCA_KIND => root.kind = text(value),
            TCA_OPTIONS => root.options = hex::encode(value),
            _ => {}
        }
    }
    Some(root)
}

/// Puts a root of ours in the place of whatever is there; the caller has looked what that is.
pub fn set(socket: &mut Socket, device: u32, options: &Options, _: &Permit) -> Result<(), Error> {
    try_out(socket, device, options)
}

/// Without a permit: for a device in a namespace that is thrown away.
pub(in crate::kernel) fn try_out(
    socket: &mut Socket,
    device: u32,
    options: &Options,
) -> Result<(), Error> {
    put(socket, (device, OURS, TC_H_ROOT), options)
}

fn put(
    socket: &mut Socket,
    (device, handle, parent): (u32, u32, u32),
    options: &Options,
) -> Result<(), Error> {
    let to = header(device, handle, parent, 0);
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    socket.request("qdisc", (RTM_NEWQDISC, flags), &to, |out| {
        out.text(TCA_KIND, options.kind());
        out.bytes(TCA_OPTIONS, &options.encode());
    })
}

/// The one class of our htb, what stands in it, and what leads packets into it.
pub fn divide(
    socket: &mut Socket,
    device: u32,
    (class, inside): (&Options, Option<&Options>),
    filters: &[Filter],
    _: &Permit,
) -> Result<(), Error> {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let to = header(device, CLASS, OURS, 0);
    socket.request("class", (RTM_NEWTCLASS, flags), &to, |out| {
        out.text(TCA_KIND, class.kind());
        out.bytes(TCA_OPTIONS, &class.encode());
    })?;
    if let Some(inside) = inside {
        put(socket, (device, CHILD, CLASS), inside)?;
    }
    for filter in filters {
        let to = header(device, 0, OURS, filter.info());
        socket.request("filter", (RTM_NEWTFILTER, flags), &to, |out| {
            out.text(TCA_KIND, "u32");
            out.bytes(TCA_OPTIONS, &filter.encode(CLASS));
        })?;
    }
    Ok(())
}

/// Deletes a root of ours with all that is below it. Another one there is not touched: the kernel
/// compares the handle.
pub fn delete(socket: &mut Socket, device: u32, _: &Permit) -> Result<(), Error> {
    let ours = header(device, OURS, TC_H_ROOT, 0);
    match socket.request("qdisc", (RTM_DELQDISC, 0), &ours, |_| {}) {
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => Ok(()),
        other => other,
    }
}

/// Puts a captured root of another owner back in the place of ours.
pub fn restore(socket: &mut Socket, root: &Root, _: &Permit) -> Result<(), Error> {
    let to = header(root.device, root.handle, TC_H_ROOT, 0);
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    socket.request("qdisc", (RTM_NEWQDISC, flags), &to, |out| {
        out.text(TCA_KIND, &root.kind);
        out.bytes(TCA_OPTIONS, &root.raw_options());
    })
}
