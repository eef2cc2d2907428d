//! JSON files, compared with what serde_json reads.

use failover_agent::effects::app_config::formats::json::Json;
use proptest::prelude::*;
use serde_json::Value;

use super::{Refused, edited, field_edit, refused, text_edit, url_edit};

const BEFORE: &str = "\u{feff}{\r\n  \"db\" : {\"host\":\"db1\", \"port\": 5432, \"on\":true},\r\n\
    \t\"a.b\": [ {\"h\\u006fst\": \"x\"}, {\"host\": \"\" } ],\r\n\
    \"url\": \"postgres:\\/\\/u:p\\u0040q%40@db1:5432,db3\\/app?x=\\u00e9\" ,\"n\":-1.5e3,\r\n\
    \"dsn\":\"host=db1 password='\\u00e9'\"}\n\n";

#[test]
fn values_change_at_their_path_and_nothing_else() {
    for (edit, old, new) in [
        (text_edit("db.host", "db2"), "\"db1\"", "\"db2\""),
        (text_edit("db.port", "5433"), "5432, \"on", "5433, \"on"),
        (text_edit("\"a.b\"[0].host", "y"), "\"x\"", "\"y\""),
        (
            text_edit("\"a.b\"[1].host", "y\"\\\u{e9}"),
            "\"\" ",
            "\"y\\\"\\\\\u{e9}\" ",
        ),
        (field_edit("dsn", "host", "db2"), "host=db1", "host=db2"),
    ] {
        let result = edited(&Json, BEFORE, std::slice::from_ref(&edit));
        assert_eq!(result.unwrap(), BEFORE.replace(old, new), "{edit:?}");
    }
}

#[test]
fn url_keeps_the_escapes_around_host_and_port() {
    let before = "{\"url\": \"postgres:\\/\\/u:p\\u00e9%40@db1:5432\\/app?x=\\u00e9\"}";
    let after = edited(&Json, before, &[url_edit("url", "fd00::2")]);
    assert_eq!(after.unwrap(), before.replace("db1:5432", "[fd00::2]:5433"));
    assert_eq!(
        refused(&Json, BEFORE, url_edit("url", "h")),
        Some(Refused::Url(4))
    );
}

#[test]
fn number_stays_number_and_text_stays_text() {
    let result = edited(&Json, "{\"p\":\"5432\"}", &[text_edit("p", "5433")]);
    assert_eq!(result.as_deref(), Ok("{\"p\":\"5433\"}"));
    for new in ["db2", "", "05", "1.0", "+1", "1e3", "9999999999999999999"] {
        let result = refused(&Json, "{\"p\":5432}", text_edit("p", new));
        assert_eq!(result, Some(Refused::Unwritable(1)), "{new}");
    }
    for old in [
        "1.5",
        "1e3",
        "true",
        "null",
        "[]",
        "{}",
        "[1]",
        "12345678901234567890",
    ] {
        let result = refused(&Json, &format!("\n{{\"p\":{old}}}"), text_edit("p", "1"));
        assert_eq!(result, Some(Refused::Doubtful(2)), "{old}");
    }
}

#[test]
fn what_is_not_one_value_on_the_path_is_refused() {
    for (text, key, expected) in [
        ("{\"a\":1}", "b", Refused::Missing),
        ("{\"a\":{}}", "a.b", Refused::Missing),
        ("{\"a\":[1]}", "a[1]", Refused::Missing),
        ("{\"a\":[1]}", "a.b", Refused::Missing),
        ("{\"a\":1}", "[0]", Refused::Missing),
        ("{\"a\":1,\n\"\\u0061\":2}", "a", Refused::Repeated(1, 2)),
        ("{\"a\":{\"b\":1},\"a\":2}", "a.b", Refused::Repeated(1, 1)),
        ("{\"a\":1}", "a..b", Refused::Other),
        ("{\"a\":\"\\ud800\"}", "a", Refused::Doubtful(1)),
    ] {
        assert_eq!(
            refused(&Json, text, text_edit(key, "1")),
            Some(expected),
            "{text} {key}"
        );
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for text in [
        "",
        "{",
        "{}}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "// c\n{}",
        "[1 2]",
        "[1,]",
        "{\"a\":01}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":tru}",
        "{\"a\":NaN}",
        "\"a",
        "{\"a\":1}\u{feff}",
        "{\"\\ud800\":1}",
    ] {
        let result = refused(&Json, text, text_edit("a", "1"));
        assert!(
            matches!(result, Some(Refused::Unreadable(_))),
            "{text:?} {result:?}"
        );
    }
    let deep = "[".repeat(100_000);
    assert_eq!(
        refused(&Json, &deep, text_edit("a", "1")),
        Some(Refused::Unreadable(1))
    );
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-jé\"\\\\ ]{0,4}", inner, 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_edit_changes_the_value_and_no_other_byte(
        other in value(),
        items in prop::collection::vec(value(), 0..3),
        old in ".{0,10}",
        new in ".{0,10}",
        pretty in any::<bool>(),
    ) {
        let index = items.len();
        let whole = |text: &str| {
            let mut items = items.clone();
            items.push(serde_json::json!({ "k.k": text }));
            let value = serde_json::json!({ "a": other.clone(), "b": items, "z": other.clone() });
            match pretty {
                true => serde_json::to_string_pretty(&value).unwrap(),
                false => value.to_string(),
            }
        };
        let edit = text_edit(&format!("b[{index}].\"k.k\""), &new);
        let after = edited(&Json, &whole(&old), &[edit]).unwrap();
        let read: Value = serde_json::from_str(&after).unwrap();
        let expected: Value = serde_json::from_str(&whole(&new)).unwrap();
        prop_assert_eq!(&read, &expected);
        if !new.chars().any(char::is_control) {
            prop_assert_eq!(after, whole(&new));
        }
    }

    #[test]
    fn what_the_scanner_takes_serde_takes_too(text in "[\\[\\]{}\",:0-9a-e.+\\\\u\n -]{0,24}") {
        let missing = refused(&Json, &text, text_edit("zz", "1"));
        let scanned = !matches!(missing, Some(Refused::Unreadable(_)));
        let read = serde_json::from_str::<Value>(&text);
        // serde_json refuses numbers that are too large for it, which are JSON all the same.
        let too_large = read.as_ref().is_err_and(|error| error.to_string().contains("range"));
        prop_assert!(scanned == read.is_ok() || too_large, "{:?}", text);
    }
}
