//! THE MACHINE: tasks, time and order. Contains no policy: what to do comes from `decision`.
//!
//! Start reading at `agent` (the loop), then `executor`, `lease_keeper` and `journal`.

pub mod checked_line;
pub mod handle;
pub mod http_server;
pub mod journal;
pub mod peer_server;
pub mod policy;
pub mod scheduler;
pub mod status;
pub mod tasks;
pub mod vote_file;
