//! The own node's PostgreSQL instance, seen from its host: processes, fence, start and stop.
//!
//! Start reading at [`process`] (what belongs to an instance), then [`fence`] (S3).

pub mod fence;
pub mod process;
pub mod watch;
