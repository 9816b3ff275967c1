//! Plain cells: the parts of the shop as processes, one part to a host, an agent on every host.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::flaw::{Argument, Spot, Wiring};
use crate::internet::{self, listen, shop};
use crate::kind::{CellKind, Place};
use crate::layout::{Ask, CellLayout, Check, Layout, NodeLayout, Service};

const BALANCER_PORT: u16 = 80;
const FRONT_PORT: u16 = 8080;
const PRICING_PORT: u16 = 8081;
const STORE_PORT: u16 = 8082;
const SHARED_PORT: u16 = 8083;
const DNS_PORT: u16 = 53;

const FRONTS: [&str; 2] = ["front-1", "front-2"];

/// See the module.
pub struct Plain;

impl CellKind for Plain {
    fn nodes(&self) -> &'static [(&'static str, u8)] {
        &[
            ("balancer", 10),
            ("front-1", 11),
            ("front-2", 12),
            ("pricing", 13),
            ("store", 14),
            ("resolver", 15),
        ]
    }

    fn entry(&self) -> &'static str {
        "balancer"
    }

    fn services(&self, layout: &Layout, cell: usize, place: &Place) -> Result<Vec<Service>> {
        let own = &layout.cells[cell];
        let wiring = Wiring::of(layout, cell);
        let mut all = vec![
            balancer(own, place)?,
            pricing(own, place)?,
            store(layout, cell, &wiring, place)?,
            resolver(layout, cell, place)?,
        ];
        for turn in 0..FRONTS.len() {
            all.push(front(layout, cell, &wiring, turn, place)?);
        }
        if wiring.serves_all {
            all.push(shared(own, place)?);
        }
        all.extend(
            own.nodes
                .iter()
                .map(|node| crate::agent::service(own, node, place)),
        );
        Ok(all)
    }

    fn checks(&self, cell: &CellLayout) -> Vec<Check> {
        let mut all = internet::user_checks(cell, BALANCER_PORT);
        for front in cell
            .nodes
            .iter()
            .filter(|node| node.name.starts_with("front"))
        {
            for path in ["/", "/checkout"] {
                all.push(Check {
                    from: format!("balancer.{}", cell.name),
                    to: SocketAddr::new(front.inside[0], FRONT_PORT),
                    ask: Ask::Http {
                        path: path.to_string(),
                        status: 200,
                    },
                });
            }
        }
        all.extend(cell.nodes.iter().map(crate::agent::check));
        all
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

fn node<'a>(cell: &'a CellLayout, name: &str) -> Result<&'a NodeLayout> {
    let missing = || Error::Layout(format!("cell `{}` has no node `{name}`", cell.name));
    cell.node(name).ok_or_else(missing)
}

/// Parts that other cells may be wired to listen on both sides of their host.
fn both_sides(node: &NodeLayout) -> Vec<IpAddr> {
    node.inside.iter().chain(&node.public).copied().collect()
}

fn pair(flag: &str, value: impl ToString) -> [String; 2] {
    [flag.to_string(), value.to_string()]
}

fn balancer(cell: &CellLayout, place: &Place) -> Result<Service> {
    let own = node(cell, "balancer")?;
    let mut arguments = listen(&own.public, BALANCER_PORT);
    for name in FRONTS {
        let backend = SocketAddr::new(node(cell, name)?.inside[0], FRONT_PORT);
        arguments.extend(pair("--backend", backend));
    }
    Ok(shop(&own.namespace, "balancer", arguments, place))
}

fn pricing(cell: &CellLayout, place: &Place) -> Result<Service> {
    let own = node(cell, "pricing")?;
    let arguments = listen(&both_sides(own), PRICING_PORT);
    Ok(shop(&own.namespace, "pricing", arguments, place))
}

