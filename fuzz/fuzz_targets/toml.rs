//! Any bytes as a TOML file; the toml crate must read what was written.
#![no_main]

mod contract;

use failover_agent::effects::app_config::formats::toml::Toml;
use libfuzzer_sys::fuzz_target;
use toml::{Table, Value};

fuzz_target!(|input: &[u8]| contract::check(&Toml, input, read_back));

fn read_back(text: &[u8], key: &str, new: &str) {
    let text = str::from_utf8(text).expect("only UTF-8 is edited");
    // Numbers that are too large for it are TOML all the same.
    let Ok(read) = toml::from_str::<Table>(text) else {
        return;
    };
    let mut value = &Value::Table(read);
    for part in key.split(['.', '[']) {
        let found = match part.trim_end_matches(']').parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(part.trim_end_matches(']')),
        };
        value = found.expect("the path is there after the edit");
    }
    let read = value.as_str().map_or(value.to_string(), str::to_owned);
    assert_eq!(read, new);
}
