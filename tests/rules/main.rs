//! The agent's rules against models and made-up worlds: no server, no network, nothing that waits.
//!
//! What is decided is the product's own code. The journal, which every decision goes through, is
//! here with real files.

#[path = "../support/golden.rs"]
mod golden;
#[path = "../support/world/mod.rs"]
mod world;

mod cell_search;
mod crash_points;
mod decide_properties;
mod journal;
mod lease_search;
mod scenarios;
mod tables;
