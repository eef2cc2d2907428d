//! TOML files, compared with what the toml crate reads.

use failover_agent::effects::app_config::format::ConfigFormat;
use failover_agent::effects::app_config::formats::toml::Toml;
use failover_agent::model::Epoch;
use proptest::prelude::*;
use toml::{Table, Value};

use super::{Refused, edited, field_edit, refused, text_edit, url_edit};

const BEFORE: &str = "\u{feff}# the app\r\n'quoted key' = 'db1'   # why\r\n\
    url = \"postgres://u:p\\u00e9%40@db1:5432/app\"\r\n\r\n[db]\r\nhost=\"db1\"\r\nport = 5_432\r\n\
    pool.size = 5432\r\ninline = { host = 'db1', on = true }\r\ndsn = \"host=db1 port=1\"\r\n\
    [[servers]]\r\nhost = \"a\"\r\n[[servers]]\r\nhost = \"b\"\r\nports = [ 1, # one\r\n 2, ]\r\n";

#[test]
fn values_change_at_their_path_and_nothing_else() {
    for (edit, old, new) in [
        (text_edit("db.host", "db2"), "host=\"db1\"", "host=\"db2\""),
        (text_edit("db.pool.size", "5433"), "= 5432", "= 5433"),
        (text_edit("\"quoted key\"", "db2"), "'db1'   #", "'db2'   #"),
        (
            text_edit("db.inline.host", "db2"),
            "host = 'db1'",
            "host = 'db2'",
        ),
        (
            text_edit("servers[1].host", "c\"\\\u{1}"),
            "\"b\"",
            "\"c\\\"\\\\\\u0001\"",
        ),
        (text_edit("servers[1].ports[1]", "3"), " 2,", " 3,"),
        (field_edit("db.dsn", "host", "db2"), "host=db1", "host=db2"),
        (url_edit("url", "db2"), "@db1:5432", "@db2:5433"),
    ] {
        let result = edited(&Toml, BEFORE, std::slice::from_ref(&edit));
        assert_eq!(result.unwrap(), BEFORE.replace(old, new), "{edit:?}");
    }
}

#[test]
fn what_cannot_be_edited_safely_is_refused() {
    for (text, key, expected) in [
        ("a = 1\n", "b", Refused::Missing),
        ("a = [1]\n", "a[1]", Refused::Missing),
        ("\na = \"\"\"x\"\"\"\n", "a", Refused::Doubtful(2)),
        ("a = '''x'''\n", "a", Refused::Doubtful(1)),
        ("a = 1_000\n", "a", Refused::Doubtful(1)),
        ("a = 0x1f\n", "a", Refused::Doubtful(1)),
        ("a = +1\n", "a", Refused::Doubtful(1)),
        ("a = 1.5\n", "a", Refused::Doubtful(1)),
        ("a = true\n", "a", Refused::Doubtful(1)),
        ("a = 2001-01-01\n", "a", Refused::Doubtful(1)),
        ("a = [1]\n", "a", Refused::Doubtful(1)),
        ("[a]\nb = 1\n", "a", Refused::Doubtful(1)),
        ("a = 1\na = 2\n", "a", Refused::Unreadable(2)),
        ("b = 1\na = x\n", "a", Refused::Unreadable(2)),
        ("a = 'x\n", "a", Refused::Unreadable(1)),
        ("a = 1 b = 2\n", "a", Refused::Unreadable(1)),
    ] {
        assert_eq!(
            refused(&Toml, text, text_edit(key, "1")),
            Some(expected),
            "{text}"
        );
    }
    let in_single = refused(&Toml, "a = 'x'\n", text_edit("a", "it's"));
    assert_eq!(in_single, Some(Refused::Unwritable(1)));
    assert_eq!(
        refused(&Toml, "a = 1\n", text_edit("a", "x")),
        Some(Refused::Unwritable(1))
    );
}

#[test]
fn deep_file_is_refused_and_does_not_overrun_the_stack() {
    let deep = format!("a = {}", "[".repeat(50_000));
    assert_eq!(
        refused(&Toml, &deep, text_edit("a", "1")),
        Some(Refused::Unreadable(1))
    );
}

#[test]
fn line_in_a_text_is_no_epoch_comment() {
    let text = "a = \"\"\"\n# managed-by-agent epoch=9\n\"\"\"\n";
    assert_eq!(Toml.epoch(text.as_bytes()), Ok(None));
    let noted = Toml.with_epoch(text.as_bytes(), Epoch(7)).unwrap();
    assert_eq!(
        String::from_utf8(noted).unwrap(),
        format!("# managed-by-agent epoch=7\n{text}")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_edit_changes_the_value_and_no_other_byte(
        comments in prop::collection::vec("(# [ -~é]{0,12})?", 4),
        quote in prop::sample::select(vec!["\"", "'"]),
        old in "[ a-z0-9./:@-]{0,10}",
        new in "[ a-zé0-9./:@-]{0,10}",
        port in 0..70_000_u32,
        crlf in any::<bool>(),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let whole = |host: &str, port: u32| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|index| &comments[index]);
            let host = format!("{quote}{host}{quote}");
            [
                a.clone(),
                format!("x.y . z = {host}{b}"),
                format!("\t[ \"a b\" . c ]  {c}"),
                format!("  host={host} {d}"),
                format!("n = {{ port = {port}, 'q' = [ {port} ,{host} ] }}"),
            ]
            .map(|line| line + end)
            .concat()
        };
        let edits = [
            text_edit("x.y.z", &new),
            text_edit("\"a b\".c.host", &new),
            text_edit("\"a b\".c.n.port", "1"),
            text_edit("\"a b\".c.n.q[0]", "1"),
            text_edit("\"a b\".c.n.q[1]", &new),
        ];
        let after = edited(&Toml, &whole(&old, port), &edits).unwrap();
        prop_assert_eq!(&after, &whole(&new, 1));
        let read: Table = toml::from_str(&after).unwrap();
        prop_assert_eq!(read["a b"]["c"]["host"].as_str(), Some(new.as_str()));
    }

    #[test]
    fn any_text_is_read_back(old in ".{0,10}", new in ".{0,10}") {
        let text = |value: &str| {
            let table: Table = [("k".to_owned(), Value::from(value))].into_iter().collect();
            toml::to_string(&table).unwrap()
        };
        let before = text(&old);
        if let Ok(after) = edited(&Toml, &before, &[text_edit("k", &new)]) {
            let read: Table = toml::from_str(&after).unwrap();
            prop_assert_eq!(read["k"].as_str(), Some(new.as_str()));
        }
    }
}
