//! Edits values of a JSON file in place, by a scanner that keeps every other byte.
//!
//! A library would print the whole file anew. The scanner is as strict as RFC 8259: a file with
//! comments or trailing commas is not JSON, and which programs read it how is not known. There is
//! no place for the epoch; it is remembered in `state_dir` alone.

use std::ops::Range;

use super::change::Decoded;
use super::lines::{BOM, line_at, part};
use super::tree::{self, Kind, Node, Style, Writing, is_integer};
use crate::effects::app_config::format::{ConfigFormat, EditError, Edited};
use crate::model::Epoch;
use crate::model::plan::ConfigEdit;

/// JSON as in RFC 8259.
#[derive(Debug, Clone, Copy)]
pub struct Json;

/// How deep values may lie in each other: enough for any file, too little to overrun a stack.
const DEPTH_MAX: usize = 100;

const WRITING: Writing = Writing {
    decode,
    fits,
    escape,
};

impl ConfigFormat for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn edit(&self, text: &[u8], edits: &[ConfigEdit]) -> Result<Edited, EditError> {
        tree::edit(text, &scan(text)?, edits, &WRITING)
    }

    fn epoch(&self, _text: &[u8]) -> Result<Option<Epoch>, EditError> {
        Ok(None)
    }

    fn with_epoch(&self, text: &[u8], _epoch: Epoch) -> Result<Vec<u8>, EditError> {
        Ok(text.to_vec())
    }
}

fn scan(text: &[u8]) -> Result<Node, EditError> {
    let mut scanner = Scanner {
        text,
        at: if text.starts_with(BOM) { BOM.len() } else { 0 },
    };
    if let Err(error) = str::from_utf8(text) {
        scanner.at = error.valid_up_to();
        return Err(scanner.unreadable("it is not UTF-8"));
    }
    let node = scanner.value(0)?;
    scanner.skip_blanks();
    match scanner.peek() {
        None => Ok(node),
        Some(_) => Err(scanner.unreadable("text follows the end of the value")),
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn unreadable(&self, why: &'static str) -> EditError {
        EditError::Unreadable {
            line: line_at(self.text, self.at),
            why,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, EditError> {
        if depth > DEPTH_MAX {
            return Err(self.unreadable("values lie too deep in each other"));
        }
        self.skip_blanks();
        let line = line_at(self.text, self.at);
        let kind = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Kind::Scalar(self.string()?, Style::Double),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => self.word()?,
            None => return Err(self.unreadable("it ends where a value should be")),
        };
        Ok(Node {
            line,
            kind,
            doubt: None,
        })
    }

    fn object(&mut self, depth: usize) -> Result<Kind, EditError> {
        let mut entries = Vec::new();
        self.eat(b'{');
        self.skip_blanks();
        if self.eat(b'}') {
            return Ok(Kind::Table(entries));
        }
        loop {
            self.skip_blanks();
            if self.peek() != Some(b'"') {
                return Err(self.unreadable("a key in double quotes is missing"));
            }
            let range = self.string()?;
            let raw = str::from_utf8(part(self.text, &range)).unwrap_or("");
            let name = decode(raw, Style::Double).map_err(|why| self.unreadable(why))?;
            self.skip_blanks();
            if !self.eat(b':') {
                return Err(self.unreadable("a colon is missing after a key"));
            }
            entries.push((name.text, self.value(depth + 1)?));
            self.skip_blanks();
            if self.eat(b'}') {
                return Ok(Kind::Table(entries));
            }
            if !self.eat(b',') {
                return Err(self.unreadable("a comma or the end of an object is missing"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Kind, EditError> {
        let mut items = Vec::new();
        self.eat(b'[');
        self.skip_blanks();
        if self.eat(b']') {
            return Ok(Kind::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_blanks();
            if self.eat(b']') {
                return Ok(Kind::List(items));
            }
            if !self.eat(b',') {
                return Err(self.unreadable("a comma or the end of an array is missing"));
            }
        }
    }

    /// The range between the quotes.
    fn string(&mut self) -> Result<Range<usize>, EditError> {
        self.eat(b'"');
        let start = self.at;
        loop {
            match self.peek() {
                None => return Err(self.unreadable("a string has no end")),
                Some(b'"') => break,
                Some(b'\\') => self.escaped()?,
                Some(0..=0x1F) => {
                    return Err(self.unreadable("a control character in a string"));
                }
                Some(_) => self.at += 1,
            }
        }
        let range = start..self.at;
        self.at += 1;
        Ok(range)
    }

    fn escaped(&mut self) -> Result<(), EditError> {
        let rest = self.text.get(self.at + 1..).unwrap_or(&[]);
        let length = match rest {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|x| x.is_ascii_hexdigit()) => 6,
            _ => return Err(self.unreadable("a backslash in a string that escapes nothing")),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Result<Kind, EditError> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        let range = start..self.at;
        let text = str::from_utf8(part(self.text, &range)).unwrap_or("");
        Ok(match is_integer(text) {
            true => Kind::Scalar(range, Style::Integer),
            false => Kind::Opaque("it is a number, and no short whole one"),
        })
    }

    fn digits(&mut self) -> Result<(), EditError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false => Err(self.unreadable("a digit is missing in a number")),
        }
    }

    fn word(&mut self) -> Result<Kind, EditError> {
        let rest = self.text.get(self.at..).unwrap_or(&[]);
        let word = ["true", "false", "null"]
            .iter()
            .find(|word| rest.starts_with(word.as_bytes()));
        let word = word.ok_or_else(|| self.unreadable("what stands here is no value"))?;
        self.at += word.len();
        Ok(Kind::Opaque("it is true, false or null"))
    }
}

/// The text between the quotes as programs read it.
fn decode(raw: &str, style: Style) -> Result<Decoded, &'static str> {
    if style != Style::Double || !raw.contains('\\') {
        return Ok(Decoded::plain(raw));
    }
    let bad = "a half of a surrogate pair, which programs read differently";
    let mut decoded = Decoded::new();
    let mut at = 0;
    while let Some(c) = raw.get(at..).and_then(|rest| rest.chars().next()) {
        let (read, length) = match (c, raw.as_bytes().get(at + 1)) {
            ('\\', Some(b'u')) => {
                let unit = |at: usize| {
                    let digits = raw.get(at..)?.strip_prefix("\\u")?.get(..4)?;
                    u16::from_str_radix(digits, 16).ok()
                };
                let units = [unit(at), unit(at + 6)].into_iter().map_while(|unit| unit);
                let read = char::decode_utf16(units).next();
                let read = read.and_then(Result::ok).ok_or(bad)?;
                (read, 6 * read.len_utf16())
            }
            ('\\', Some(b'b')) => ('\x08', 2),
            ('\\', Some(b'f')) => ('\x0C', 2),
            ('\\', Some(b'n')) => ('\n', 2),
            ('\\', Some(b'r')) => ('\r', 2),
            ('\\', Some(b't')) => ('\t', 2),
            ('\\', Some(other)) => (char::from(*other), 2),
            (c, _) => (c, c.len_utf8()),
        };
        at += length;
        decoded.push(read, at);
    }
    Ok(decoded)
}

fn fits(_new: &str, _style: Style) -> bool {
    true
}

fn escape(part: &str, _style: Style) -> String {
    let mut escaped = String::with_capacity(part.len());
    for c in part.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c.is_ascii_control() => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}
