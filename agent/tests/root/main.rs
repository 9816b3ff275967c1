//! The agent on a real kernel with real traffic, in network namespaces of its own. Needs root.

mod calls;
mod canary;
mod cut;
mod devices;
mod ends;
mod files;
mod filesystems;
mod golden;
mod halt;
mod hostile;
mod leaseless;
mod load;
mod not_cut;
mod residue;
mod support;
