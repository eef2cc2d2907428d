//! NOUNS: plain data that every other layer talks about.
//!
//! Owns: identities, units, what was seen, what it means, what to do, what was done.
//! Must not: do I/O, read a clock, draw random numbers, log, or be `async`.
//! Start reading at [`event`] (what can happen) and [`plan`] (what we can do).

pub mod alert;
pub mod brakes;
pub mod cell;
pub mod diagnosis;
pub mod dns;
pub mod dns_provider;
pub mod edge;
pub mod event;
pub mod ids;
pub mod journal;
pub mod key_path;
pub mod lease;
pub mod observation;
pub mod outcome;
pub mod peer;
pub mod plan;
pub mod postgres;
pub mod situation;
pub mod template;
pub mod time;
pub mod upstream;

pub use ids::{ClusterName, Epoch, Member, PlanId, ProbeName, SiteName};
pub use postgres::{LagBytes, Lsn, Role, SystemId, Timeline};
pub use time::{Moment, Timestamp};
