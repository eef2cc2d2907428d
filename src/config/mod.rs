//! `agent.toml` → [`Config`]. Once a `Config` exists it is valid; nothing else reads settings.
//!
//! Start reading at `file` (the TOML's shape), then `validate` (what is checked), `defaults`
//! (every default with its reason) and `secret`.

pub mod secret;
pub mod settings;

pub use settings::Config;
