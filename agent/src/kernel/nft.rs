//! nftables without the nft program: transactions of tables, sets, chains and rules, and dumps.
//!
//! Numbers are from linux/netfilter/nf_tables.h, nfnetlink.h and netfilter.h (uapi, never change).

mod expression;
mod ranges;
mod set;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::expression::{Cmp, Expression, Field, Meta, Verdict};
pub use self::set::{Gate, SetKind};
use super::netlink::{
    Batch, Error, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Socket, attributes,
};
use crate::journal::Permit;

const SUBSYSTEM: u16 = 10; // NFNL_SUBSYS_NFTABLES
const BATCH_BEGIN: u16 = 0x10; // NFNL_MSG_BATCH_BEGIN
const BATCH_END: u16 = 0x11; // NFNL_MSG_BATCH_END

const NEW_TABLE: u16 = 0; // NFT_MSG_NEWTABLE
const GET_TABLE: u16 = 1; // NFT_MSG_GETTABLE
const DELETE_TABLE: u16 = 2; // NFT_MSG_DELTABLE
const NEW_CHAIN: u16 = 3; // NFT_MSG_NEWCHAIN
const NEW_RULE: u16 = 6; // NFT_MSG_NEWRULE
const NEW_SET: u16 = 9; // NFT_MSG_NEWSET
const DELETE_SET: u16 = 11; // NFT_MSG_DELSET
const NEW_ELEMENTS: u16 = 12; // NFT_MSG_NEWSETELEM
const DELETE_ELEMENTS: u16 = 14; // NFT_MSG_DELSETELEM

/// Never adopt something that is there already: it would not be ours to delete.
const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_OWNER: u16 = 7;
const NFT_TABLE_F_OWNER: u32 = 0x2;
const NFTA_LIST_ELEM: u16 = 1;

const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEVS: u16 = 4;
const NFTA_DEVICE_NAME: u16 = 1;
const NF_INET_PRE_ROUTING: u32 = 0;
const NF_NETDEV_EGRESS: u32 = 1;
const NF_ACCEPT: u32 = 1;

const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;

/// How many devices one chain can hold (NFT_NETDEVICE_MAX).
pub const DEVICES_PER_CHAIN: usize = 256;

/// The address family of a table (NFPROTO_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    Inet,
    Netdev,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Netdev => 5,
        }
    }
}

/// A table of ours, by what names it for the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub family: Family,
    pub name: String,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nftables table {} {}",
            family_name(self.family.number()),
            self.name
        )
    }
}

/// A table as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSeen {
    family: u8,
    pub name: String,
    /// Netlink port of the socket that owns it, if it has the owner flag.
    pub owner: Option<u32>,
}

impl TableSeen {
    pub fn is(&self, table: &Table) -> bool {
        self.family == table.family.number() && self.name == table.name
    }
}

impl fmt::Display for TableSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nftables table {} {}",
            family_name(self.family),
            self.name
        )?;
        match self.owner {
            Some(owner) => write!(f, " (owned by the live netlink socket {owner})"),
            None => Ok(()),
        }
    }
}

fn family_name(number: u8) -> String {
    match number {
        1 => "inet".into(),
        2 => "ip".into(),
        3 => "arp".into(),
        5 => "netdev".into(),
        7 => "bridge".into(),
        10 => "ip6".into(),
        other => format!("family {other}"),
    }
}

/// Where a base chain sits.
pub enum Hook<'a> {
    /// inet prerouting with this priority (conntrack is -200, defragmentation -400).
    Prerouting { priority: i32 },
    /// netdev egress of these devices, [`DEVICES_PER_CHAIN`] at most.
    Egress { devices: &'a [String] },
}

/// Alterations that the kernel makes all together or not at all.
pub struct Transaction {
    batch: Batch,
}

impl Default for Transaction {
    fn default() -> Self {
        let mut batch = Batch::default();
        batch.message("batch", (BATCH_BEGIN, 0), (0, SUBSYSTEM), |_| {});
        Self { batch }
    }
}

