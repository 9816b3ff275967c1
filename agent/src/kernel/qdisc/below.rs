//! What stands below our dividing root: our one class with what is in it, our filters, and what others
//! have put there since.
//!
//! Numbers are from linux/rtnetlink.h and linux/pkt_cls.h (uapi).

use super::options::Filter;
use super::{
    CHILD, CLASS, Error, HEADER, OURS, Options, Permit, Root, Socket, TCA_KIND, TCA_OPTIONS, all,
    attributes, dump, header, text, word,
};

const RTM_GETTCLASS: u16 = 42;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

/// One filter at our root.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    kind: String,
    handle: u32,
    /// Priority and EtherType, as in the message's header.
    info: u32,
    /// None: not a filter by itself, but a table of them.
    rule: Option<Vec<u8>>,
}

/// What of it we have not put there as it is, in words. What is missing is not told: a crash may have
/// come between.
pub fn foreign(
    socket: &mut Socket,
    device: u32,
    (class, inside): (&Options, Option<&Options>),
    filters: &[Filter],
) -> Result<Vec<String>, Error> {
    let mut told = Vec::new();
    for (handle, options) in classes(socket, device)? {
        if handle != CLASS {
            told.push(format!("class {:x}:{:x}", handle >> 16, handle & 0xffff));
        } else if let Some(how) = class.unlike(&options) {
            told.push(format!("our class has changed: {how}"));
        }
    }
    let below = |parent: u32| [OURS >> 16, CHILD >> 16].contains(&(parent >> 16));
    for child in all(socket, below)?
        .iter()
        .filter(|child| child.device == device)
    {
        told.extend(foreign_child(child, inside));
    }
    let ours = |seen: &Seen| filters.iter().any(|filter| is(seen, filter));
    let others = seen(socket, device)?.into_iter().filter(|seen| !ours(seen));
    told.extend(others.filter_map(|seen| {
        let plain = seen.kind == "u32" && seen.rule.is_none();
        (!plain).then(|| format!("filter {} of priority {}", seen.kind, seen.info >> 16))
    }));
    told.dedup();
    Ok(told)
}

fn foreign_child(child: &Root, inside: Option<&Options>) -> Option<String> {
    match inside.filter(|inside| child.handle == CHILD && child.kind == inside.kind()) {
        Some(inside) => {
            let how = inside.unlike(&child.raw_options())?;
            Some(format!("{child} in our class has changed: {how}"))
        }
        None => Some(child.to_string()),
    }
}

/// Takes our filters away and leaves all else: nothing goes into our class any more.
pub fn unsteer(
    socket: &mut Socket,
    device: u32,
    filters: &[Filter],
    _: &Permit,
) -> Result<(), Error> {
    for seen in seen(socket, device)? {
        if filters.iter().any(|filter| is(&seen, filter)) {
            let it = header(device, seen.handle, OURS, seen.info);
            socket.request("filter", (RTM_DELTFILTER, 0), &it, |out| {
                out.text(TCA_KIND, &seen.kind);
            })?;
        }
    }
    Ok(())
}

fn is(seen: &Seen, filter: &Filter) -> bool {
    let asked = filter.encode(CLASS);
    seen.kind == "u32"
        && seen.info == filter.info()
        && seen
            .rule
            .as_deref()
            .is_some_and(|rule| Filter::same_rule(rule, &asked))
}

/// Handles and options of the classes at our root.
fn classes(socket: &mut Socket, device: u32) -> Result<Vec<(u32, Vec<u8>)>, Error> {
    dump(socket, ("classes", RTM_GETTCLASS), (device, 0), |payload| {
        let handle = word(payload, 8)?;
        let ours = word(payload, 4)? == device && handle >> 16 == OURS >> 16;
        let mut all = attributes(payload.get(HEADER..)?);
        let options = all.find(|(kind, _)| *kind == TCA_OPTIONS);
        ours.then(|| {
            (
                handle,
                options.map_or(Vec::new(), |(_, value)| value.to_vec()),
            )
        })
    })
}

fn seen(socket: &mut Socket, device: u32) -> Result<Vec<Seen>, Error> {
    dump(
        socket,
        ("filters", RTM_GETTFILTER),
        (device, OURS),
        |payload| {
            let mut found = Seen {
                kind: String::new(),
                handle: word(payload, 8)?,
                info: word(payload, 16)?,
                rule: None,
            };
            for (kind, value) in attributes(payload.get(HEADER..)?) {
                match kind {
                    TCA_KIND => found.kind = text(value),
                    TCA_OPTIONS => found.rule = Filter::is_rule(value).then(|| value.to_vec()),
                    _ => {}
                }
            }
            Some(found)
        },
    )
}
