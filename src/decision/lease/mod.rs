//! The lease: who may be active, and until when. Two pure state machines and their rules.
//!
//! Owns: what a voter may promise ([`voter`]), how an agent looks, asks, renews and gives up
//! ([`contender`]), and the times both count by ([`rules`]).
//! Must not: read a clock, draw random numbers, send, write or log. Time comes in as a
//! [`crate::model::Moment`], messages go out as values; `runtime` carries them.
//!
//! Start reading at [`rules`], where the proof of S2 stands. `tests/lease_search.rs` searches the
//! state space of these very machines for two writers (S1) and other broken promises.

pub mod contender;
pub mod rules;
mod vote;
pub mod voter;

pub use contender::{Contender, Input, Output, Send};
pub use rules::{BrokenRule, LeaseRules, Mode, voters_hash};
pub use voter::{Voter, VoterAnswer};

#[cfg(test)]
mod tests;
