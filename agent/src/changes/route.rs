//! Routes to one destination withdrawn or led elsewhere, and put back exactly as they were.
//!
//! What stands in their place has a routing protocol of our own (199) and the same metric, so that it
//! replaces the first of them without a moment between. An application sees a replaced route at once
//! (EINVAL, EHOSTUNREACH, EACCES): for a cloud that is silently gone there is the firewall.

use nix::errno::Errno;
use scenarios::change::{Instead, RouteChange};
use serde::{Deserialize, Serialize};

use super::{Error, Hands, Place, Reversible, network};
use crate::journal::Permit;
use crate::kernel::links::Links;
use crate::kernel::netlink::{self, Socket};
use crate::kernel::nft::Gate;
use crate::kernel::route::{self, Kind, Route};

/// What to do when the way back fails: the routes are in the journal, but in hex.
const NEXT: &str = "run `cellwall-agent revert --all` once the cause is gone; if that is for good, move the \
                    journal away";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// Every route that the change takes away, as raw messages.
    pub routes: Vec<Route>,
    /// What stands in the place of the first of them, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Route>,
    /// Where they are; none in a journal of before, and from a kernel that cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u64>,
}

impl Reversible for RouteChange {
    type Undo = Undo;

    fn capture(&self, hands: &mut Hands, _: &Place) -> Result<Undo, Error> {
        let refuse = |why: String| Error::Refused {
            what: self.summary(),
            why,
        };
        let look = |cause: netlink::Error| Error::Capture {
            what: "list the routes".to_owned(),
            cause: cause.into(),
        };
        let there = all(hands).map_err(look)?;
        let namespace = network::here(hands).map_err(look)?;
        let to_it: Vec<Route> = there.into_iter().filter(|r| self.is_meant(r)).collect();
        if let Some(ours) = to_it.iter().find(|route| route.is_ours()) {
            return Err(refuse(format!("there is a {ours} of ours already")));
        }
        let routes: Vec<Route> = to_it.iter().filter(|r| r.is_unicast()).cloned().collect();
        let Some(first) = routes.first() else {
            return Err(refuse("there is no such route".to_owned()));
        };
        if let Some(route) = routes.iter().find(|route| route.expires()) {
            let why = "ends by itself, so it could not be put back as it was";
            return Err(refuse(format!("the {route} {why}")));
        }
        for route in &routes {
            // Of whatever kind the other one is.
            if to_it.iter().filter(|other| other.same_slot(route)).count() > 1 {
                let why = "in an order that could not be put back";
                return Err(refuse(format!("there are several {route} {why}")));
            }
        }
        let instead = match self.instead {
            None => None,
            Some(Instead::Via(hop)) if hop.is_ipv4() != self.destination.addr().is_ipv4() => {
                return Err(refuse(format!("{hop} is of another family")));
            }
            Some(instead) => Some(ours(first, instead)),
        };
        Ok(Undo {
            routes,
            instead,
            namespace,
        })
    }

    fn apply(&self, undo: &Undo, hands: &mut Hands, _: Gate, permit: &Permit) -> Result<(), Error> {
        let not_applied = |why: String| Error::NotApplied {
            what: self.summary(),
            why,
        };
        let act = |cause: netlink::Error| Error::Act {
            what: "withdraw the routes".to_owned(),
            cause: cause.into(),
        };
        let now = all(hands).map_err(|cause| not_applied(cause.to_string()))?;
        if let Some(gone) = undo.routes.iter().find(|route| !now.contains(route)) {
            return Err(not_applied(format!(
                "the {gone} is not there as it was at arm"
            )));
        }
        let socket = hands
            .route()
            .map_err(|cause| not_applied(cause.to_string()))?;
        let mut rest = undo.routes.as_slice();
        if let Some(instead) = &undo.instead {
            route::replace(socket, instead, permit).map_err(|cause| match cause.errno() {
                // The kernel said no to the first thing that was asked.
                Some(_) => not_applied(cause.to_string()),
                None => act(cause),
            })?;
            rest = &rest[1..];
        }
        for route in rest {
            route::delete(socket, route, permit).map_err(act)?;
        }
        let after = all(hands).map_err(act)?;
        let there = undo.routes.iter().find(|route| after.contains(route));
        let missing = undo
            .instead
            .iter()
            .find(|ours| !after.iter().any(|seen| seen.is_the_asked(ours)));
        match (there, missing) {
            (None, None) => Ok(()),
            (Some(route), _) => Err(unlike("take the routes away", format!("{route} is there"))),
            (_, Some(ours)) => Err(unlike("lead them elsewhere", format!("no {ours} of ours"))),
        }
    }

