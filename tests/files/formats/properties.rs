//! Java properties files.

use failover_agent::effects::app_config::formats::properties::Properties;
use proptest::prelude::*;

use super::{Refused, edited, field_edit, refused, text_edit, url_edit};

#[test]
fn every_way_of_writing_a_line_keeps_its_form() {
    for (before, after) in [
        ("k=old", "k=new"),
        ("k = old\r\nx=1\r\n", "k = new\r\nx=1\r\n"),
        ("k: old\n", "k: new\n"),
        ("k old\n", "k new\n"),
        ("k\told\n", "k\tnew\n"),
        ("k\n", "k=new\n"),
        ("k=\n", "k=new\n"),
        ("k :\n", "k :new\n"),
        ("  k=old  \n", "  k=new\n"),
        (
            "#k=1\n!k=2\nkk=3\nk=a\\:b # no comment\n",
            "#k=1\n!k=2\nkk=3\nk=new\n",
        ),
        ("\\u006b=old\n", "\\u006b=new\n"),
        ("x=a\\\nk=inside\nk=old\n", "x=a\\\nk=inside\nk=new\n"),
        ("x=a\\\\\nk=old\n", "x=a\\\\\nk=new\n"),
        ("# c\\\nk=old\n", "# c\\\nk=new\n"),
    ] {
        let result = edited(&Properties, before, &[text_edit("k", "new")]);
        assert_eq!(result.as_deref(), Ok(after), "{before:?}");
    }
    let spaced = edited(
        &Properties,
        "a\\ b\\=c = old\n",
        &[text_edit("a b=c", "new")],
    );
    assert_eq!(spaced.as_deref(), Ok("a\\ b\\=c = new\n"));
}

#[test]
fn url_keeps_the_escapes_around_host_and_port() {
    for (before, after) in [
        (
            "spring.datasource.url=jdbc\\:postgresql\\://db1\\:5432/app?user\\=u&password\\=p%40",
            "spring.datasource.url=jdbc\\:postgresql\\://db2:5433/app?user\\=u&password\\=p%40",
        ),
        (
            "spring.datasource.url: postgres://\\u00fc:p@db1/app\n",
            "spring.datasource.url: postgres://\\u00fc:p@db2:5433/app\n",
        ),
    ] {
        let result = edited(
            &Properties,
            before,
            &[url_edit("spring.datasource.url", "db2")],
        );
        assert_eq!(result.as_deref(), Ok(after));
    }
    // What stays of the host stays as it was written.
    let escaped = edited(&Properties, "k=s://\\db1?x\n", &[url_edit("k", "db2")]);
    assert_eq!(escaped.as_deref(), Ok("k=s://\\db2:5433?x\n"));
    let dsn = edited(
        &Properties,
        "d=host\\=db1 port=1\n",
        &[field_edit("d", "host", "db2")],
    );
    assert_eq!(dsn.as_deref(), Ok("d=host\\=db2 port=1\n"));
}

#[test]
fn what_programs_read_differently_is_refused() {
    for (text, expected) in [
        ("x=1\n", Refused::Missing),
        ("k=1\nk=2\n", Refused::Repeated(1, 2)),
        ("k=1\n\\u006B 2\n", Refused::Repeated(1, 2)),
        ("k=a\\\n  b\n", Refused::Doubtful(1)),
        ("k=a\\", Refused::Doubtful(1)),
        ("k=\\u12\n", Refused::Doubtful(1)),
        ("k=a\u{1}\n", Refused::Doubtful(1)),
        ("k=a\rx=1\n", Refused::Unreadable(1)),
        ("\\u12=a\nk=1\n", Refused::Unreadable(1)),
    ] {
        assert_eq!(
            refused(&Properties, text, text_edit("k", "v")),
            Some(expected),
            "{text:?}"
        );
    }
    for new in ["\u{e9}", "a\\b", "a\nb", " a", "a ", "=a", ":a"] {
        let result = refused(&Properties, "k=1\n", text_edit("k", new));
        assert_eq!(result, Some(Refused::Unwritable(1)), "{new:?}");
    }
    let trailing = refused(&Properties, "k=postgres://h/d \n", url_edit("k", "db2"));
    assert_eq!(trailing, Some(Refused::Doubtful(1)));
}

fn other_line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        " *[#!][ -~]{0,20}".prop_map(|text| text.replace("managed-by", "")),
        "[a-j][a-z_.]{0,6}[ =:][ -\\[\\]-~]{0,12}",
        "[a-j]{1,4}=[a-z]{0,4}\\\\\n[k=a-z ]{0,4}",
        "[a-j]{1,4}=([a-z]|\\\\\\\\|\\\\:){0,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_edit_changes_the_value_and_no_other_byte(
        lines in prop::collection::vec(other_line(), 0..8),
        at in any::<prop::sample::Index>(),
        separator in " {0,2}[=: ] {0,2}",
        old in "([!-9;<>-\\[\\]-~]|\\\\[:=#!])([ -\\[\\]-~]|\\\\[:=#!]){0,9}",
        new in "[a-z0-9/][a-z0-9.:=#!/-]{0,10}",
    ) {
        let whole = |value: &str| {
            let mut lines = lines.clone();
            lines.insert(at.index(lines.len() + 1), format!(" k{separator}{value}"));
            lines.join("\n") + "\n"
        };
        let after = edited(&Properties, &whole(&old), &[text_edit("k", &new)]);
        prop_assert_eq!(after.unwrap(), whole(&new));
    }
}
