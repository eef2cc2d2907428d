//! Edits values of a TOML file in place.
//!
//! The `toml` crate's parser says what the file means and where each value stands; only the bytes
//! of a value are replaced. Printing its document again would change line ends and the order of
//! dotted keys.
//!
//! Source: TOML 1.0, "String" and "Integer".

use std::ops::Range;

use ::toml::de::{DeTable, DeValue};

use super::change::Decoded;
use super::comment::{self, EpochMark, marks};
use super::lines::{BOM, line_at, part};
use super::tree::{self, Kind, Node, Style, Writing, is_integer};
use crate::effects::app_config::format::{ConfigFormat, EditError, Edited};
use crate::model::Epoch;
use crate::model::plan::ConfigEdit;

/// TOML as in its specification.
#[derive(Debug, Clone, Copy)]
pub struct Toml;

const WRITING: Writing = Writing {
    decode,
    fits,
    escape,
};

impl ConfigFormat for Toml {
    fn name(&self) -> &'static str {
        "toml"
    }

    fn edit(&self, text: &[u8], edits: &[ConfigEdit]) -> Result<Edited, EditError> {
        tree::edit(text, &scan(text)?.root, edits, &WRITING)
    }

    fn epoch(&self, text: &[u8]) -> Result<Option<Epoch>, EditError> {
        comment::epoch(text, &epoch_marks(text)?)
    }

    fn with_epoch(&self, text: &[u8], epoch: Epoch) -> Result<Vec<u8>, EditError> {
        Ok(comment::with_epoch(text, &epoch_marks(text)?, "#", epoch))
    }
}

#[derive(Debug)]
struct Scanned {
    root: Node,
    /// Where lines that look like comments are none.
    strings: Vec<Range<usize>>,
}

fn scan(text: &[u8]) -> Result<Scanned, EditError> {
    let unreadable = |offset: usize, why| EditError::Unreadable {
        line: line_at(text, offset),
        why,
    };
    // The parser's offsets begin behind the byte order mark.
    let skipped = if text.starts_with(BOM) { BOM.len() } else { 0 };
    let source = str::from_utf8(text).map_err(|error| {
        let at = error.valid_up_to();
        unreadable(at, "it is not UTF-8")
    })?;
    let source = source.get(skipped..).unwrap_or("");
    let table = DeTable::parse(source).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        unreadable(skipped + at, "it is not TOML")
    })?;
    let mut scanned = Scanned {
        root: Node {
            line: 1,
            kind: Kind::Opaque("it is not read yet"),
            doubt: None,
        },
        strings: Vec::new(),
    };
    let reader = Reader { text, skipped };
    scanned.root.kind = reader.table(table.get_ref(), &mut scanned.strings);
    Ok(scanned)
}

fn epoch_marks(text: &[u8]) -> Result<Vec<EpochMark>, EditError> {
    let strings = scan(text)?.strings;
    Ok(marks(text, b"#", |line| {
        let start = line.range.start;
        !strings
            .iter()
            .any(|string| string.start < start && start < string.end)
    }))
}

#[derive(Debug, Clone, Copy)]
struct Reader<'a> {
    text: &'a [u8],
    skipped: usize,
}

impl Reader<'_> {
    /// Deep tables cannot overrun the stack: the parser has a limit.
    fn table(self, table: &DeTable<'_>, strings: &mut Vec<Range<usize>>) -> Kind {
        let entries = table.iter().map(|(key, value)| {
            let name = key.get_ref().clone().into_owned();
            (name, self.node(value.get_ref(), value.span(), strings))
        });
        Kind::Table(entries.collect())
    }

    fn node(
        self,
        value: &DeValue<'_>,
        span: Range<usize>,
        strings: &mut Vec<Range<usize>>,
    ) -> Node {
        let span = span.start + self.skipped..span.end + self.skipped;
        let kind = match value {
            DeValue::String(_) => {
                strings.push(span.clone());
                self.string(&span)
            }
            DeValue::Integer(_) => {
                let raw = str::from_utf8(part(self.text, &span)).unwrap_or("");
                match is_integer(raw) {
                    true => Kind::Scalar(span.clone(), Style::Integer),
                    false => Kind::Opaque("it is a number, and no plainly written short one"),
                }
            }
            DeValue::Float(_) => Kind::Opaque("it is a number, and no whole one"),
            DeValue::Boolean(_) => Kind::Opaque("it is true or false"),
            DeValue::Datetime(_) => Kind::Opaque("it is a date or a time"),
            DeValue::Array(items) => {
                let items = items.iter();
                let items = items.map(|item| self.node(item.get_ref(), item.span(), strings));
                Kind::List(items.collect())
            }
            DeValue::Table(table) => self.table(table, strings),
        };
        Node {
            line: line_at(self.text, span.start),
            kind,
            doubt: None,
        }
    }

    fn string(self, span: &Range<usize>) -> Kind {
        let inner = span.start + 1..span.end.saturating_sub(1);
        match part(self.text, span) {
            [b'"', b'"', b'"', ..] | [b'\'', b'\'', b'\'', ..] => {
                Kind::Opaque("it is written in three quotes")
            }
            [b'"', .., b'"'] => Kind::Scalar(inner, Style::Double),
            [b'\'', .., b'\''] => Kind::Scalar(inner, Style::Single),
            _ => Kind::Opaque("its quotes cannot be seen"),
        }
    }
}

/// The text between the quotes as programs read it.
fn decode(raw: &str, style: Style) -> Result<Decoded, &'static str> {
    if style != Style::Double || !raw.contains('\\') {
        return Ok(Decoded::plain(raw));
    }
    let bad = "it has an escape that is none";
    let mut decoded = Decoded::new();
    let mut at = 0;
    while let Some(c) = raw.get(at..).and_then(|rest| rest.chars().next()) {
        let by_number = |digits: usize| {
            let digits = raw.get(at + 2..at + 2 + digits)?;
            let read = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
            Some((read, 2 + digits.len()))
        };
        let (read, length) = match (c, raw.as_bytes().get(at + 1)) {
            ('\\', Some(b'u')) => by_number(4).ok_or(bad)?,
            ('\\', Some(b'U')) => by_number(8).ok_or(bad)?,
            ('\\', Some(b'b')) => ('\x08', 2),
            ('\\', Some(b't')) => ('\t', 2),
            ('\\', Some(b'n')) => ('\n', 2),
            ('\\', Some(b'f')) => ('\x0C', 2),
            ('\\', Some(b'r')) => ('\r', 2),
            ('\\', Some(quoted @ (b'"' | b'\\'))) => (char::from(*quoted), 2),
            // TOML 1.1 has more, which readers of 1.0 refuse.
            ('\\', _) => return Err(bad),
            (c, _) => (c, c.len_utf8()),
        };
        at += length;
        decoded.push(read, at);
    }
    Ok(decoded)
}

fn fits(new: &str, style: Style) -> bool {
    match style {
        Style::Double | Style::Integer | Style::Plain => true,
        Style::Single => !new.chars().any(|c| c.is_control() || c == '\''),
    }
}

fn escape(part: &str, style: Style) -> String {
    if style != Style::Double {
        return part.to_owned();
    }
    let mut escaped = String::with_capacity(part.len());
    for c in part.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}
