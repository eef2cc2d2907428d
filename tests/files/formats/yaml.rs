//! YAML files: what is edited, and the much that is refused.

use failover_agent::effects::app_config::format::ConfigFormat;
use failover_agent::effects::app_config::formats::yaml::Yaml;
use failover_agent::model::Epoch;
use proptest::prelude::*;

use super::{Refused, edited, field_edit, refused, text_edit, url_edit};

const BEFORE: &str = "\u{feff}# the app\n---\ndb:\n  host: db1 # why\n  port: 5432\n\n  \
    'a.b': \"db1\"\nurl:   'postgres://u:p%40@db1:5432/app?x=#y'\nservers:\n- host: one\n  port: 1\n-   \
    host: two\n    tags: [a, 'b]', {c: d}]\n- - x\n  - \"y z\"\n-\n  host: four\ntext: |-2\n    # managed-by-agent epoch=9\n   host: no\n\n  \
    db: no\nlink: &a\n  host: x\nother: *a\ndsn: host=db1 port=5432 # c\nempty:\nlong: one\n  two\nlast: z\n";

#[test]
fn values_change_at_their_path_and_nothing_else() {
    for (edit, old, new) in [
        (text_edit("db.host", "db2"), "host: db1", "host: db2"),
        (text_edit("db.port", "5433"), "port: 5432", "port: 5433"),
        (text_edit("db.\"a.b\"", "x y: #"), "\"db1\"", "\"x y: #\""),
        (url_edit("url", "db2"), "@db1:5432", "@db2:5433"),
        (
            text_edit("servers[0].host", "10.0.0.1"),
            "host: one",
            "host: 10.0.0.1",
        ),
        (text_edit("servers[0].port", "2"), "port: 1", "port: 2"),
        (
            text_edit("servers[1].host", "new"),
            "host: two",
            "host: new",
        ),
        (text_edit("servers[2][0]", "new"), "- x\n", "- new\n"),
        (text_edit("servers[2][1]", "new"), "\"y z\"", "\"new\""),
        (
            text_edit("servers[3].host", "new"),
            "host: four",
            "host: new",
        ),
        (field_edit("dsn", "host", "db2"), "host=db1", "host=db2"),
        (text_edit("last", "new"), "last: z", "last: new"),
    ] {
        let result = edited(&Yaml, BEFORE, std::slice::from_ref(&edit));
        assert_eq!(result.unwrap(), BEFORE.replace(old, new), "{edit:?}");
        let crlf = BEFORE.replace('\n', "\r\n");
        let result = edited(&Yaml, &crlf, &[edit]);
        assert_eq!(
            result.unwrap(),
            crlf.replace(&old.replace('\n', "\r\n"), &new.replace('\n', "\r\n"))
        );
    }
}

#[test]
fn what_is_more_than_plain_blocks_is_not_edited() {
    for key in [
        "servers[1].tags[0]",
        "servers[1].tags",
        "text",
        "link.host",
        "other",
        "other.host",
        "empty",
        "long",
        "db",
    ] {
        let result = refused(&Yaml, BEFORE, text_edit(key, "new"));
        assert!(
            matches!(result, Some(Refused::Doubtful(_))),
            "{key} {result:?}"
        );
    }
    for (text, key, expected) in [
        ("a: 1\n", "b", Refused::Missing),
        ("a:\n- 1\n", "a[1]", Refused::Missing),
        ("a: x\nb: 1\n\"a\": y\n", "a", Refused::Repeated(1, 3)),
        ("a:\n  b: 1\na:\n  c: 1\n", "a.b", Refused::Repeated(2, 4)),
        ("a: yes\n", "a", Refused::Doubtful(1)),
        ("a: ~\n", "a", Refused::Doubtful(1)),
        ("a: 010\n", "a", Refused::Doubtful(1)),
        ("a: 1.5\n", "a", Refused::Doubtful(1)),
        ("a: \"x\\n\"\n", "a", Refused::Doubtful(1)),
        ("a: 'it''s'\n", "a", Refused::Doubtful(1)),
        ("a: !!str x\n", "a", Refused::Doubtful(1)),
        ("a:\tx\n", "a", Refused::Doubtful(1)),
        ("a: x\n  # c\n  y\n", "a", Refused::Doubtful(1)),
        ("a: >\n  x\n", "a", Refused::Doubtful(1)),
    ] {
        assert_eq!(
            refused(&Yaml, text, text_edit(key, "v")),
            Some(expected),
            "{text:?}"
        );
    }
}

