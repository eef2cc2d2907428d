//! What the agent answers to people and their tools on its own host, and through which door.
//! Members talk to `runtime::peer_server`.
//!
//! Start reading at [`operator`] (what is answered), then [`local`] (the socket).

pub mod brakes;
pub mod config;
pub mod dns;
pub mod json_lines;
pub mod local;
pub mod operator;
pub mod routing;
pub mod tcp;
