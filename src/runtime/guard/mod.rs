//! The guard (S4): a process of its own that fences the own node when the lease runs out, whether
//! the agent is alive, frozen, killed or late.
//!
//! Start reading at [`mind`] (what it decides), then `process` (the guard), then `link` (the
//! agent's end). It knows the data directory, a deadline, whether it is armed, and how to fence;
//! nothing of votes, sites or plans. It is blocking and has no async runtime: what it needs must
//! work on a host in trouble.

mod connection;
pub mod link;
mod log;
pub mod mind;
pub mod process;
pub mod protocol;
mod resident;
mod server;
pub mod start;
mod told;
mod watch;
pub mod watchdog;
mod word;