#[test]
fn what_a_value_without_quotes_cannot_say_is_refused() {
    for new in [
        "yes", "5433", "1.5", "a: b", "a #b", "", "null", "0x1f", "@a", "1:30", "::1", "a\nb",
        " a", "*a", "a:",
    ] {
        let result = refused(&Yaml, "a: x\n", text_edit("a", new));
        assert_eq!(result, Some(Refused::Unwritable(1)), "{new:?}");
    }
    for new in ["a\"b", "a\\b", "a\nb", "a\u{85}b"] {
        let result = refused(&Yaml, "a: \"x\"\n", text_edit("a", new));
        assert_eq!(result, Some(Refused::Unwritable(1)), "{new:?}");
    }
    assert_eq!(
        refused(&Yaml, "a: 1\n", text_edit("a", "x")),
        Some(Refused::Unwritable(1))
    );
    assert_eq!(
        refused(&Yaml, "a: 'x'\n", text_edit("a", "it's")),
        Some(Refused::Unwritable(1))
    );
}

#[test]
fn file_whose_structure_is_not_certain_is_refused() {
    for (text, line) in [
        ("a: v\n\tb: 1\n", 2),
        ("a: v\n---\nb: 1\n", 2),
        ("%YAML 1.2\n---\na: v\n", 1),
        ("--- # c\na: v\n", 1),
        ("a: v\n...\n", 2),
        ("? a\n: b\n", 1),
        ("&x a: v\n", 1),
        ("!t a: v\n", 1),
        ("a: b: c\n", 1),
        ("a: \"x\n  y\"\n", 1),
        ("a: 'x' y\n", 1),
        ("a: [1,\n 2]\n", 1),
        ("{a: v}\nb: 1\n", 2),
        ("a: v\njust text\n", 2),
        ("a:\n    b: 1\n  c: 2\n", 3),
        ("a: 'x'\n  b: 1\n", 2),
        ("- a\nb: 1\n", 2),
        ("a: @x\n", 1),
        ("a: - x\n", 1),
        ("a: | x\n", 1),
        ("a: x\rb: y\n", 1),
        ("a: x\nb: \u{2028}\n", 2),
        ("\"a\\n\": v\n", 1),
        (": v\n", 1),
        ("-\ta: 1\n", 1),
    ] {
        let result = refused(&Yaml, text, text_edit("a", "new"));
        assert_eq!(result, Some(Refused::Unreadable(line)), "{text:?}");
    }
    for deep in [
        "- ".repeat(100_000),
        (0..10_000)
            .map(|n| " ".repeat(n) + "a:\n")
            .take(300)
            .collect(),
    ] {
        let result = refused(&Yaml, &deep, text_edit("a", "new"));
        assert!(matches!(result, Some(Refused::Unreadable(_))));
    }
}

#[test]
fn line_in_a_text_is_no_epoch_comment() {
    assert_eq!(Yaml.epoch(BEFORE.as_bytes()), Ok(None));
    let noted = Yaml.with_epoch(BEFORE.as_bytes(), Epoch(7)).unwrap();
    let noted = String::from_utf8(noted).unwrap();
    assert_eq!(
        noted,
        BEFORE.replacen("# the app", "# managed-by-agent epoch=7\n# the app", 1)
    );
    assert_eq!(Yaml.epoch(noted.as_bytes()), Ok(Some(Epoch(7))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_edit_changes_the_value_and_no_other_byte(
        indent in 1..5_usize,
        dash in 0..3_usize,
        gap in " {1,3}",
        comment in "( # [ -~]{0,8})?",
        between in prop::sample::select(vec!["", "\n", "# c\n", "      # c: d\n"]),
        (quote, old) in prop_oneof![
            ("", "[g-m][a-z0-9./@-]{0,8}[0-9]"),
            ("'", "[ -&(-~é]{0,10}"),
            ("\"", "[ !#-\\[\\]-~é]{0,10}"),
        ],
        new in "[g-m][a-z0-9./@:-]{0,8}[0-9]",
    ) {
        let whole = |value: &str| {
            let pad = " ".repeat(indent);
            let dash = " ".repeat(dash);
            let value = format!("{quote}{value}{quote}{comment}");
            format!(
                "a:\n{pad}b:{gap}{value}\n{between}{pad}c:\n{pad}{dash}- x: 1\n{between}\
                 {pad}{dash}-{gap}y: 1\n{pad}{dash} {gap}k:{gap}{value}\n{between}z: 1\n"
            )
        };
        let edits = [text_edit("a.b", &new), text_edit("a.c[1].k", &new)];
        let after = edited(&Yaml, &whole(&old), &edits);
        prop_assert_eq!(after.unwrap(), whole(&new));
    }
}
