//! The hands of cellwall: alters one node as a plan says, and always finds the way back.

pub mod boottime;
pub mod canary;
pub mod changes;
pub mod datapath;
pub mod drill;
pub mod guardian;
pub mod guards;
pub mod halt;
pub mod helper;
pub mod hex;
pub mod journal;
pub mod kernel;
pub mod log;
pub mod mistakes;
pub mod neighbours;
pub mod owner;
pub mod pods;
pub mod policy;
pub mod rehearsal;
pub mod revert;
pub mod serve;
pub mod service;
pub mod vantage;