impl Transaction {
    /// A new table that lives as long as the socket that sends this (NFT_TABLE_F_OWNER).
    pub fn add_owned_table(&mut self, table: &Table) {
        self.push("new owned table", (NEW_TABLE, CREATE), table, |out| {
            out.text(NFTA_TABLE_NAME, &table.name);
            out.be32(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER);
        });
    }

    /// Deletes the table with everything in it; refused as missing if it is not there.
    pub fn delete_table(&mut self, table: &Table) {
        self.push("delete table", (DELETE_TABLE, 0), table, |out| {
            out.text(NFTA_TABLE_NAME, &table.name);
        });
    }

    /// A base chain that lets through what no rule takes.
    pub fn add_chain(&mut self, table: &Table, chain: &str, hook: &Hook<'_>) {
        self.push("new chain", (NEW_CHAIN, CREATE), table, |out| {
            out.text(NFTA_CHAIN_TABLE, &table.name);
            out.text(NFTA_CHAIN_NAME, chain);
            out.nest(NFTA_CHAIN_HOOK, |out| match hook {
                Hook::Prerouting { priority } => {
                    out.be32(NFTA_HOOK_HOOKNUM, NF_INET_PRE_ROUTING);
                    out.bytes(NFTA_HOOK_PRIORITY, &priority.to_be_bytes());
                }
                Hook::Egress { devices } => {
                    out.be32(NFTA_HOOK_HOOKNUM, NF_NETDEV_EGRESS);
                    out.be32(NFTA_HOOK_PRIORITY, 0);
                    out.nest(NFTA_HOOK_DEVS, |out| {
                        for device in *devices {
                            out.text(NFTA_DEVICE_NAME, device);
                        }
                    });
                }
            });
            out.be32(NFTA_CHAIN_POLICY, NF_ACCEPT);
            out.text(NFTA_CHAIN_TYPE, "filter");
        });
    }

