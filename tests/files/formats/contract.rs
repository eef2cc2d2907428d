//! What holds for every format.

use std::path::Path;

use failover_agent::config::app_formats;
use failover_agent::effects::app_config::format::{CONFIG_FORMATS, ConfigFormat, format_of};
use failover_agent::model::Epoch;
use failover_agent::model::plan::ConfigEdit;
use proptest::prelude::*;

use super::{edited, field_edit, text_edit, url_edit};

/// A file with text, a number, a URL and a connection string, in the words of each format.
fn sample(format: &dyn ConfigFormat) -> &'static str {
    match format.name() {
        "dotenv" => {
            "host='db1'\nport=1\nurl=postgres://u:hush@db1/d\ndsn='host=db1 password=hush'\n"
        }
        "ini" => "host=db1\nport=1\nurl=postgres://u:hush@db1/d\ndsn=host=db1 password=hush\n",
        "json" => {
            "{\"host\":\"db1\",\"port\":1,\n\"url\":\"postgres://u:hush@db1/d\",\
             \"dsn\":\"host=db1 password=hush\"}\n"
        }
        "properties" => {
            "host=db1\nport=1\nurl=postgres://u:hush@db1/d\ndsn=host=db1 password=hush\n"
        }
        "toml" => {
            "host='db1'\nport=1\nurl='postgres://u:hush@db1/d'\ndsn=\"host=db1 password=hush\"\n"
        }
        "yaml" => "host: db1\nport: 1\nurl: postgres://u:hush@db1/d\ndsn: host=db1 password=hush\n",
        other => unreachable!("{other} has no sample: write one"),
    }
}

fn edits() -> [ConfigEdit; 4] {
    [
        text_edit("host", "db2"),
        text_edit("port", "2"),
        url_edit("url", "fd00::2"),
        field_edit("dsn", "host", "db2"),
    ]
}

#[test]
fn every_edit_works_in_every_format_and_is_done_once() {
    for format in CONFIG_FORMATS {
        let before = sample(*format);
        let first = format.edit(before.as_bytes(), &edits()).unwrap();
        let after = before
            .replace("@db1/", "@[fd00::2]:5433/")
            .replace("db1", "db2")
            .replacen('1', "2", 1);
        assert_eq!(
            str::from_utf8(&first.text),
            Ok(after.as_str()),
            "{format:?}"
        );
        assert_eq!(first.changed, ["host", "port", "url", "dsn"]);
        let second = format.edit(&first.text, &edits()).unwrap();
        assert_eq!((second.text, second.changed), (first.text, Vec::new()));
    }
}

#[test]
fn key_that_is_edited_twice_is_refused_unless_by_fields() {
    for format in CONFIG_FORMATS {
        let text = sample(*format);
        for pair in [
            [text_edit("host", "a"), text_edit("host", "b")],
            [text_edit("dsn", "a"), field_edit("dsn", "host", "b")],
            [
                field_edit("dsn", "host", "a"),
                field_edit("dsn", "host", "b"),
            ],
        ] {
            assert!(edited(*format, text, &pair).is_err(), "{format:?}");
        }
        let fields = [
            field_edit("dsn", "host", "a"),
            field_edit("dsn", "password", "b"),
        ];
        let after = edited(*format, text, &fields).unwrap();
        assert!(after.contains("host=a password=b"), "{format:?}");
    }
}

/// All but ini, whose programs do not agree about it.
#[test]
fn keys_that_differ_only_in_case_are_two_keys() {
    for format in CONFIG_FORMATS {
        let (name, text) = match format.name() {
            "json" => ("json", "{\"Host\": \"a\", \"host\": \"b\"}\n"),
            "yaml" => ("yaml", "Host: a\nhost: b\n"),
            "toml" => ("toml", "Host = \"a\"\nhost = \"b\"\n"),
            "properties" => ("properties", "Host=a\nhost=b\n"),
            "dotenv" => ("dotenv", "Host=a\nhost=b\n"),
            _ => continue,
        };
        let after = edited(*format, text, &[text_edit("host", "c")]).unwrap();
        let after = after.replace(['"', ' '], "");
        assert!(
            after.contains(&text.replace(['"', ' '], "").replace('b', "c")),
            "{name}: {after}"
        );
        let upper = edited(*format, text, &[text_edit("HOST", "c")]);
        assert!(upper.is_err(), "{name}: another key was taken for it");
    }
}

