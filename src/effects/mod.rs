//! THE OUTSIDE WORLD: one adapter per file. Knows `model` and its own section of `config`,
//! never `decision`.
//!
//! Every call has a deadline, every output a bound, every failure a kind
//! ([`error::EffectError`]). Nothing here decides anything.

pub mod app_config;
pub mod clock;
mod deadline;
pub mod dns;
pub mod error;
pub mod exec;
mod http_client;
pub mod lease;
pub mod notify;
pub mod peer;
pub mod permit;
pub mod postgres;
pub mod probes;
pub mod steps;
pub mod systemd;
pub mod tls;
pub(crate) mod together;
pub mod watchdog;
pub(crate) mod whole_file;
