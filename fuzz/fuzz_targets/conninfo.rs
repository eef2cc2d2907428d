//! Any text as a connection string of libpq: another value of a field changes nothing else.
#![no_main]

use failover_agent::effects::app_config::formats::conninfo::set;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &str| {
    for fields in [
        &[("host", "db2")][..],
        &[("port", "5433")],
        &[("host", "db2"), ("port", "5433")],
    ] {
        let Ok(first) = set(value, fields) else {
            continue;
        };
        assert_eq!(set(&first, fields).as_ref(), Ok(&first));
        let other: Vec<_> = fields.iter().map(|(name, _)| (*name, "77")).collect();
        let detour = set(value, &other).expect("every plain value can be written");
        assert_eq!(set(&detour, fields).as_ref(), Ok(&first));
    }
});
