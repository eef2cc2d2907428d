//! Any bytes as a JSON file; serde_json must read what was written.
#![no_main]

mod contract;

use failover_agent::effects::app_config::formats::json::Json;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// How it says so.
const NOT_FOR_IT: [&str; 3] = [
    "number out of range",
    "unexpected end of hex escape",
    "lone leading surrogate in hex escape",
];

fuzz_target!(|input: &[u8]| contract::check(&Json, input, read_back));

fn read_back(text: &[u8], key: &str, new: &str) {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let read = match serde_json::from_slice::<Value>(text) {
        Ok(read) => read,
        // What it has no type for is JSON all the same: numbers that are too large (RFC 8259,
        // section 6), and half a surrogate pair (section 8.2).
        Err(error) if NOT_FOR_IT.iter().any(|why| error.to_string().contains(why)) => return,
        Err(error) => panic!("serde_json cannot read it: {error}"),
    };
    let pointer = key.replace(['.', '['], "/").replace(']', "");
    let value = read.pointer(&format!("/{pointer}"));
    let value = value.map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    assert_eq!(value.as_deref(), Some(new));
}
