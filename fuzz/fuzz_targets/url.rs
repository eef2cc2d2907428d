//! Any text as a URL: another host changes nothing else.
#![no_main]

use failover_agent::effects::app_config::url::replace_authority;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &str| {
    let Ok(first) = replace_authority(value, "db2", 5433) else {
        return;
    };
    assert_eq!(replace_authority(&first, "db2", 5433).as_ref(), Ok(&first));
    let detour = replace_authority(value, "fd00::2", 1).expect("every host can be written");
    assert_eq!(replace_authority(&detour, "db2", 5433).as_ref(), Ok(&first));
    let (head, tail) = first
        .split_once("db2:5433")
        .expect("the new host is in the URL");
    assert!(value.starts_with(head) && value.ends_with(tail));
});
