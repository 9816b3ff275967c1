//! The only code that alters the machine.

pub mod bpf;
pub mod devices;
pub mod echo;
pub mod files;
pub mod filesystem;
pub mod links;
pub mod namespaces;
pub mod netlink;
pub mod nft;
pub mod process;
pub mod tryout;
