//! The members' link: authenticated requests between the agents and the witness.
//!
//! [`wire`] says what travels, [`auth`] how it is sealed (pure), [`tls`] how it is encrypted,
//! [`client`] sends, and repeats what may be repeated. The receiving side is
//! `runtime::peer_server`. Nothing here knows what a request means.

pub mod auth;
pub mod client;
mod connection;
mod repeat;
pub mod tls;
pub mod wire;

pub use client::{PeerClient, PeerClientSettings};
