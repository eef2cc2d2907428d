//! PostgreSQL: sessions, what a node says of itself, writes that prove it, promotion.
//!
//! Start reading at [`client`]. Nothing here decides whether a node *should* be promoted or what
//! a failed probe means for the site.

pub mod canary;
pub mod client;
pub mod failure;
pub mod promote;
pub mod report;
pub mod verify;
