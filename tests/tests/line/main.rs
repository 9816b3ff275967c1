//! The whole line on a real lab: what passes, what must not pass, and how a fault ends.

mod aborted;
mod effects;
mod flaws;
mod halt;
mod inputs;
mod matrix;
mod own_control_path;
mod passes;
mod prober;
mod too_little;
mod traffic;
mod users;
mod vantages;
