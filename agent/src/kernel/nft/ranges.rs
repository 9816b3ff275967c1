//! Prefixes as the kernel's interval sets want them: sorted half-open ranges that never touch.

use std::net::IpAddr;

use ipnet::IpNet;

/// One range of addresses of one family, as numbers. `end` is exclusive; none: to the last address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub start: u128,
    pub end: Option<u128>,
}

/// Ranges of the prefixes of one family; overlapping and adjacent ones become one, because the
/// kernel refuses overlaps and one key can be only one boundary.
pub fn ranges(prefixes: &[IpNet], v6: bool) -> Vec<Range> {
    let mut all: Vec<Range> = prefixes
        .iter()
        .filter(|prefix| matches!(prefix, IpNet::V6(_)) == v6)
        .map(|prefix| {
            let last = number(prefix.broadcast());
            let top = if v6 { u128::MAX } else { u128::from(u32::MAX) };
            let end = (last < top).then(|| last + 1);
            Range {
                start: number(prefix.network()),
                end,
            }
        })
        .collect();
    all.sort_by_key(|range| range.start);
    let mut merged: Vec<Range> = Vec::with_capacity(all.len());
    for range in all {
        match merged.last_mut() {
            Some(before) if before.end.is_none_or(|end| end >= range.start) => {
                before.end = match (before.end, range.end) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    _ => None,
                };
            }
            _ => merged.push(range),
        }
    }
    merged
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prefixes: &[&str], v6: bool) -> Vec<Range> {
        let prefixes: Vec<IpNet> = prefixes.iter().map(|p| p.parse().unwrap()).collect();
        ranges(&prefixes, v6)
    }

    #[test]
    fn overlapping_adjacent_and_unsorted_prefixes_become_one_range() {
        let merged = of(
            &[
                "10.0.2.0/23",
                "10.0.1.0/24",
                "10.0.1.128/25",
                "2001:db8::/32",
            ],
            false,
        );
        assert_eq!(
            merged,
            [Range {
                start: 0x0a00_0100,
                end: Some(0x0a00_0400)
            }]
        );
    }

    #[test]
    fn host_bits_are_ignored() {
        let merged = of(&["10.0.0.77/24"], false);
        assert_eq!(
            merged,
            [Range {
                start: 0x0a00_0000,
                end: Some(0x0a00_0100)
            }]
        );
    }

    #[test]
    fn the_last_address_has_no_end() {
        assert_eq!(
            of(&["224.0.0.0/3"], false),
            [Range {
                start: 0xe000_0000,
                end: None
            }]
        );
        assert_eq!(
            of(&["0.0.0.0/0", "1.2.3.4/32"], false),
            [Range {
                start: 0,
                end: None
            }]
        );
        assert_eq!(
            of(&["::/0"], true),
            [Range {
                start: 0,
                end: None
            }]
        );
    }

    #[test]
    fn apart_stays_apart() {
        assert_eq!(of(&["10.0.0.0/32", "10.0.0.2/32"], false).len(), 2);
    }
}
