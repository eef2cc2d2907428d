//! The commands of `agent`.

pub mod socket;
