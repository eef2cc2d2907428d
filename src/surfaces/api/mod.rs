//! What the agent answers to programs on its own host, and through which door.
//!
//! Start reading at [`operator`]. The link between members is `runtime::peer_server`.

pub mod local;
pub mod operator;
