//! Finds the assignments of a dotenv file, byte by byte, without changing or copying anything.
//!
//! There is no standard for these files. This reads what bash, docker compose v2, systemd and the
//! common libraries agree about, and refuses a file where they disagree about where a value ends:
//! a wrong guess would edit the wrong line. Start reading at [`scan`].
//!
//! Source: compose-spec `.env` syntax; systemd.exec(5) `EnvironmentFile=`; the README of the
//! `dotenv` package for Node.js.

use std::ops::Range;

use super::format::EditError;
use super::formats::comment::EPOCH_MARK;

/// One assignment or epoch comment, at byte offsets of the scanned text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Counts from 1, for people.
    pub(super) number: usize,
    /// What it is.
    pub(super) kind: LineKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LineKind {
    Assignment(Assignment),
    /// `# managed-by-agent epoch=…`: where the number stands, or stood.
    Epoch {
        number: Range<usize>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) key: Range<usize>,
    /// Without its quotes.
    pub(super) value: Range<usize>,
    pub(super) quote: Quote,
    /// Why this value must not be edited, if so. Other keys still may.
    pub(super) doubt: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quote {
    None,
    Single,
    Double,
}

/// Every assignment and epoch comment, in order.
pub(super) fn scan(text: &[u8]) -> Result<Vec<Line>, EditError> {
    let mut lines = Vec::new();
    let mut cursor = Cursor { text, at: 0 };
    cursor.eat(b"\xEF\xBB\xBF");
    let mut number = 1;
    let mut continued = false;
    while cursor.at < text.len() {
        let start = cursor.at;
        let kind = read_line(&mut cursor, number)?;
        let unfinished = cursor.line_is_continued(start);
        cursor.skip_line();
        if let Some(mut kind) = kind {
            if let (true, LineKind::Assignment(assignment)) = (continued, &mut kind) {
                assignment.doubt = Some(
                    "the line before ends with a backslash, which continues it in some dialects",
                );
            }
            lines.push(Line { number, kind });
        }
        continued = unfinished;
        number += part(text, &(start..cursor.at))
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
    }
    Ok(lines)
}

/// The bytes of a range; empty when it does not lie within the text.
pub(super) fn part<'a>(text: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    text.get(range.clone()).unwrap_or(&[])
}

fn read_line(cursor: &mut Cursor<'_>, number: usize) -> Result<Option<LineKind>, EditError> {
    cursor.skip_blanks();
    if cursor.eat(b"#") {
        cursor.skip_blanks();
        if !cursor.eat(EPOCH_MARK) {
            return Ok(None);
        }
        let start = cursor.at;
        let end = cursor.line_end();
        return Ok(Some(LineKind::Epoch { number: start..end }));
    }
    let start = cursor.at;
    if cursor.eat(b"export") {
        let after = cursor.at;
        cursor.skip_blanks();
        if cursor.at == after {
            cursor.at = start;
        }
    }
    let key_start = cursor.at;
    cursor.skip_while(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    let key = key_start..cursor.at;
    cursor.skip_blanks();
    let doubt = if cursor.eat(b"=") {
        None
    } else if cursor.eat(b": ") || cursor.eat(b":\t") {
        // Some Node.js libraries read "KEY: value" as an assignment too.
        Some("it is written as \"key: value\", which few programs read")
    } else {
        return Ok(None);
    };
    if key.is_empty() {
        return Ok(None);
    }
    let mut assignment = read_value(cursor, key, number)?;
    assignment.doubt = assignment.doubt.or(doubt);
    Ok(Some(LineKind::Assignment(assignment)))
}

/// Reads from just behind the separator to the end of the value.
fn read_value(
    cursor: &mut Cursor<'_>,
    key: Range<usize>,
    number: usize,
) -> Result<Assignment, EditError> {
    let separator_end = cursor.at;
    cursor.skip_blanks();
    let value_start = cursor.at;
    match cursor.peek() {
        Some(b'\'') => read_quoted(cursor, key, Quote::Single, number),
        Some(b'"') => read_quoted(cursor, key, Quote::Double, number),
        Some(b'`') => {
            let mut assignment = read_plain(cursor, key, value_start);
            assignment.doubt = Some("backticks quote in few dialects only");
            skip_backticks(cursor, value_start);
            Ok(assignment)
        }
        // "KEY= # comment": empty, and a value must be written before the blank.
        Some(b'#' | b'\r' | b'\n') | None => Ok(read_plain(cursor, key, separator_end)),
        Some(_) => Ok(read_plain(cursor, key, value_start)),
    }
}

fn read_plain(cursor: &mut Cursor<'_>, key: Range<usize>, start: usize) -> Assignment {
    let line = part(cursor.text, &(start..cursor.line_end()));
    let comment = line
        .windows(2)
        .position(|pair| matches!(pair, [b' ' | b'\t', b'#']));
    let value = line.get(..comment.unwrap_or(line.len())).unwrap_or(line);
    let length = value.trim_ascii_end().len();
    let doubt = if line.ends_with(b"\\") {
        Some("it ends with a backslash, which continues the line in some dialects")
    } else if value.iter().any(|byte| b"'\"`\\".contains(byte)) {
        Some("it mixes plain and quoted text")
    } else {
        control_doubt(value)
    };
    Assignment {
        key,
        value: start..start + length,
        quote: Quote::None,
        doubt,
    }
}

fn control_doubt(bytes: &[u8]) -> Option<&'static str> {
    bytes
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t')
        .then_some("it contains a control character")
}