/// Where a spot is, seen from a cell.
fn address(layout: &Layout, from: usize, spot: Spot) -> Result<SocketAddr> {
    let (cell, name, port) = match spot {
        Spot::Host(host) => return Ok(host),
        Spot::Pricing(cell) => (cell, "pricing", PRICING_PORT),
        Spot::Store(cell) => (cell, "store", STORE_PORT),
        Spot::Shared(cell) => (cell, "pricing", SHARED_PORT),
    };
    let node = node(&layout.cells[cell], name)?;
    let side = if cell == from {
        &node.inside
    } else {
        &node.public
    };
    Ok(SocketAddr::new(side[0], port))
}

/// Command-line words of a part of a cell; `turn` is the number of a front.
fn words(layout: &Layout, cell: usize, all: &[Argument], turn: usize) -> Result<Vec<String>> {
    let word = |argument: &Argument| match argument {
        Argument::Word(word) => Ok(word.clone()),
        Argument::Spot(before, spot) => Ok(format!("{before}{}", address(layout, cell, *spot)?)),
        Argument::Turn(whole) => {
            let ms = whole.as_millis() as usize * turn / FRONTS.len();
            Ok(ms.to_string())
        }
    };
    all.iter().map(word).collect()
}

/// What one cell serves to all, beside its pricing.
fn shared(cell: &CellLayout, place: &Place) -> Result<Service> {
    let own = node(cell, "pricing")?;
    let arguments = listen(&both_sides(own), SHARED_PORT);
    Ok(shop(&own.namespace, "shared", arguments, place))
}

fn store(layout: &Layout, cell: usize, wiring: &Wiring, place: &Place) -> Result<Service> {
    let own = node(&layout.cells[cell], "store")?;
    // Only a flaw wires another cell to it.
    let sides = match layout.flaws.is_empty() {
        true => own.inside.clone(),
        false => both_sides(own),
    };
    let mut arguments = listen(&sides, STORE_PORT);
    let data = place.directory.node(&own.namespace).join("orders");
    arguments.extend(pair("--data", data.display()));
    arguments.extend(words(layout, cell, &wiring.store_arguments, 0)?);
    Ok(shop(&own.namespace, "store", arguments, place))
}

/// The name under which the fronts of a cell ask for a price.
fn pricing_name(cell: &CellLayout) -> String {
    format!("pricing.{}.example", cell.name)
}

/// Its own pricing's inside address; the other cells' pricing under its public one, as a name in
/// a shared zone would give it.
fn resolver(layout: &Layout, cell: usize, place: &Place) -> Result<Service> {
    let own = node(&layout.cells[cell], "resolver")?;
    let mut arguments = listen(&both_sides(own), DNS_PORT);
    for (index, other) in layout.cells.iter().enumerate() {
        let pricing = node(other, "pricing")?;
        let address = if index == cell {
            pricing.inside[0]
        } else {
            pricing.public[0]
        };
        arguments.extend(pair(
            "--record",
            format!("{}={address}", pricing_name(other)),
        ));
    }
    Ok(shop(&own.namespace, "resolver", arguments, place))
}

fn front(
    layout: &Layout,
    cell: usize,
    wiring: &Wiring,
    turn: usize,
    place: &Place,
) -> Result<Service> {
    let own = node(&layout.cells[cell], FRONTS[turn])?;
    let resolver = node(&layout.cells[wiring.resolver], "resolver")?;
    let resolver = match wiring.resolver == cell {
        true => resolver.inside[0],
        false => resolver.public[0],
    };
    let pricing = pricing_name(&layout.cells[wiring.pricing]);
    let mut arguments = listen(&own.inside, FRONT_PORT);
    arguments.extend(pair("--pricing-host", format!("{pricing}:{PRICING_PORT}")));
    arguments.extend(pair("--resolver", SocketAddr::new(resolver, DNS_PORT)));
    arguments.extend(pair("--store", address(layout, cell, wiring.store)?));
    arguments.extend(words(layout, cell, &wiring.front, turn)?);
    Ok(shop(&own.namespace, "front", arguments, place))
}
