//! The options of netem, tbf, htb and u32 as the kernel's structs, and what of them is read back.

use std::net::IpAddr;

use ipnet::IpNet;
use scenarios::change::{Netem, Tbf};

use super::super::netlink::{Encoder, attributes};

const TCA_NETEM_REORDER: u16 = 3;
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
/// struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
const NETEM: usize = 24;
/// Packets on their way; the usual 1,000 would drop what a fast link holds during a delay.
const NETEM_LIMIT: u32 = 100_000;

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;

const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
/// HTB_VER >> 16, the version that the kernel wants to hear.
const HTB_VERSION: u32 = 3;

const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TC_U32_TERMINAL: u8 = 1;

/// A tick of the packet scheduler, ns (PSCHED_SHIFT is 6).
const TICK_NS: u64 = 64;
const TC_LINKLAYER_ETHERNET: u8 = 1;

/// What is asked of one discipline or class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Options {
    Netem(Netem),
    Tbf(Tbf),
    /// The root that divides; what no filter names goes out untouched.
    Htb,
    /// A class of it.
    HtbClass {
        rate_bps: u64,
    },
}

impl Options {
    pub fn kind(&self) -> &'static str {
        match self {
            Options::Netem(_) => "netem",
            Options::Tbf(_) => "tbf",
            Options::Htb | Options::HtbClass { .. } => "htb",
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        match self {
            Options::Netem(netem) => encode_netem(netem),
            Options::Tbf(tbf) => encode_tbf(tbf),
            Options::Htb => {
                let mut out = Encoder::default();
                // struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts.
                out.bytes(TCA_HTB_INIT, &words(&[HTB_VERSION, 10, 0, 0, 0]));
                out.as_bytes().to_vec()
            }
            Options::HtbClass { rate_bps } => encode_class(*rate_bps),
        }
    }

    /// What differs between this and what the kernel says it has, in words; old kernels take what they
    /// do not know without a word.
    pub fn unlike(&self, seen: &[u8]) -> Option<String> {
        let (asked, seen) = (self.told(&self.encode()), self.told(seen));
        (asked != seen).then(|| format!("asked {asked:?}, the kernel has {seen:?}"))
    }

    /// The numbers that matter, by name.
    fn told(&self, options: &[u8]) -> Vec<(&'static str, u64)> {
        match self {
            Options::Netem(_) => told_netem(options),
            Options::Tbf(_) => {
                let all: Vec<_> = attributes(options).collect();
                let parms = value(&all, TCA_TBF_PARMS).unwrap_or_default();
                vec![
                    ("rate", rate(parms, value(&all, TCA_TBF_RATE64))),
                    ("limit", u64::from(at(parms, 24))),
                ]
            }
            Options::Htb => {
                let all: Vec<_> = attributes(options).collect();
                let init = value(&all, TCA_HTB_INIT).unwrap_or_default();
                vec![("default", u64::from(at(init, 8)))]
            }
            Options::HtbClass { .. } => {
                let all: Vec<_> = attributes(options).collect();
                let parms = value(&all, TCA_HTB_PARMS).unwrap_or_default();
                let ceil = parms.get(RATESPEC..).unwrap_or_default();
                vec![
                    ("rate", rate(parms, value(&all, TCA_HTB_RATE64))),
                    ("ceil", rate(ceil, value(&all, TCA_HTB_CEIL64))),
                ]
            }
        }
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn at(bytes: &[u8], offset: usize) -> u32 {
    let four = bytes.get(offset..offset + 4);
    four.and_then(|four| four.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}

fn value<'a>(all: &[(u16, &'a [u8])], wanted: u16) -> Option<&'a [u8]> {
    let found = all.iter().find(|(kind, _)| *kind == wanted);
    found.map(|(_, value)| *value)
}

/// Bytes per second of a struct tc_ratespec, or of the 64-bit attribute beside it.
fn rate(spec: &[u8], wide: Option<&[u8]>) -> u64 {
    match wide.and_then(|wide| wide.try_into().ok()) {
        Some(wide) => u64::from_ne_bytes(wide),
        None => u64::from(at(spec, 8)),
    }
}

/// Size of struct tc_ratespec.
const RATESPEC: usize = 12;

/// struct tc_ratespec; with the link layer said the kernel needs no table of ours.
fn ratespec(bytes_per_s: u64) -> Vec<u8> {
    let narrow = u32::try_from(bytes_per_s).unwrap_or(u32::MAX);
    let mut spec = vec![0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
    spec.extend_from_slice(&narrow.to_ne_bytes());
    spec
}

fn is_wide(bytes_per_s: u64) -> bool {
    bytes_per_s > u64::from(u32::MAX)
}

/// How long so many bytes take, in ticks.
fn ticks(bytes: u64, bytes_per_s: u64) -> u32 {
    let ns = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_s.max(1));
    u32::try_from(ns / u128::from(TICK_NS)).unwrap_or(u32::MAX)
}

