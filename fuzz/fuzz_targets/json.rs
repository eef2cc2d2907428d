//! Any bytes as a JSON file; serde_json must read what was written.
#![no_main]

mod contract;

use failover_agent::effects::app_config::formats::json::Json;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| contract::check(&Json, input, read_back));

fn read_back(text: &[u8], key: &str, new: &str) {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let read = match serde_json::from_slice::<Value>(text) {
        Ok(read) => read,
        // Numbers that are too large for it are JSON all the same.
        Err(error) if error.to_string().contains("number out of range") => return,
        Err(error) => panic!("serde_json cannot read it: {error}"),
    };
    let pointer = key.replace('.', "/").replace('[', "/").replace(']', "");
    let value = read.pointer(&format!("/{pointer}"));
    let value = value.map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    assert_eq!(value.as_deref(), Some(new));
}
