//! What a YAML value without quotes is read as, and how values are written.
//!
//! YAML 1.1 and 1.2 disagree: `on`, `010`, `1:30` and `1e3` are different things to different
//! programs. Text without quotes is only what both read as text.
//!
//! Source: YAML 1.2.2, 10.3.2 (core schema); YAML 1.1 types `bool`, `int`, `float`, `timestamp`.

use std::net::Ipv4Addr;

use super::change::Decoded;
use super::tree::{Style, is_integer};

/// Words that some version reads as true, false, null or a number.
const RESERVED: [&str; 12] = [
    "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "infinity",
];

/// How a value without quotes is read.
pub(super) fn plain_style(text: &str) -> Result<Style, &'static str> {
    if is_integer(text) {
        return Ok(Style::Integer);
    }
    match is_text(text) {
        true => Ok(Style::Plain),
        false => Err("it is no whole number, and not text for every program; quote it"),
    }
}

/// True when YAML 1.1 and 1.2 both read this as text when it stands without quotes.
fn is_text(text: &str) -> bool {
    let Some(first) = text.chars().next() else {
        return false;
    };
    let lower = text.to_ascii_lowercase();
    let begins_as_text = if first.is_ascii_digit() {
        text.parse::<Ipv4Addr>().is_ok() || is_name_with_digit_first(&lower)
    } else {
        first.is_ascii_alphabetic() && !RESERVED.contains(&lower.as_str())
    };
    begins_as_text
        && !text.chars().any(is_special)
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([' ', ':'])
}

/// No base, exponent, date or time has such a letter.
fn is_name_with_digit_first(lower: &str) -> bool {
    let telling = |c: char| matches!(c, 'g'..='n' | 'p'..='s' | 'u'..='w' | 'y');
    lower.chars().any(telling) && !lower.contains(':')
}

/// Characters that are line breaks for some version, or that may not stand in a file at all.
fn is_special(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// The value as programs read it.
pub(super) fn decode(raw: &str, style: Style) -> Result<Decoded, &'static str> {
    match style {
        Style::Integer | Style::Plain => Ok(Decoded::plain(raw)),
        Style::Double if raw.contains('\\') => Err("it contains a backslash"),
        Style::Single if raw.contains('\'') => Err("it contains a doubled quote"),
        Style::Double | Style::Single => match raw.chars().any(is_special) {
            true => Err("it contains a control character"),
            false => Ok(Decoded::plain(raw)),
        },
    }
}

/// True when the value can be written in this style.
pub(super) fn fits(new: &str, style: Style) -> bool {
    match style {
        Style::Integer => is_integer(new),
        Style::Plain => is_text(new),
        Style::Double => !new.chars().any(|c| is_special(c) || "\"\\".contains(c)),
        Style::Single => !new.chars().any(|c| is_special(c) || c == '\''),
    }
}

/// Nothing has to be escaped in a value that fits.
pub(super) fn escape(part: &str, _style: Style) -> String {
    part.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_quotes_is_text_in_every_version() {
        for text in [
            "db1",
            "10.0.0.1",
            "1db.example",
            "fd00-x",
            "a:b",
            "postgres://u:p@h:1/d?x#y",
        ] {
            assert_eq!(plain_style(text), Ok(Style::Plain), "{text}");
        }
        for text in [
            "",
            "on",
            "No",
            "NULL",
            "~",
            "1.5",
            "1e3",
            "0x1f",
            "0o17",
            "010",
            "1:30",
            ".inf",
            "1_000",
            "2001-12-14t21:59:43Z",
            "2001-12-14",
            "::1",
            "-",
            "a: b",
            "a #b",
            "a:",
            "+1",
            "=",
            "<<",
        ] {
            assert!(plain_style(text).is_err(), "{text}");
        }
        assert_eq!(plain_style("5432"), Ok(Style::Integer));
    }
}
