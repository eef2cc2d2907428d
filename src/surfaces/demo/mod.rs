//! `agent demo`: the real product against stand-ins for what a laptop does not have.
//!
//! Whatever stands in for somebody else's service says so in its name and in its answers. The same
//! stand-ins serve the tests, so that the demo shows nothing that is not tested.

pub mod cloudflare;
mod cloudflare_zone;
