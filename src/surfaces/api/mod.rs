//! The agent's own API for people and their tools. Members talk to `runtime::peer_server`.

pub mod json_lines;
pub mod local;
