//! THE MACHINE: tasks, time and order. Contains no policy: what to do comes from `decision`.
//!
//! Start reading at `agent` (the loop), then `executor`, `lease_keeper` and `journal`.

pub mod handle;
pub mod policy;
pub mod status;

pub mod scheduler;
pub mod tasks;
//! THE MACHINE: tasks, time and order. Contains no policy; never imports `surfaces`.

pub mod checked_line;
pub mod http_server;
pub mod journal;
pub mod peer_server;
pub mod vote_file;
