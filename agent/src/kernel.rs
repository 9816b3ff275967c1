//! The only code that alters the machine.

pub mod bpf;
pub mod cgroups;
pub mod devices;
pub mod echo;
pub mod files;
pub mod filesystem;
pub mod hierarchies;
pub mod links;
pub mod namespaces;
pub mod netlink;
pub mod nft;
pub mod process;
pub mod procfs;
pub mod qdisc;
pub mod route;
pub mod tryout;

/// Bytes from hex; none if it is not hex.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    digits.len().is_multiple_of(2).then_some(())?;
    digits
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}
