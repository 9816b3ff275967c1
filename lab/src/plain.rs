//! Plain cells: the parts of the shop as processes, one part to a host, an agent on every host.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::flaw::Wiring;
use crate::internet::{self, listen, shop};
use crate::kind::{CellKind, Place};
use crate::layout::{Ask, CellLayout, Check, Layout, NodeLayout, Service};

const BALANCER_PORT: u16 = 80;
const FRONT_PORT: u16 = 8080;
const PRICING_PORT: u16 = 8081;
const STORE_PORT: u16 = 8082;
const DNS_PORT: u16 = 53;

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
        let mut all = vec![
            balancer(own, place)?,
            pricing(own, place)?,
            store(layout, cell, place)?,
            resolver(layout, cell, place)?,
        ];
        for name in ["front-1", "front-2"] {
            all.push(front(layout, cell, name, place)?);
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
    for name in ["front-1", "front-2"] {
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

fn store(layout: &Layout, cell: usize, place: &Place) -> Result<Service> {
    let own = node(&layout.cells[cell], "store")?;
    let mut arguments = listen(&own.inside, STORE_PORT);
    let data = place.directory.node(&own.namespace).join("orders");
    arguments.extend(pair("--data", data.display()));
    arguments.extend(Wiring::of(layout, cell).store_arguments());
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

fn front(layout: &Layout, cell: usize, name: &str, place: &Place) -> Result<Service> {
    let own_cell = &layout.cells[cell];
    let own = node(own_cell, name)?;
    let wiring = Wiring::of(layout, cell);
    let resolver = match wiring.foreign_resolver() {
        Some(other) => node(other, "resolver")?.public[0],
        None => node(own_cell, "resolver")?.inside[0],
    };
    let store = match wiring.foreign_store() {
        Some(database) => database,
        None => SocketAddr::new(node(own_cell, "store")?.inside[0], STORE_PORT),
    };
    let mut arguments = listen(&own.inside, FRONT_PORT);
    let pricing = format!("{}:{PRICING_PORT}", pricing_name(wiring.pricing_cell()));
    arguments.extend(pair("--pricing-host", pricing));
    arguments.extend(pair("--resolver", SocketAddr::new(resolver, DNS_PORT)));
    arguments.extend(pair("--store", store));
    Ok(shop(&own.namespace, "front", arguments, place))
}
