//! What has to hold for any bytes in any format, as one function that every format's target calls.

use failover_agent::effects::app_config::format::ConfigFormat;
use failover_agent::model::Epoch;
use failover_agent::model::plan::{ConfigEdit, EditValue};

/// Keys that the bytes may have: plain ones, in a section, nested.
const KEYS: [&str; 4] = ["k", "k.k", "k[0]", "k[1].k"];

/// A key, and how its value changes, drawn from the first byte.
fn edit(drawn: u8, host: &str) -> ConfigEdit {
    let host = host.to_owned();
    let to = match (drawn >> 2) % 4 {
        0 => EditValue::Text(host),
        1 => EditValue::Text("5433".to_owned()),
        2 => EditValue::UrlAuthority { host, port: 5433 },
        _ => EditValue::Field {
            name: "k".to_owned(),
            text: host,
        },
    };
    let key = KEYS[usize::from(drawn) % KEYS.len()].to_owned();
    ConfigEdit { key, to }
}

/// Edits the text that follows the first byte. Hands every text that was edited, with the path of
/// its key and the new value, to `read_back`, which reads it with somebody else's reader if one is
/// here.
pub fn check(format: &dyn ConfigFormat, input: &[u8], read_back: impl Fn(&[u8], &str, &str)) {
    let Some((drawn, text)) = input.split_first() else {
        return;
    };
    let edits = [edit(*drawn, "db2")];
    if let Ok(first) = format.edit(text, &edits) {
        let again = format.edit(&first.text, &edits).map(|again| again.changed);
        assert_eq!(again, Ok(Vec::new()), "done once");
        // By way of another value: nothing else has changed on the way.
        let detour = format.edit(text, &[edit(*drawn, "other-host")]);
        let back = detour.and_then(|detour| format.edit(&detour.text, &edits));
        let back = back.expect("what took one value takes another").text;
        // An escaped letter of the old value is kept where the new one has the same letter.
        assert!(
            back == first.text || text.contains(&b'\\'),
            "nothing else changes"
        );
        if let EditValue::Text(new) = &edits[0].to {
            read_back(&first.text, &edits[0].key, new);
        }
    }
    let before = format.epoch(text);
    if let Ok(noted) = format.with_epoch(text, Epoch(7)) {
        let after = format.epoch(&noted);
        assert!(after == Ok(Some(Epoch(7))) || after == Ok(None) && before == Ok(None));
    }
}
