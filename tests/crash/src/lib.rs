//! The parts of `crash`, of which other tests use the world with its inventory.

pub mod agent;
mod calls;
pub mod choose;
pub mod conductor;
pub mod inside;
pub mod inventory;
pub mod outside;
mod play;
pub mod point;
pub mod program;
pub mod report;
pub mod scene;
mod trace;
pub mod work;
pub mod world;