    fn undo(undo: &Undo, hands: &mut Hands, permit: &Permit) -> Result<Vec<String>, Error> {
        let back = |cause: netlink::Error| Error::Back {
            what: "put the routes back".to_owned(),
            cause: cause.into(),
            now: "they may be missing or lead elsewhere".to_owned(),
            next: NEXT,
        };
        if let Some(gone) = network::elsewhere(undo.namespace, hands, "put the routes back")? {
            return Ok(gone);
        }
        let now = all(hands).map_err(back)?;
        let missing = undo.routes.iter().any(|route| !now.contains(route));
        if !missing && !now.iter().any(|route| undo.is_ours(route)) {
            return Ok(Vec::new());
        }
        let socket = hands.route().map_err(back)?;
        let (drifted, owed) = put_back(undo, &now, socket, permit);
        // Also one whose place could not be filled again: the fault ends, whatever is still owed.
        if let Some(ours) = &undo.instead {
            route::delete(socket, ours, permit).map_err(back)?;
        }
        if let Some(cause) = owed {
            return Err(back(cause));
        }
        verified(undo, hands, drifted)
    }

    fn lapsed(undo: &Undo) -> Vec<String> {
        let now = match Socket::open_route().and_then(|mut socket| route::all(&mut socket)) {
            Ok(now) => now,
            Err(cause) => return vec![format!("whether the routes held cannot be told: {cause}")],
        };
        let back = undo.routes.iter().filter(|route| now.contains(route));
        let mut lapsed: Vec<String> = back
            .map(|route| format!("the {route} was put back early"))
            .collect();
        let asked = undo.instead.iter();
        let gone = asked.filter(|ours| !now.iter().any(|seen| seen.is_the_asked(ours)));
        lapsed.extend(gone.map(|ours| format!("the {ours} of ours was taken away early")));
        lapsed
    }

    /// The next hop of a route may be reached by a network that another change has withdrawn.
    fn leans_on_others(_: &Undo) -> bool {
        true
    }
}

impl Undo {
    /// The one that stands there instead of those that were captured.
    fn is_ours(&self, route: &Route) -> bool {
        let ours = self.instead.as_ref();
        ours.is_some_and(|ours| route.is_the_asked(ours))
    }
}

/// Puts every missing route back that can be: which drifted, and why one that did not is still owed.
fn put_back(
    undo: &Undo,
    now: &[Route],
    socket: &mut Socket,
    permit: &Permit,
) -> (Vec<String>, Option<netlink::Error>) {
    let (mut drifted, mut owed) = (Vec::new(), None);
    let mut ours = now.iter().find(|route| undo.is_ours(route));
    for route in undo.routes.iter().filter(|route| !now.contains(route)) {
        let mut others = now.iter().filter(|other| !undo.is_ours(other));
        if let Some(other) = others.find(|other| other.same_slot(route)) {
            drifted.push(format!("another {other} stands where one was captured"));
            continue;
        }
        let put = match ours.take_if(|ours| ours.same_slot(route)) {
            Some(_) => route::replace(socket, route, permit),
            None => route::add(socket, route, permit),
        };
        if let Err(cause) = put {
            match way_is_gone(route, &cause) {
                Ok(true) => drifted.push(format!("the way of the {route} is gone: {cause}")),
                Ok(false) => owed = Some(cause),
                Err(look) => owed = Some(look),
            }
        }
    }
    (drifted, owed)
}

