//! Sets of nftables: prefixes of peers, and the gate.

use std::time::Duration;

use ipnet::IpNet;

use super::ranges::ranges;
use super::{CREATE, DELETE_ELEMENTS, DELETE_SET, NEW_ELEMENTS, NEW_SET, NFTA_LIST_ELEM};
use super::{NLM_F_CREATE, Table, Transaction};
use crate::kernel::netlink::Encoder;

const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_ID: u16 = 10;
const NFT_SET_INTERVAL: u32 = 0x4;
const NFT_SET_TIMEOUT: u32 = 0x10;

const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFT_SET_ELEM_INTERVAL_END: u32 = 0x1;
pub(super) const NFTA_DATA_VALUE: u16 = 1;

/// A nest of attributes holds 64 KB; one IPv6 range takes 68 bytes.
const RANGES_PER_MESSAGE: usize = 800;

/// The only key that the gate ever holds.
pub(super) const GATE_KEY: [u8; 4] = [0, 0, 0, 1];

/// The kernel takes 0 for "never" and, when old, rounds down to a jiffy (10 ms at most).
const GATE_LEAST: Duration = Duration::from_millis(10);

/// How long the gate stays open by itself; never zero, which would mean for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate(Duration);

impl Gate {
    pub fn new(timeout: Duration) -> Self {
        Self(timeout.max(GATE_LEAST))
    }

    pub fn from_millis(millis: u64) -> Self {
        Self::new(Duration::from_millis(millis))
    }

    fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    Prefixes4,
    Prefixes6,
    /// One constant element with a timeout; the rules that look it up end with it.
    Gate,
}

impl SetKind {
    /// Flags, key type (libnftables' number, for `nft list`) and key length in bytes.
    fn shape(self) -> (u32, u32, u32) {
        match self {
            SetKind::Prefixes4 => (NFT_SET_INTERVAL, 7, 4), // ipv4_addr
            SetKind::Prefixes6 => (NFT_SET_INTERVAL, 8, 16), // ipv6_addr
            SetKind::Gate => (NFT_SET_TIMEOUT, 19, 4),      // mark
        }
    }
}

impl Transaction {
    /// A new empty set; `id` is unique within the transaction.
    pub fn add_set(&mut self, table: &Table, set: &str, kind: SetKind, id: u32) {
        let (flags, key_type, key_length) = kind.shape();
        self.push("new set", (NEW_SET, CREATE), table, |out| {
            out.text(NFTA_SET_TABLE, &table.name);
            out.text(NFTA_SET_NAME, set);
            out.be32(NFTA_SET_FLAGS, flags);
            out.be32(NFTA_SET_KEY_TYPE, key_type);
            out.be32(NFTA_SET_KEY_LEN, key_length);
            out.be32(NFTA_SET_ID, id);
        });
    }

    pub(super) fn delete_set(&mut self, table: &Table, set: &str) {
        self.push("delete set", (DELETE_SET, 0), table, |out| {
            out.text(NFTA_SET_TABLE, &table.name);
            out.text(NFTA_SET_NAME, set);
        });
    }

    /// Adds the prefixes of one family (merged here) to an interval set of that family.
    pub fn add_prefixes(&mut self, table: &Table, set: &str, prefixes: &[IpNet], v6: bool) {
        for chunk in ranges(prefixes, v6).chunks(RANGES_PER_MESSAGE) {
            self.elements("new prefixes", NEW_ELEMENTS, (table, set), |out| {
                for range in chunk {
                    element(out, &key(range.start, v6), |_| {});
                    if let Some(end) = range.end {
                        element(out, &key(end, v6), |out| {
                            out.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
                        });
                    }
                }
            });
        }
    }

    /// Opens the gate.
    pub fn add_gate(&mut self, table: &Table, set: &str, gate: Gate) {
        self.elements("open gate", NEW_ELEMENTS, (table, set), |out| {
            element(out, &GATE_KEY, |out| {
                out.be64(NFTA_SET_ELEM_TIMEOUT, gate.millis())
            });
        });
    }

    /// Closes the gate. Refused as missing if it has run out: followed by [`Self::add_gate`] in the
    /// same transaction, this renews a gate and never revives one.
    pub fn delete_gate(&mut self, table: &Table, set: &str) {
        self.elements("gate in force", DELETE_ELEMENTS, (table, set), |out| {
            element(out, &GATE_KEY, |_| {});
        });
    }

    fn elements(
        &mut self,
        label: &'static str,
        kind: u16,
        (table, set): (&Table, &str),
        inside: impl FnOnce(&mut Encoder),
    ) {
        let flags = if kind == NEW_ELEMENTS {
            NLM_F_CREATE
        } else {
            0
        };
        self.push(label, (kind, flags), table, |out| {
            out.text(NFTA_SET_ELEM_LIST_TABLE, &table.name);
            out.text(NFTA_SET_ELEM_LIST_SET, set);
            out.nest(NFTA_SET_ELEM_LIST_ELEMENTS, inside);
        });
    }
}

fn element(out: &mut Encoder, key: &[u8], more: impl FnOnce(&mut Encoder)) {
    out.nest(NFTA_LIST_ELEM, |out| {
        out.nest(NFTA_SET_ELEM_KEY, |out| out.bytes(NFTA_DATA_VALUE, key));
        more(out);
    });
}

fn key(number: u128, v6: bool) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    if v6 {
        bytes.to_vec()
    } else {
        bytes[12..].to_vec()
    }
}
