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
mod fuzzed;
mod kill_at;
mod targets;
mod upstream;

// What the fuzz targets name as `libfuzzer_sys` is this crate here: see `fuzzed`.
extern crate self as libfuzzer_sys;

/// In the place of libFuzzer's: makes a function of a target. At the end, where the targets find it
/// by its path alone, as they find libFuzzer's.
macro_rules! fuzz_target {
    (|$input:ident: &[u8]| $body:expr) => {
        pub(crate) fn run($input: &[u8]) {
            $body
        }
    };
    (|$input:ident: &str| $body:expr) => {
        pub(crate) fn run(input: &[u8]) {
            let Ok($input) = str::from_utf8(input) else {
                return;
            };
            $body
        }
    };
}
pub(crate) use fuzz_target;