    /// Appends a rule: all expressions must hold for the last one (a verdict) to be reached.
    pub fn add_rule(&mut self, table: &Table, chain: &str, expressions: &[Expression<'_>]) {
        self.push(
            "new rule",
            (NEW_RULE, NLM_F_CREATE | NLM_F_APPEND),
            table,
            |out| {
                out.text(NFTA_RULE_TABLE, &table.name);
                out.text(NFTA_RULE_CHAIN, chain);
                out.nest(NFTA_RULE_EXPRESSIONS, |out| {
                    for expression in expressions {
                        out.nest(NFTA_LIST_ELEM, |out| expression.encode(out));
                    }
                });
            },
        );
    }

    /// Number of messages between begin and end.
    pub fn len(&self) -> usize {
        self.batch.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The encoded messages so far, sequence numbers 0.
    pub fn as_bytes(&self) -> &[u8] {
        self.batch.as_bytes()
    }

    fn push(
        &mut self,
        label: &'static str,
        (kind, flags): (u16, u16),
        table: &Table,
        inside: impl FnOnce(&mut super::netlink::Encoder),
    ) {
        let kind = SUBSYSTEM << 8 | kind;
        self.batch
            .message(label, (kind, flags), (table.family.number(), 0), inside);
    }

    fn finish(mut self) -> (Batch, usize) {
        let last = self.batch.len() - 1;
        self.batch
            .message("batch end", (BATCH_END, 0), (0, SUBSYSTEM), |_| {});
        (self.batch, last)
    }
}

/// The nftables of one network namespace: the one that the opening thread was in.
pub struct Nft {
    socket: Socket,
    writes: u64,
}

impl Nft {
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open()?,
            writes: 0,
        })
    }

    /// Does all of the transaction or nothing. An empty one does nothing.
    pub fn commit(&mut self, transaction: Transaction, _permit: &Permit) -> Result<(), Error> {
        if transaction.is_empty() {
            return Ok(());
        }
        self.writes += 1; // a crash test names a point of the run by this number
        tracing::debug!(
            write = self.writes,
            messages = transaction.len(),
            "nftables commit"
        );
        self.send(transaction)
    }

    /// Does it without a permit: for a namespace that nobody uses and that is thrown away at once.
    pub(in crate::kernel) fn try_out(&mut self, transaction: Transaction) -> Result<(), Error> {
        self.send(transaction)
    }

    /// How many writing calls were made so far.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Every table of every family.
    pub fn tables(&mut self) -> Result<Vec<TableSeen>, Error> {
        let request = || {
            let mut batch = Batch::default();
            batch.message(
                "dump",
                (SUBSYSTEM << 8 | GET_TABLE, NLM_F_DUMP),
                (0, 0),
                |_| {},
            );
            batch
        };
        let tables = std::cell::RefCell::new(Vec::new());
        self.socket.dump(
            request,
            |family, payload| {
                let mut table = TableSeen {
                    family,
                    name: String::new(),
                    owner: None,
                };
                for (kind, value) in attributes(payload) {
                    match (kind, value) {
                        (NFTA_TABLE_NAME, name) => {
                            let name = String::from_utf8_lossy(name);
                            table.name = name.trim_end_matches('\0').to_owned();
                        }
                        (NFTA_TABLE_OWNER, &[a, b, c, d]) => {
                            table.owner = Some(u32::from_be_bytes([a, b, c, d]));
                        }
                        _ => {}
                    }
                }
                tables.borrow_mut().push(table);
            },
            || tables.borrow_mut().clear(),
        )?;
        Ok(tables.into_inner())
    }

    /// Asks the kernel for all that a silent cut needs, by a transaction that cannot succeed because
    /// its last message deletes what does not exist. Nothing is altered, so it needs no permit.
    /// Returns the names of what is missing.
    pub fn missing(&mut self) -> Result<Vec<String>, Error> {
        let name = format!("cellwall_probe_{}", std::process::id());
        let inet = Table {
            family: Family::Inet,
            name: name.clone(),
        };
        let netdev = Table {
            family: Family::Netdev,
            name,
        };
        let mut probe = Transaction::default();
        let mut features = vec!["nftables batches"];
        probe.add_owned_table(&inet);
        features.push("nftables tables with an owner (NFT_TABLE_F_OWNER, CONFIG_NF_TABLES_INET)");
        probe.add_set(&inet, "gate", SetKind::Gate, 1);
        features.push("nftables set timeouts");
        probe.add_gate(&inet, "gate", Gate::from_millis(1000));
        features.push("nftables element timeouts");
        probe.add_set(&inet, "peers", SetKind::Prefixes4, 2);
        features.push("nftables interval sets");
        probe.add_owned_table(&netdev);
        features.push("nftables family netdev (CONFIG_NF_TABLES_NETDEV)");
        probe.add_chain(
            &netdev,
            "egress",
            &Hook::Egress {
                devices: &["lo".to_owned()],
            },
        );
        features.push("nftables netdev egress hook (CONFIG_NETFILTER_EGRESS)");
        probe.add_rule(&netdev, "egress", &Expression::vanish());
        features.push("nftables fwd (CONFIG_NFT_FWD_NETDEV)");
        probe.delete_set(&inet, "cellwall_never");
        let last = features.len();
        let refusals = match self.send(probe) {
            Err(Error::Refused(refusals)) => refusals,
            Err(other) => return Err(other),
            Ok(()) => return Err(Error::Malformed("it deleted a set that does not exist")),
        };
        let refused = refusals
            .iter()
            .filter(|refusal| refusal.index != Some(last));
        Ok(refused
            .map(|refusal| {
                let index = refusal.index.unwrap_or(0);
                format!(
                    "{}: {}",
                    features[index.min(last - 1)],
                    refusal.errno.desc()
                )
            })
            .collect())
    }

    fn send(&mut self, transaction: Transaction) -> Result<(), Error> {
        let (batch, last) = transaction.finish();
        self.socket.commit(batch, last)
    }
}

#[cfg(test)]
mod tests;
