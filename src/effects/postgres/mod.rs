//! PostgreSQL. The own node's instance as its host sees it: processes, fence, start and stop. Any
//! node as a client sees it: sessions, what it says of itself, writes that prove it, promotion.
//!
//! Start reading at [`process`] (what belongs to an instance), [`fence`] (S3) and [`control`];
//! then [`client`] (a session). Nothing here decides whether a node *should* be fenced or promoted.

pub mod canary;
pub mod client;
pub mod control;
pub mod control_file;
mod directory;
pub mod failure;
pub mod fence;
pub mod gate;
mod installation;
pub mod process;
pub mod promote;
pub mod report;
pub mod start;
pub mod verify;
pub mod watch;
mod whereabouts;
