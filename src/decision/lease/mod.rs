//! The lease: who may be active, and until when. Three pure state machines and their rules.
//!
//! Owns: what a voter may promise ([`voter`]), how an agent looks, asks, renews and gives up
//! ([`contender`]), how it does where the lease is kept in one cell of a store ([`cell`]), and the
//! times all count by ([`rules`]).
//! Must not: read a clock, draw random numbers, send, write or log. Time comes in as a
//! [`crate::model::Moment`], messages go out as values; `runtime` carries them.
//!
//! Start reading at [`rules`], where the proof of S2 stands. `tests/rules/lease_search.rs` searches
//! the state space of these very machines for two writers (S1) and other broken promises.

pub mod cell;
pub mod contender;
mod machine;
pub mod rules;
mod vote;
pub mod voter;

pub use cell::CellContender;
pub use contender::{Ask, Asked, Contender, Input, Output, Send};
pub use machine::LeaseMachine;
pub use rules::{BrokenRule, LeaseRules, Mode, voters_hash};
pub use voter::{Voter, VoterAnswer};

#[cfg(test)]
mod tests;
