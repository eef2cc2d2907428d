//! Ini files: php.ini, pgbouncer.ini and what else calls itself so.

use failover_agent::effects::app_config::formats::ini::Ini;
use proptest::prelude::*;

use super::{Refused, edited, field_edit, refused, text_edit, url_edit};

const PGBOUNCER: &str = ";; the pool\n[databases]\n\
    app = host=db1 port=5432 dbname=app password='p w#;' # old\n\
    logs= dbname=logs\thost='db1,db3' port = 5432\n\
    * = host=127.0.0.1\n\n[pgbouncer]\nlisten_port = 6432\nlisten_addr = *\n";

#[test]
fn every_way_of_writing_a_line_keeps_its_form() {
    for (before, after) in [
        ("k=old", "k=new"),
        ("k = old\n", "k = new\n"),
        ("k =\n", "k =new\n"),
        ("k = \n", "k = new\n"),
        ("k =   \n", "k = new  \n"),
        (
            "\u{feff}; c\r\nk = old\r\n[a]\r\nk = x\r\n",
            "\u{feff}; c\r\nk = new\r\n[a]\r\nk = x\r\n",
        ),
        ("k = \"old\" ; why\n", "k = \"new\" ; why\n"),
        (
            "k='old'\t\nkk=1\n;k=2\n#k=3\n",
            "k='new'\t\nkk=1\n;k=2\n#k=3\n",
        ),
        ("other = a;b\nk = a b\n", "other = a;b\nk = new\n"),
    ] {
        let result = edited(&Ini, before, &[text_edit("k", "new")]);
        assert_eq!(result.as_deref(), Ok(after), "{before:?}");
    }
}

#[test]
fn tab_within_quotes_keeps_no_host_from_changing() {
    for (before, after) in [
        (
            "k = \"tcp://old:1/a\tb\" ; c\n",
            "k = \"tcp://db2:5433/a\tb\" ; c\n",
        ),
        ("k = 'tcp://db2:5433/\t'\n", "k = 'tcp://db2:5433/\t'\n"),
    ] {
        let result = edited(&Ini, before, &[url_edit("k", "db2")]);
        assert_eq!(result.as_deref(), Ok(after), "{before:?}");
    }
}

#[test]
fn sections_tell_keys_apart() {
    let text = "[a]\nk = 1\n[ b.c ] ; d\nk = 2\n[session]\nsession.save_path = \"tcp://h:1\"\n";
    for (key, old, new) in [("a.k", "k = 1", "k = x"), ("b.c.k", "k = 2", "k = x")] {
        let result = edited(&Ini, text, &[text_edit(key, "x")]);
        assert_eq!(result.unwrap(), text.replace(old, new), "{key}");
    }
    let result = edited(&Ini, text, &[url_edit("session.session.save_path", "db2")]);
    assert_eq!(result.unwrap(), text.replace("h:1", "db2:5433"));
    assert_eq!(
        refused(&Ini, text, text_edit("k", "x")),
        Some(Refused::Missing)
    );
}

#[test]
fn host_and_port_change_inside_a_pgbouncer_database() {
    let edits = [
        field_edit("databases.logs", "host", "db2"),
        field_edit("databases.logs", "port", "5433"),
        field_edit("databases.*", "host", "10.0.0.2"),
        text_edit("pgbouncer.listen_port", "6433"),
    ];
    let after = PGBOUNCER
        .replace("'db1,db3' port = 5432", "'db2' port = 5433")
        .replace("127.0.0.1", "10.0.0.2")
        .replace("6432", "6433");
    assert_eq!(edited(&Ini, PGBOUNCER, &edits), Ok(after));
}

#[test]
fn connection_string_that_is_read_differently_is_refused() {
    let host = || field_edit("databases.app", "host", "db2");
    // "# old" is a part of the value for PgBouncer, and a comment for others.
    assert_eq!(refused(&Ini, PGBOUNCER, host()), Some(Refused::Doubtful(3)));
    for value in [
        "host=a password=x\\'y",
        "host=a host=b",
        "port=1",
        "host=a password='x''y'",
    ] {
        let text = format!("[databases]\napp = {value}\n");
        assert_eq!(
            refused(&Ini, &text, host()),
            Some(Refused::Conninfo(2)),
            "{value}"
        );
    }
}

