//! The own node's PostgreSQL instance, seen from its host: processes, fence, start and stop.
//!
//! Start reading at [`process`] (what belongs to an instance), then [`fence`] (S3),
//! then [`control`].

pub mod control;
pub mod fence;
mod installation;
pub mod process;
pub mod start;
pub mod watch;
