//! The only code that alters the machine.

pub mod devices;
pub mod netlink;
pub mod nft;
pub mod process;