fn read_quoted(
    cursor: &mut Cursor<'_>,
    key: Range<usize>,
    quote: Quote,
    number: usize,
) -> Result<Assignment, EditError> {
    let mark = if quote == Quote::Double { b'"' } else { b'\'' };
    let start = cursor.at + 1;
    cursor.at = start;
    loop {
        match cursor.next() {
            None => return Err(EditError::UnclosedQuote { line: number }),
            Some(b'\\') if quote == Quote::Double => {
                cursor.next();
            }
            Some(byte) if byte == mark => break,
            Some(_) => {}
        }
    }
    let value = start..cursor.at - 1;
    let bytes = part(cursor.text, &value);
    let spans_lines = bytes.contains(&b'\n');
    cursor.skip_blanks();
    let ends_clean = matches!(cursor.peek(), None | Some(b'\r' | b'\n' | b'#'));
    if spans_lines && !ends_clean {
        // Most likely the quote was never closed and this is the opening one of a later line.
        return Err(EditError::UnclosedQuote { line: number });
    }
    let doubt = if !ends_clean {
        Some("it mixes plain and quoted text")
    } else if spans_lines {
        Some("it spans several lines")
    } else if bytes.contains(&b'\\') {
        Some("it contains a backslash, which dialects read differently")
    } else {
        control_doubt(bytes)
    };
    Ok(Assignment {
        key,
        value,
        quote,
        doubt,
    })
}

/// Behind the closing backtick, if there is one; else the text is a plain value.
fn skip_backticks(cursor: &mut Cursor<'_>, start: usize) {
    let after = cursor.text.get(start + 1..).unwrap_or(&[]);
    if let Some(length) = after.iter().position(|byte| *byte == b'`') {
        cursor.at = start + 1 + length + 1;
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, word: &[u8]) -> bool {
        let found = self
            .text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word));
        if found {
            self.at += word.len();
        }
        found
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn skip_blanks(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// Where the line's text ends: before `\n`, `\r\n` or the end of the file.
    fn line_end(&self) -> usize {
        let rest = self.text.get(self.at..).unwrap_or(&[]);
        let length = rest.iter().position(|byte| *byte == b'\n');
        let line = rest.get(..length.unwrap_or(rest.len())).unwrap_or(rest);
        let without_return = match length {
            Some(_) => line.strip_suffix(b"\r").unwrap_or(line),
            None => line,
        };
        self.at + without_return.len()
    }

    fn skip_line(&mut self) {
        self.skip_while(|byte| byte != b'\n');
        self.next();
    }

    /// True when the line that began at `start` is no comment and ends with a backslash.
    fn line_is_continued(&self, start: usize) -> bool {
        let line = part(self.text, &(start..self.line_end()));
        line.ends_with(b"\\") && !line.trim_ascii_start().starts_with(b"#")
    }
}
