//! PostgreSQL. The own node's instance as its host sees it: processes, fence, start and stop. Any
//! node as a client sees it: sessions, what it says of itself, writes that prove it, promotion.
//!
//! Start reading at [`process`] (what belongs to an instance) and [`client`] (a session). Nothing
//! here decides whether a node *should* be fenced or promoted.
//! Start reading at [`process`] (what belongs to an instance), then [`fence`] (S3),
//! then [`control`].

pub mod control;
pub mod fence;
pub mod canary;
pub mod client;
pub mod failure;
pub mod process;
pub mod promote;
pub mod report;
pub mod verify;
mod installation;
pub mod start;
pub mod watch;
