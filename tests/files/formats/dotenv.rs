//! Editing dotenv files: what changes, what stays, what is refused. Pure, no files.

use failover_agent::effects::app_config::format::EditError;
use failover_agent::effects::app_config::{dotenv, url};
use failover_agent::model::Epoch;
use failover_agent::model::plan::ConfigEdit;
use proptest::prelude::*;

use super::{field_edit, text_edit, url_edit};

const BEFORE: &str = "# the app\nDB_HOST=db1\nSECRET='p#w'\n\
                      DATABASE_URL=\"postgres://app:p%40ss%2F@db1:5432/app?sslmode=require\"\n";

fn edited(text: &str, edits: &[ConfigEdit]) -> Result<String, EditError> {
    dotenv::edit(text.as_bytes(), edits).map(|edited| String::from_utf8(edited.text).unwrap())
}

#[test]
fn every_way_of_writing_a_line_keeps_its_form() {
    for (before, after) in [
        ("K=old", "K=new"),
        ("K=old\n", "K=new\n"),
        ("K=\n", "K=new\n"),
        ("K=  \n", "K=new  \n"),
        ("K= # empty\n", "K=new # empty\n"),
        ("K=old # why\n", "K=new # why\n"),
        ("K=a#b\n", "K=new\n"),
        (
            "  export\tK = old  \r\nX=1\r\n",
            "  export\tK = new  \r\nX=1\r\n",
        ),
        ("\u{feff}K='old'\n", "\u{feff}K='new'\n"),
        ("K=\"old\"  # c\n", "K=\"new\"  # c\n"),
        (
            "#K=1\n# K=2\nK=old\nKK=3\nXK=4\n",
            "#K=1\n# K=2\nK=new\nKK=3\nXK=4\n",
        ),
        (
            "PEM=\"a\nK=inside\n\"\nK=old\nS='b\nK=too'\n",
            "PEM=\"a\nK=inside\n\"\nK=new\nS='b\nK=too'\n",
        ),
        (
            "PEM=\"a \\\" b\nK=x\"\nK=old\n",
            "PEM=\"a \\\" b\nK=x\"\nK=new\n",
        ),
        ("Q=it's\nW=C:\\dir\nK=old\n", "Q=it's\nW=C:\\dir\nK=new\n"),
        ("B=`x\nK=y`\nK=old\n", "B=`x\nK=y`\nK=new\n"),
        (
            "not an assignment\nK=old\n=\n",
            "not an assignment\nK=new\n=\n",
        ),
        ("K=old # don't\n", "K=new # don't\n"),
        ("K=#old\n", "K=new\n"),
        ("\nK=old", "\nK=new"),
        ("\r\n\nK=old", "\r\n\nK=new"),
    ] {
        assert_eq!(
            edited(before, &[text_edit("K", "new")]).as_deref(),
            Ok(after),
            "{before:?}"
        );
    }
}

#[test]
fn what_programs_read_differently_is_refused() {
    let key = || "K".to_owned();
    for (text, value, error) in [
        ("X=1\n#K=2\n", "v", EditError::KeyMissing { key: key() }),
        (
            "K=1\nX=1\nexport K=2\n",
            "v",
            EditError::KeyRepeated {
                key: key(),
                first: 1,
                second: 3,
            },
        ),
        (
            "K=1\nK: 2\n",
            "v",
            EditError::KeyRepeated {
                key: key(),
                first: 1,
                second: 2,
            },
        ),
        ("A=\"x\nK=1\n", "v", EditError::UnclosedQuote { line: 1 }),
        (
            "Z=1\nA=\"x\nB=\"y\nK=1\n",
            "v",
            EditError::UnclosedQuote { line: 2 },
        ),
    ] {
        assert_eq!(
            edited(text, &[text_edit("K", value)]),
            Err(error),
            "{text:?}"
        );
    }
}

#[test]
fn new_values_that_programs_read_differently_are_refused() {
    for value in [
        "a b", "a#b", "a$b", "a'b", "a\"b", "a;b", "a&b", "a\\", "a\nb", "`a`", "=a",
    ] {
        let result = edited("K=1\n", &[text_edit("K", value)]);
        assert!(
            matches!(result, Err(EditError::ValueUnwritable { line: 1, .. })),
            "{value}"
        );
    }
    for (text, value) in [
        ("K='1'\n", "a'b"),
        ("K=\"1\"\n", "a$b"),
        ("K=\"1\"\n", "a\nX=1"),
    ] {
        let result = edited(text, &[text_edit("K", value)]);
        assert!(
            matches!(result, Err(EditError::ValueUnwritable { .. })),
            "{text}"
        );
    }
    let twice = [text_edit("K", "a"), text_edit("K", "b")];
    let key = "K".to_owned();
    assert_eq!(edited("K=1\n", &twice), Err(EditError::EditedTwice { key }));
}

#[test]
fn old_values_that_programs_read_differently_are_left_alone() {
    for text in [
        "K=a\"b\"",
        "K=a\\\nX=1",
        "K='a'b",
        "K=\"a\\nb\"",
        "K=\"a\nb\"",
        "X=a\\\nK=1",
        "K=`a`",
    ] {
        let result = edited(text, &[text_edit("K", "v")]);
        assert!(
            matches!(result, Err(EditError::ValueDoubtful { .. })),
            "{text}"
        );
    }
}

#[test]
fn value_with_blanks_is_written_inside_quotes() {
    let edits = [text_edit("K", "a b#c")];
    assert_eq!(edited("K=\"x\"\n", &edits).as_deref(), Ok("K=\"a b#c\"\n"));
    assert_eq!(edited("K='x'\n", &edits).as_deref(), Ok("K='a b#c'\n"));
}

