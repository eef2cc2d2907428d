//! THE MACHINE: tasks, time and order. Contains no policy: what to do comes from `decision`.
//!
//! Start reading at `agent` (the loop), then `wiring`, `executor`, `lease_keeper` and `journal`.

pub mod agent;
pub mod alerts;
pub mod app_files;
mod app_recovery;
pub mod app_templates;
pub mod app_watch;
pub mod brake_status;
pub mod cell_link;
pub mod checked_line;
pub mod deadline_fence;
pub mod dns_desk;
mod dns_records;
pub mod dns_watch;
pub mod evidence;
pub mod executor;
pub mod fence_time;
pub mod gate;
pub mod guard;
pub mod handle;
pub mod http_server;
pub mod inherited;
pub mod journal;
mod journal_log;
pub mod journal_writer;
mod known_deadlines;
pub mod lease_keeper;
pub mod members;
pub mod node_probes;
pub mod outbox;
pub mod pace;
pub mod peer_server;
pub mod peer_service;
pub mod policy;
pub mod recovery;
pub mod reports;
pub mod scheduler;
pub mod service;
pub mod status;
pub mod tasks;
pub mod upstreams;
pub mod vote_file;
pub mod voter_host;
pub mod wiring;
mod wishes;
pub mod witness;
