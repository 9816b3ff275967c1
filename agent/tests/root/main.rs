//! The agent on a real kernel with real traffic, in network namespaces of its own. Needs root.

mod beside;
mod calls;
mod canary;
mod cut;
mod descriptors;
mod devices;
mod elsewhere;
mod ends;
mod files;
mod filesystems;
mod golden;
mod guardians;
mod halt;
mod helpers;
mod hostile;
mod leaseless;
mod limits_needs_v1;
mod load;
mod neighbours;
mod not_cut;
mod processes;
mod qdiscs;
mod residue;
mod routes;
mod support;
mod vanished;