fn encode_netem(netem: &Netem) -> Vec<u8> {
    let share = |ppm: u32| {
        let share = u64::from(ppm.min(1_000_000)) * u64::from(u32::MAX) / 1_000_000;
        u32::try_from(share).unwrap_or(u32::MAX)
    };
    let ns = |us: u32| u64::from(us) * 1_000;
    let in_ticks = |us: u32| u32::try_from(ns(us) / TICK_NS).unwrap_or(u32::MAX);
    let gap = u32::from(netem.reorder_ppm > 0);
    let mut bytes = words(&[
        in_ticks(netem.delay_us),
        NETEM_LIMIT,
        share(netem.loss_ppm),
        gap,
        share(netem.duplicate_ppm),
        in_ticks(netem.jitter_us),
    ]);
    let mut out = Encoder::default();
    if netem.reorder_ppm > 0 {
        out.bytes(TCA_NETEM_REORDER, &words(&[share(netem.reorder_ppm), 0]));
    }
    if netem.corrupt_ppm > 0 {
        out.bytes(TCA_NETEM_CORRUPT, &words(&[share(netem.corrupt_ppm), 0]));
    }
    if netem.rate_bps > 0 {
        let bytes_per_s = netem.rate_bps / 8;
        let narrow = u32::try_from(bytes_per_s).unwrap_or(u32::MAX);
        // struct tc_netem_rate: rate, packet overhead, cell size, cell overhead.
        out.bytes(TCA_NETEM_RATE, &words(&[narrow, 0, 0, 0]));
        if is_wide(bytes_per_s) {
            out.bytes(TCA_NETEM_RATE64, &bytes_per_s.to_ne_bytes());
        }
    }
    out.bytes(TCA_NETEM_LATENCY64, &ns(netem.delay_us).to_ne_bytes());
    out.bytes(TCA_NETEM_JITTER64, &ns(netem.jitter_us).to_ne_bytes());
    bytes.extend_from_slice(out.as_bytes());
    bytes
}

fn told_netem(options: &[u8]) -> Vec<(&'static str, u64)> {
    let all: Vec<_> = attributes(options.get(NETEM..).unwrap_or_default()).collect();
    let first = |kind| u64::from(at(value(&all, kind).unwrap_or_default(), 0));
    let rate_of = value(&all, TCA_NETEM_RATE).unwrap_or_default();
    let rate = match value(&all, TCA_NETEM_RATE64).and_then(|wide| wide.try_into().ok()) {
        Some(wide) => u64::from_ne_bytes(wide),
        None => u64::from(at(rate_of, 0)),
    };
    vec![
        ("delay", u64::from(at(options, 0))),
        ("limit", u64::from(at(options, 4))),
        ("loss", u64::from(at(options, 8))),
        ("gap", u64::from(at(options, 12))),
        ("duplicate", u64::from(at(options, 16))),
        ("jitter", u64::from(at(options, 20))),
        ("reorder", first(TCA_NETEM_REORDER)),
        ("corrupt", first(TCA_NETEM_CORRUPT)),
        ("rate", rate),
    ]
}

/// struct tc_tbf_qopt: rate, peakrate, limit, buffer, mtu.
fn encode_tbf(tbf: &Tbf) -> Vec<u8> {
    let bytes_per_s = tbf.rate_bps / 8;
    let waiting = u128::from(bytes_per_s) * u128::from(tbf.latency_us) / 1_000_000;
    let limit = waiting + u128::from(tbf.burst_bytes);
    let mut parms = ratespec(bytes_per_s);
    parms.extend_from_slice(&[0; 12]);
    parms.extend_from_slice(&words(&[
        u32::try_from(limit).unwrap_or(u32::MAX),
        ticks(u64::from(tbf.burst_bytes), bytes_per_s),
        0,
    ]));
    let mut out = Encoder::default();
    out.bytes(TCA_TBF_PARMS, &parms);
    out.bytes(TCA_TBF_BURST, &tbf.burst_bytes.to_ne_bytes());
    if is_wide(bytes_per_s) {
        out.bytes(TCA_TBF_RATE64, &bytes_per_s.to_ne_bytes());
    }
    out.as_bytes().to_vec()
}

/// struct tc_htb_opt: rate, ceil, buffer, cbuffer, quantum, level, prio.
fn encode_class(rate_bps: u64) -> Vec<u8> {
    let bytes_per_s = rate_bps / 8;
    // A hundredth of a second, and never less than a few whole packets.
    let burst = ticks((bytes_per_s / 100).max(16_000), bytes_per_s);
    let quantum = u32::try_from(bytes_per_s / 10).unwrap_or(u32::MAX);
    let mut parms = ratespec(bytes_per_s);
    parms.extend_from_slice(&ratespec(bytes_per_s));
    parms.extend_from_slice(&words(&[burst, burst, quantum.clamp(1_600, 60_000), 0, 0]));
    let mut out = Encoder::default();
    out.bytes(TCA_HTB_PARMS, &parms);
    if is_wide(bytes_per_s) {
        out.bytes(TCA_HTB_RATE64, &bytes_per_s.to_ne_bytes());
        out.bytes(TCA_HTB_CEIL64, &bytes_per_s.to_ne_bytes());
    }
    out.as_bytes().to_vec()
}