#[test]
fn edit_errors_show_no_values() {
    for format in CONFIG_FORMATS {
        let text = sample(*format);
        for (text, edit) in [
            (text.replace("hush@", "hush@hush@"), url_edit("url", "h")),
            (text.replace("hush@db1", "hush@"), url_edit("url", "h")),
            (
                text.replace("=hush", "=hush host=hush"),
                field_edit("dsn", "host", "h"),
            ),
            (text.to_owned(), field_edit("dsn", "port", "1")),
            (text.replace("hush", "hush\u{1}"), text_edit("url", "h")),
            (text.to_owned(), url_edit("dsn", "h")),
            (text.to_owned(), text_edit("host", "hu\nsh")),
        ] {
            if let Err(error) = edited(*format, &text, &[edit]) {
                let shown = format!("{error} {error:?} {}", error.hint());
                assert!(!shown.contains("hush"), "{format:?}: {shown}");
            }
        }
    }
}

#[test]
fn epoch_is_noted_where_there_are_comments() {
    for format in CONFIG_FORMATS {
        let before = format!("\u{feff}{}", sample(*format)).replace('\n', "\r\n");
        let noted = format.with_epoch(before.as_bytes(), Epoch(7)).unwrap();
        if format.name() == "json" {
            assert_eq!(str::from_utf8(&noted), Ok(before.as_str()));
            assert_eq!(format.epoch(&noted), Ok(None));
            continue;
        }
        let sign = if format.name() == "ini" { ";" } else { "#" };
        let bare = before.trim_start_matches('\u{feff}');
        let expected = format!("\u{feff}{sign} managed-by-agent epoch=7\r\n{bare}");
        assert_eq!(str::from_utf8(&noted), Ok(expected.as_str()), "{format:?}");
        assert_eq!(format.epoch(&noted), Ok(Some(Epoch(7))));
        let later = format.with_epoch(&noted, Epoch(18)).unwrap();
        assert_eq!(
            String::from_utf8(later).unwrap(),
            expected.replace("epoch=7", "epoch=18")
        );
        let damaged = expected.replace("epoch=7", "epoch=x");
        assert!(format.epoch(damaged.as_bytes()).is_err());
    }
}

#[test]
fn format_is_the_named_one_or_what_the_files_name_promises() {
    for (path, expected) in [
        (".env", Some("dotenv")),
        (".env.production", Some("dotenv")),
        (".env.local", Some("dotenv")),
        ("app.env", Some("dotenv")),
        ("env.production", Some("dotenv")),
        ("/etc/default/shop", Some("dotenv")),
        (".envrc", Some("dotenv")),
        ("/etc/pgbouncer/pgbouncer.INI", Some("ini")),
        ("a.json", Some("json")),
        ("a.properties", Some("properties")),
        ("a.toml", Some("toml")),
        ("config.YAML", Some("yaml")),
        ("config.yml", Some("yaml")),
        ("nginx.conf", None),
        ("a.xml", None),
        ("a.txt", None),
    ] {
        let format = format_of(None, Path::new(path));
        assert_eq!(format.map(ConfigFormat::name), expected, "{path}");
        let named = format_of(Some("ini"), Path::new(path));
        assert_eq!(named.map(ConfigFormat::name), Some("ini"));
    }
    let names: Vec<_> = CONFIG_FORMATS.iter().map(|format| format.name()).collect();
    assert_eq!(names, app_formats::NAMES, "the settings know every format");
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let sign = prop::sample::select(b"k=\"'`\\ \t\r\n#$:@/?;[]{},.-|>&*!1~%".to_vec());
    let word = prop::sample::select(vec![
        "k: ", "k = ", "\nk=", "\"k\":", "\n  k: x", "- ", "\\u0041",
    ]);
    let piece = prop_oneof![
        6 => sign.prop_map(|byte| vec![byte]),
        3 => word.prop_map(|word| word.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn arbitrary_bytes_never_panic_and_an_edit_is_done_once(bytes in soup(), kind in 0..3_usize) {
        let all = [text_edit("k", "new"), url_edit("k", "fd00::9"), field_edit("k", "k", "new")];
        let edit = &all[kind..=kind];
        for format in CONFIG_FORMATS {
            if let Ok(first) = format.edit(&bytes, edit) {
                let second = format.edit(&first.text, edit);
                let second = second.map(|second| second.changed);
                prop_assert_eq!(second, Ok(Vec::new()), "{:?}", format);
            }
            if let Ok(noted) = format.with_epoch(&bytes, Epoch(7)) {
                let expected = (format.name() != "json").then_some(Epoch(7));
                prop_assert_eq!(format.epoch(&noted), Ok(expected), "{:?}", format);
            }
        }
    }
}