/// After the way back: nothing of ours, and every captured route unless it drifted.
fn verified(undo: &Undo, hands: &mut Hands, drifted: Vec<String>) -> Result<Vec<String>, Error> {
    let not_back = |cause: String| Error::Back {
        what: "put the routes back".to_owned(),
        cause: cause.into(),
        now: "the other routes are as they were".to_owned(),
        next: NEXT,
    };
    let now = all(hands).map_err(|cause| not_back(cause.to_string()))?;
    let asked = undo.instead.iter();
    let mut ours = asked.filter(|ours| now.iter().any(|seen| seen.is_the_asked(ours)));
    if let Some(ours) = ours.next() {
        return Err(not_back(format!("the {ours} is still ours")));
    }
    match undo.routes.iter().find(|route| !now.contains(route)) {
        Some(route) if drifted.is_empty() => Err(not_back(format!("the {route} did not appear"))),
        _ => Ok(drifted),
    }
}

/// What no second try would change: a device, the address or the next hop object of the route is not there any
/// more, or all its devices are down. Otherwise what is out of reach may come back: without a fault the route
/// would have stayed in the table, so it is owed.
fn way_is_gone(route: &Route, cause: &netlink::Error) -> Result<bool, netlink::Error> {
    use Errno::{EADDRNOTAVAIL, EHOSTUNREACH, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, ENOENT};
    if matches!(
        cause.errno(),
        Some(ENETUNREACH | EHOSTUNREACH | ENODEV | ENETDOWN)
    ) {
        let links = Links::open()?.all()?;
        let devices = route.devices();
        let is_there = |device: &u32| links.iter().any(|link| link.index == *device);
        let is_up = |device: &u32| links.iter().any(|link| link.index == *device && link.up);
        return Ok(!devices.iter().all(is_there) || !devices.iter().any(is_up));
    }
    let gone = [
        EADDRNOTAVAIL, // the preferred source address
        ENOENT,
        Errno::EEXIST, // somebody was quicker than the look
    ];
    // Of a route that needs neither, a rule of others stands in its next hop's way, and may go.
    let lacks = cause.errno() == Some(EINVAL) && route.needs_more_than_devices();
    Ok(lacks || cause.errno().is_some_and(|errno| gone.contains(&errno)))
}

fn unlike(what: &str, seen: String) -> Error {
    Error::Act {
        what: what.to_owned(),
        cause: format!("the kernel took it, but {seen}").into(),
    }
}

fn ours(first: &Route, instead: Instead) -> Route {
    match instead {
        Instead::Blackhole => Route::instead_of(first, Kind::Blackhole, None),
        Instead::Unreachable => Route::instead_of(first, Kind::Unreachable, None),
        Instead::Prohibit => Route::instead_of(first, Kind::Prohibit, None),
        Instead::Via(hop) => Route::instead_of(first, Kind::Unicast, Some(hop)),
    }
}

fn all(hands: &mut Hands) -> Result<Vec<Route>, netlink::Error> {
    let socket: &mut Socket = hands.route()?;
    route::all(socket)
}

/// Every route of ours that the host has now, in words.
pub fn seen(hands: &mut Hands) -> Result<Vec<String>, Error> {
    let routes = all(hands).map_err(|cause| Error::Capture {
        what: "list the routes".to_owned(),
        cause: cause.into(),
    })?;
    let ours = routes.iter().filter(|route| route.is_ours());
    Ok(ours
        .map(|route| format!("{route} (protocol 199)"))
        .collect())
}

trait Meant {
    fn is_meant(&self, route: &Route) -> bool;
}

impl Meant for RouteChange {
    fn is_meant(&self, route: &Route) -> bool {
        route.table() == self.table && route.destination() == Some(self.destination.trunc())
    }
}
