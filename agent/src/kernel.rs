//! The only code that alters the machine.

pub mod bpf;
pub mod cgroups;
pub mod devices;
pub mod echo;
pub mod files;
pub mod filesystem;
pub mod hierarchies;
pub mod links;
pub mod memory;
pub mod namespaces;
pub mod netlink;
pub mod nft;
pub mod process;
pub mod procfs;
pub mod qdisc;
pub mod route;
pub mod tryout;