#[test]
fn url_value_keeps_password_and_query_and_takes_ipv6() {
    assert_eq!(
        edited(BEFORE, &[url_edit("DATABASE_URL", "fd00::2")]).unwrap(),
        BEFORE.replace("@db1:5432", "@[fd00::2]:5433")
    );
    let hash = "U=postgres://u:p#w@h/db\n";
    assert!(edited(hash, &[url_edit("U", "h2")]).is_err());
}

#[test]
fn edit_errors_show_no_values() {
    for text in [
        "K=postgres://u:hush@h:x/db",
        "K=postgres://u:hush@a@h/db",
        "K='hush'hush",
        "K=\"hush",
        "K=hush",
    ] {
        let error = edited(text, &[url_edit("K", "h2")]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
}

#[test]
fn epoch_comment_is_put_on_top_once_and_then_updated() {
    for (before, after) in [
        ("K=1\n", "# managed-by-agent epoch=7\nK=1\n"),
        (
            "\u{feff}K=1\r\n",
            "\u{feff}# managed-by-agent epoch=7\r\nK=1\r\n",
        ),
        ("", "# managed-by-agent epoch=7\n"),
        (
            "K=1\n#managed-by-agent epoch=3\n",
            "K=1\n#managed-by-agent epoch=7\n",
        ),
        (
            "P=\"\n# managed-by-agent epoch=9\n\"\n",
            "# managed-by-agent epoch=7\nP=\"\n# managed-by-agent epoch=9\n\"\n",
        ),
    ] {
        let text = dotenv::with_epoch(before.as_bytes(), Epoch(7)).unwrap();
        assert_eq!(str::from_utf8(&text), Ok(after));
        assert_eq!(dotenv::epoch(&text), Ok(Some(Epoch(7))));
    }
    assert_eq!(
        dotenv::epoch(b"K=1\n# managed-by-agent epoch=x\n"),
        Err(EditError::EpochUnreadable { line: 2 })
    );
}

#[test]
fn connection_string_changes_inside_quotes_only() {
    let fields = [
        field_edit("D", "host", "db2"),
        field_edit("D", "port", "5433"),
    ];
    assert_eq!(
        edited("D=\"host=db1 port=5432 dbname=a\"\n", &fields).as_deref(),
        Ok("D=\"host=db2 port=5433 dbname=a\"\n")
    );
    let bare = edited("D=host=db1 port=5432\n", &fields);
    assert!(matches!(
        bare,
        Err(EditError::ValueDoubtful { line: 1, .. })
    ));
}

/// Lines that say nothing about key `K`.
fn other_line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "#[ -~]{0,20}".prop_map(|text| text.replace("managed-by", "")),
        "(export )?[A-J][A-Z_]{0,6}=[a-z0-9:/.@?&$%-]{0,12}( # [ -~]{0,8}[a-z])?",
        "[A-J]{1,4}='[ -&(-~\n=K]{0,16}'",
        "[A-J]{1,4}=\"[ !#-\\[\\]-~\n=K]{0,16}\" *",
    ]
}

fn other_lines() -> impl Strategy<Value = String> {
    (prop::collection::vec(other_line(), 0..6), any::<bool>()).prop_map(|(lines, crlf)| {
        let end = if crlf { "\r\n" } else { "\n" };
        lines.into_iter().map(|line| line + end).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_edit_changes_the_value_and_no_other_byte(
        before in other_lines(),
        after in other_lines(),
        lead in "( {0,2}export )? {0,2}",
        space in "[ \t]{0,2}",
        (quote, old) in prop_oneof![
            ("", "[a-z0-9./:@-]{0,10}"),
            ("'", "[ -&(-\\[\\]-~]{0,10}"),
            ("\"", "[ !#-\\[\\]-~]{0,10}"),
        ],
        new in "[a-z0-9][a-z0-9.-]{0,10}",
        tail in "( {1,2}# [ -!#-&(-\\[\\]-_a-~]{0,9}| {0,2})",
    ) {
        // An empty plain value is written right behind the separator, before any blank.
        let space = if old.is_empty() && quote.is_empty() { String::new() } else { space };
        let line = |value: &str| {
            format!("{before}{lead}K={space}{quote}{value}{quote}{tail}\n{after}")
        };
        let edited = dotenv::edit(line(&old).as_bytes(), &[text_edit("K", &new)]).unwrap();
        prop_assert_eq!(String::from_utf8(edited.text).unwrap(), line(&new));
        prop_assert_eq!(edited.changed.is_empty(), old == new);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_an_edit_is_done_once(
        bytes in prop::collection::vec(
            prop_oneof![
                4 => prop::sample::select(b"K=\"'`\\ \t\r\n#$:@/?export".to_vec()),
                1 => any::<u8>(),
            ],
            0..80,
        ),
        url in any::<bool>(),
    ) {
        let edit = if url { url_edit("K", "fd00::9") } else { text_edit("K", "new") };
        if let Ok(first) = dotenv::edit(&bytes, std::slice::from_ref(&edit)) {
            let second = dotenv::edit(&first.text, &[edit]).unwrap();
            prop_assert_eq!(second.changed, Vec::<String>::new());
        }
        if let Ok(noted) = dotenv::with_epoch(&bytes, Epoch(7)) {
            prop_assert_eq!(dotenv::epoch(&noted), Ok(Some(Epoch(7))));
        }
        let text = String::from_utf8_lossy(&bytes);
        drop(url::replace_authority(&text, "h", 1));
    }
}