/// Packets to one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter(pub IpNet);

impl Filter {
    /// Priority in the high half, EtherType in network order in the low one.
    pub fn info(&self) -> u32 {
        let (priority, ethertype) = match self.0 {
            IpNet::V4(_) => (1, 0x0800_u16),
            IpNet::V6(_) => (2, 0x86dd),
        };
        priority << 16 | u32::from(ethertype.to_be())
    }

    /// Whether these options are a rule's, and not those of a table of rules.
    pub fn is_rule(options: &[u8]) -> bool {
        attributes(options).any(|(kind, _)| kind == TCA_U32_SEL)
    }

    /// Whether two rules take the same packets to the same class; the kernel tells more of one than it
    /// was told.
    pub fn same_rule(one: &[u8], other: &[u8]) -> bool {
        let told = |options| {
            let all: Vec<_> = attributes(options).collect();
            [TCA_U32_CLASSID, TCA_U32_SEL].map(|kind| value(&all, kind).map(<[u8]>::to_vec))
        };
        told(one) == told(other)
    }

    /// A struct tc_u32_sel with one key for each 32 bits of the destination that matter.
    pub fn encode(&self, class: u32) -> Vec<u8> {
        let (address, mask, offset) = match (self.0.network(), self.0.netmask()) {
            (IpAddr::V4(address), IpAddr::V4(mask)) => {
                (address.octets().to_vec(), mask.octets().to_vec(), 16_u32)
            }
            (IpAddr::V6(address), IpAddr::V6(mask)) => {
                (address.octets().to_vec(), mask.octets().to_vec(), 24)
            }
            _ => (Vec::new(), Vec::new(), 0),
        };
        let quads = mask
            .chunks(4)
            .zip(address.chunks(4))
            .zip((offset..).step_by(4));
        let mut keys = Vec::new();
        let mut count = 0_u8;
        for ((mask, value), offset) in quads {
            // A prefix of length 0 needs one key that is always true.
            if mask != [0; 4] || count == 0 {
                keys.extend_from_slice(mask);
                keys.extend_from_slice(value);
                keys.extend_from_slice(&words(&[offset, 0]));
                count += 1;
            }
        }
        let mut selector = vec![TC_U32_TERMINAL, 0, count];
        selector.resize(16, 0);
        selector.extend_from_slice(&keys);
        let mut out = Encoder::default();
        out.bytes(TCA_U32_CLASSID, &class.to_ne_bytes());
        out.bytes(TCA_U32_SEL, &selector);
        out.as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    /// `delay 100ms 10ms loss 20% rate 8mbit`: ticks of 64 ns, shares of 2^32, and the times in ns.
    #[test]
    #[cfg(target_endian = "little")]
    fn netem_is_a_struct_and_then_attributes() {
        let netem = Netem {
            delay_us: 100_000,
            jitter_us: 10_000,
            loss_ppm: 200_000,
            rate_bps: 8_000_000,
            ..Netem::default()
        };
        let expected = "84d71700a08601003333333300000000000000005a620200\
                        1400060040420f00000000000000000000000000\
                        0c000a0000e1f505000000000c000b008096980000000000";
        assert_eq!(hex::encode(&encode_netem(&netem)), expected);
    }

    #[test]
    fn what_the_kernel_ignored_is_noticed() {
        let asked = Options::Netem(Netem {
            delay_us: 5_000,
            corrupt_ppm: 10_000,
            reorder_ppm: 250_000,
            ..Netem::default()
        });
        let whole = asked.encode();
        assert_eq!(asked.unlike(&whole), None);
        let words = asked.unlike(&whole[..NETEM]).unwrap();
        assert!(words.contains("corrupt"), "{words}");
        let slow = Options::Tbf(Tbf {
            rate_bps: 8_000_000,
            burst_bytes: 15_000,
            latency_us: 50_000,
        });
        assert_eq!(slow.unlike(&slow.encode()), None);
        assert!(slow.unlike(&[]).is_some());
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_filter_has_a_key_for_each_word_that_matters() {
        let filter = |net: &str| Filter(net.parse().unwrap());
        let four = filter("10.1.2.0/24");
        assert_eq!(four.info(), 0x0001_0008);
        let expected = "080001000100a0c52400050001000100000000000000000000000000\
                        ffffff000a0102001000000000000000";
        assert_eq!(hex::encode(&four.encode(super::super::CLASS)), expected);
        let keys = |net: &str| filter(net).encode(1)[8 + 4 + 2];
        assert_eq!(keys("2001:db8::/32"), 1);
        assert_eq!(keys("2001:db8::/64"), 2);
        assert_eq!(keys("2001:db8::1/128"), 4);
        assert_eq!(keys("::/0"), 1);
    }

    #[test]
    fn a_rate_beyond_32_bits_is_said_in_64() {
        let fast = Options::Tbf(Tbf {
            rate_bps: 100_000_000_000,
            burst_bytes: 1_000_000,
            latency_us: 1_000,
        });
        assert_eq!(fast.told(&fast.encode())[0], ("rate", 12_500_000_000));
    }
}
