//! What people give the agent and what it gives them: settings, commands, and the files of apps
//! and proxies that it edits, with the programs that read those.

#[path = "../support/golden.rs"]
mod golden;
#[path = "../support/mod.rs"]
mod support;

mod app_config;
mod cli;
mod config;
mod formats;
mod targets;
mod upstream;
