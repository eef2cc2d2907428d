//! THE OUTSIDE WORLD: one adapter per file. Knows `model` and its own section of `config`,
//! never `decision`.
//!
//! Every call has a deadline, every output a bound, every failure a kind
//! ([`error::EffectError`]). Nothing here decides anything.

pub mod clock;
pub mod error;
pub mod peer;
pub mod service_manager;