#[test]
fn what_programs_read_differently_is_refused() {
    for (text, expected) in [
        ("x=1\n", Refused::Missing),
        ("K=1\n", Refused::Missing),
        ("k=1\nk=2\n", Refused::Repeated(1, 2)),
        ("k=1\nK=2\n", Refused::Repeated(1, 2)),
        ("k=1\nk\n", Refused::Repeated(1, 2)),
        ("k=1\nk: 2\n", Refused::Repeated(1, 2)),
        ("k: 1\n", Refused::Doubtful(1)),
        ("k:1=2\n", Refused::Doubtful(1)),
        ("k\n", Refused::Doubtful(1)),
        ("k=1 ; c\n", Refused::Doubtful(1)),
        ("k=1\t# c\n", Refused::Doubtful(1)),
        ("k=; c\n", Refused::Doubtful(1)),
        ("k=a\\\nb=c\n", Refused::Doubtful(1)),
        ("b=a\\\nk=c\n", Refused::Doubtful(2)),
        ("k=1\n  more\n", Refused::Doubtful(1)),
        ("k=1\n\n; c\n  k2=1\n", Refused::Doubtful(1)),
        ("b=1\n  k=2\n", Refused::Doubtful(2)),
        ("k=\"a\n", Refused::Doubtful(1)),
        ("k=\"a\"b\n", Refused::Doubtful(1)),
        ("k=a \"b\n", Refused::Doubtful(1)),
        ("k=\"a\\\\b\"\n", Refused::Doubtful(1)),
        ("k=a\u{1}b\n", Refused::Doubtful(1)),
        ("b=1\n [a]\nk=1\n", Refused::Unreadable(2)),
        ("[a\nk=1\n", Refused::Unreadable(1)),
        ("[a] b\nk=1\n", Refused::Unreadable(1)),
    ] {
        assert_eq!(
            refused(&Ini, text, text_edit("k", "v")),
            Some(expected),
            "{text:?}"
        );
    }
    for value in [
        "a;b", "a#b", "a%b", "a\"b", "a'b", "a\\b", "a!b", "a\nb", " a", "=a", "a$b",
    ] {
        let result = refused(&Ini, "k=1\n", text_edit("k", value));
        assert_eq!(result, Some(Refused::Unwritable(1)), "{value}");
    }
    for value in ["a\"b", "a$b", "a%b", "a\\b", "a\nb"] {
        let result = refused(&Ini, "k=\"1\"\n", text_edit("k", value));
        assert_eq!(result, Some(Refused::Unwritable(1)), "{value}");
    }
    for host in ["h", "db2:5433"] {
        let text = format!("k=postgres://u:a;b@{host}/d\n");
        let result = refused(&Ini, &text, url_edit("k", "db2"));
        assert_eq!(result, Some(Refused::Doubtful(1)), "{host}");
    }
}

#[test]
fn sections_with_indented_keys_are_read() {
    let text = "[core]\n\tbare = false\n\tk = old\n[x]\n\tk = old\n";
    let result = edited(&Ini, text, &[text_edit("core.k", "new")]);
    assert_eq!(result.unwrap(), text.replacen("k = old", "k = new", 1));
}

fn other_line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[;#][ -~]{0,20}".prop_map(|text| text.replace("managed-by", "")),
        "[a-j][a-z_.]{0,6} {0,2}= {0,2}[a-z0-9:/.@?&$%;#=-]{0,12}",
        "[a-j]{1,4}=\"[ !#-\\[\\]-~]{0,16}\" *",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_edit_changes_the_value_and_no_other_byte(
        lines in prop::collection::vec(other_line(), 0..8),
        at in any::<prop::sample::Index>(),
        crlf in any::<bool>(),
        space in "[ \t]{0,2}",
        (quote, old) in prop_oneof![
            ("", "[a-z0-9./:@-]{1,10}"),
            ("'", "[ -&(-\\[\\]-~]{0,10}"),
            ("\"", "[ !#-\\[\\]-~]{0,10}"),
        ],
        new in "[a-z0-9][a-z0-9.:-]{0,10}",
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let whole = |value: &str| {
            let mut lines = lines.clone();
            let line = format!("k{space}={space}{quote}{value}{quote}");
            lines.insert(at.index(lines.len() + 1), line);
            format!("[s]{end}{}{end}", lines.join(end))
        };
        let after = edited(&Ini, &whole(&old), &[text_edit("s.k", &new)]);
        prop_assert_eq!(after.unwrap(), whole(&new));
    }
}
