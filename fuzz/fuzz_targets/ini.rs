//! Any bytes as a file of this format.
#![no_main]

mod contract;

use failover_agent::effects::app_config::formats::ini::Ini;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| contract::check(&Ini, input, |_, _, _| {}));
