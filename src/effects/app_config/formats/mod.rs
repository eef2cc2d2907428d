//! The file formats that can be edited beside dotenv, and what they share.
//!
//! Owns: where a key's value stands in a text ([`ini`], [`json`], [`properties`], [`toml`],
//! [`yaml`]) and how a new value is written there. What is common: which edits there are
//! (`change`), where the epoch is noted (`comment`), how nested values are found (`tree`).
//! Pure. No error carries a value: values may be secrets.

pub(super) mod change;
pub(super) mod comment;
pub mod conninfo;
pub mod ini;
pub mod json;
mod lines;
pub mod properties;
pub mod template;
pub mod toml;
mod tree;
pub mod yaml;
mod yaml_line;
mod yaml_scalar;
