//! Expressions of nftables rules; all of them work on register 1.

use super::set::{GATE_KEY, NFTA_DATA_VALUE};
use crate::kernel::netlink::Encoder;

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const REGISTER: u32 = 1; // NFT_REG_1, 16 bytes
const REGISTER_VERDICT: u32 = 0; // NFT_REG_VERDICT

const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFT_LOOKUP_F_INV: u32 = 1;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_FWD_SREG_DEV: u16 = 1;

/// No device ever has this index (the kernel hands them out from 1 upwards).
const NO_DEVICE: u32 = 0x7fff_ffff;

/// What the kernel knows of a packet beside its bytes.
#[derive(Clone, Copy)]
pub enum Meta {
    /// Ethertype, 2 bytes in network order (NFT_META_PROTOCOL).
    Protocol,
    /// Hardware type of the device it came in by, 2 bytes in host order (NFT_META_IIFTYPE).
    InputDeviceType,
    /// Protocol above IP, 1 byte, behind all IPv6 extension headers (NFT_META_L4PROTO).
    Layer4,
}

/// Bytes of a packet: (start, offset, length).
#[derive(Clone, Copy)]
pub enum Field {
    Network(u32, u32),
    Transport(u32, u32),
}

/// nft_cmp_ops.
#[derive(Clone, Copy)]
pub enum Cmp {
    Equal,
    AtMost,
    AtLeast,
}

#[derive(Clone, Copy)]
pub enum Verdict {
    Drop,
    Accept,
}

pub enum Expression<'a> {
    Meta(Meta),
    Payload(Field),
    Compare(Cmp, &'a [u8]),
    /// Goes on if what was loaded is in the set (or is not, if inverted).
    Lookup {
        set: &'a str,
        inverted: bool,
    },
    /// Loads the gate's key.
    GateKey,
    Verdict(Verdict),
    /// Loads an index that no device has.
    NoDevice,
    /// Hands the packet to the device whose index was loaded.
    Forward,
}

impl Expression<'_> {
    /// Loses a packet in netdev egress without a word: a drop there would tell a local sender
    /// (ENOBUFS), a forward to a device that does not exist does not.
    pub fn vanish() -> [Self; 2] {
        [Expression::NoDevice, Expression::Forward]
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.text(NFTA_EXPR_NAME, self.name());
        out.nest(NFTA_EXPR_DATA, |out| self.encode_data(out));
    }

    fn name(&self) -> &'static str {
        match self {
            Expression::Meta(_) => "meta",
            Expression::Payload(_) => "payload",
            Expression::Compare(..) => "cmp",
            Expression::Lookup { .. } => "lookup",
            Expression::GateKey | Expression::Verdict(_) | Expression::NoDevice => "immediate",
            Expression::Forward => "fwd",
        }
    }

    fn encode_data(&self, out: &mut Encoder) {
        match self {
            Expression::Meta(meta) => {
                out.be32(NFTA_META_DREG, REGISTER);
                let key = match meta {
                    Meta::Protocol => 1,
                    Meta::InputDeviceType => 8,
                    Meta::Layer4 => 16,
                };
                out.be32(NFTA_META_KEY, key);
            }
            Expression::Payload(field) => {
                let (base, offset, length) = match *field {
                    Field::Network(offset, length) => (1, offset, length),
                    Field::Transport(offset, length) => (2, offset, length),
                };
                out.be32(NFTA_PAYLOAD_DREG, REGISTER);
                out.be32(NFTA_PAYLOAD_BASE, base);
                out.be32(NFTA_PAYLOAD_OFFSET, offset);
                out.be32(NFTA_PAYLOAD_LEN, length);
            }
            Expression::Compare(cmp, value) => {
                let operator = match cmp {
                    Cmp::Equal => 0,
                    Cmp::AtMost => 3,
                    Cmp::AtLeast => 5,
                };
                out.be32(NFTA_CMP_SREG, REGISTER);
                out.be32(NFTA_CMP_OP, operator);
                out.nest(NFTA_CMP_DATA, |out| out.bytes(NFTA_DATA_VALUE, value));
            }
            Expression::Lookup { set, inverted } => {
                out.text(NFTA_LOOKUP_SET, set);
                out.be32(NFTA_LOOKUP_SREG, REGISTER);
                if *inverted {
                    out.be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
                }
            }
            Expression::GateKey => load(out, &GATE_KEY),
            // An interface index is a number of the host's own byte order.
            Expression::NoDevice => load(out, &NO_DEVICE.to_ne_bytes()),
            Expression::Forward => out.be32(NFTA_FWD_SREG_DEV, REGISTER),
            Expression::Verdict(verdict) => {
                let code = match verdict {
                    Verdict::Drop => 0,   // NF_DROP
                    Verdict::Accept => 1, // NF_ACCEPT
                };
                out.be32(NFTA_IMMEDIATE_DREG, REGISTER_VERDICT);
                out.nest(NFTA_IMMEDIATE_DATA, |out| {
                    out.nest(NFTA_DATA_VERDICT, |out| out.be32(NFTA_VERDICT_CODE, code));
                });
            }
        }
    }
}

fn load(out: &mut Encoder, value: &[u8]) {
    out.be32(NFTA_IMMEDIATE_DREG, REGISTER);
    out.nest(NFTA_IMMEDIATE_DATA, |out| out.bytes(NFTA_DATA_VALUE, value));
}
