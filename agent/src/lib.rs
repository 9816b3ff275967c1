//! The hands of cellwall: alters one node as a plan says, and always finds the way back.

pub mod boottime;
pub mod changes;
pub mod drill;
pub mod guardian;
pub mod guards;
pub mod journal;
pub mod kernel;
pub mod owner;
pub mod policy;
pub mod revert;
pub mod serve;
pub mod service;
