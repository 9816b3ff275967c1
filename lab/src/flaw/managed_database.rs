//! A cell's orders are in a database of another cell's cloud: a host without an agent.

use std::net::SocketAddr;

use super::{MANAGED_DB_PORT, Mechanism, Spot, Wiring};
use crate::error::{Error, Result};
use crate::layout::{CellLayout, CloudLayout};

/// The name under which the dependency is declared.
const ORDERS_DB: &str = "orders-db";

pub struct Planted;

impl Mechanism for Planted {
    fn about(&self) -> &'static str {
        "The second cell's store is the managed database in the first cell's cloud"
    }

    fn declare(&self, clouds: &[CloudLayout], cells: &mut [CellLayout]) -> Result<()> {
        let cloud = clouds.iter().find(|cloud| cloud.name == cells[0].cloud);
        let address = cloud.and_then(|cloud| cloud.managed_db.first());
        let missing = || Error::Layout(format!("cloud `{}` has no database", cells[0].cloud));
        let database = SocketAddr::new(*address.ok_or_else(missing)?, MANAGED_DB_PORT);
        cells[1].uses.insert(ORDERS_DB.to_string(), database);
        Ok(())
    }

    fn wire(&self, cell: usize, own: &CellLayout, wiring: &mut Wiring) {
        if let (1, Some(database)) = (cell, own.uses.get(ORDERS_DB)) {
            wiring.set_store(Spot::Host(*database));
        }
    }
}
