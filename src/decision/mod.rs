//! VERBS: pure functions over `model`. Given an event and the time, they return data.
//!
//! Must not: do I/O, read a clock, draw random numbers, log, or be `async`. Start reading at
//! [`decide`], then [`diagnose`] and [`transitions`] (the two tables), then [`plan`].

pub mod absorb;
pub mod advance;
pub mod brake_command;
pub mod brakes;
pub mod check_plan;
pub mod command;
pub mod converge_command;
pub mod decide;
pub mod deeds;
pub mod diagnose;
pub mod files_command;
pub mod fitness;
mod guard_words;
pub mod guards;
pub mod health;
pub mod housekeeping;
pub mod journal_rules;
pub mod lease;
pub mod observing;
pub mod own_view;
pub mod patience;
pub mod peer_view;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod records;
pub mod resume;
pub mod situate;
pub mod state;
pub mod transitions;
pub mod triggers;
pub mod upstreams;
