//! Edits values of a Java properties file in place.
//!
//! Source: Java SE API, class `Properties`, method `load(Reader)`.

use std::ops::Range;

use super::change::{Change, Decoded, edit_all, only_one};
use super::comment::{self, EpochMark, mark_on};
use super::lines::{Line, lines, part};
use crate::effects::app_config::format::{ConfigFormat, EditError, Edited};
use crate::model::Epoch;
use crate::model::plan::ConfigEdit;

/// `key=value`, `key: value` or `key value` lines with backslash escapes.
#[derive(Debug, Clone, Copy)]
pub struct Properties;

impl ConfigFormat for Properties {
    fn name(&self) -> &'static str {
        "properties"
    }

    fn edit(&self, text: &[u8], edits: &[ConfigEdit]) -> Result<Edited, EditError> {
        let scanned = scan(text)?;
        edit_all(text, edits, |key, change| {
            let entry = find(&scanned.entries, key)?;
            new_value(text, entry, key, change)
        })
    }

    fn epoch(&self, text: &[u8]) -> Result<Option<Epoch>, EditError> {
        comment::epoch(text, &scan(text)?.marks)
    }

    fn with_epoch(&self, text: &[u8], epoch: Epoch) -> Result<Vec<u8>, EditError> {
        Ok(comment::with_epoch(text, &scan(text)?.marks, "#", epoch))
    }
}

#[derive(Debug)]
struct Scanned {
    entries: Vec<Entry>,
    marks: Vec<EpochMark>,
}

#[derive(Debug)]
struct Entry {
    /// As Java reads it.
    name: String,
    line: usize,
    /// To the end of the line: blanks there are part of the value.
    value: Range<usize>,
    doubt: Option<&'static str>,
}

fn scan(text: &[u8]) -> Result<Scanned, EditError> {
    let mut scanned = Scanned {
        entries: Vec::new(),
        marks: Vec::new(),
    };
    let mut continued = false;
    for line in lines(text) {
        let bytes = part(text, &line.range);
        if bytes.contains(&b'\r') {
            return Err(EditError::Unreadable {
                line: line.number,
                why: "a carriage return in the line, which ends it for Java only",
            });
        }
        let blank = |byte: &&u8| is_blank(**byte);
        let lead = bytes.iter().take_while(blank).count();
        let start = line.range.start + lead;
        let first = text.get(start).copied().filter(|_| start < line.range.end);
        if continued {
            // Part of the value above, whatever it looks like.
            continued = ends_in_continuation(bytes);
            continue;
        }
        match first {
            None => {}
            Some(b'#' | b'!') => scanned.marks.extend(mark_on(text, &line, b"#!")),
            Some(_) => {
                continued = ends_in_continuation(bytes);
                let mut entry = entry(text, &line, start)?;
                if continued {
                    entry.doubt = Some("it spans several lines");
                }
                scanned.entries.push(entry);
            }
        }
    }
    Ok(scanned)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\x0C')
}

/// An odd number of backslashes at its end.
fn ends_in_continuation(line: &[u8]) -> bool {
    line.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

fn entry(text: &[u8], line: &Line, start: usize) -> Result<Entry, EditError> {
    let end = line.range.end;
    let mut at = start;
    while let Some(byte) = text.get(at).filter(|_| at < end) {
        match byte {
            b'\\' => at += 2,
            b'=' | b':' => break,
            byte if is_blank(*byte) => break,
            _ => at += 1,
        }
    }
    let at = at.min(end);
    let unreadable = |why| EditError::Unreadable {
        line: line.number,
        why,
    };
    let raw = str::from_utf8(part(text, &(start..at)));
    let raw = raw.map_err(|_| unreadable("a key that is not UTF-8"))?;
    let name = decode(raw).ok_or_else(|| unreadable("an escape in a key that is none"))?;
    let mut value = skip_blanks(text, at, end);
    if matches!(text.get(value), Some(b'=' | b':')) && value < end {
        value = skip_blanks(text, value + 1, end);
    }
    let odd = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    let has_control = part(text, &(value..end)).iter().any(odd);
    Ok(Entry {
        name: name.text,
        line: line.number,
        value: value..end,
        doubt: has_control.then_some("it contains a control character"),
    })
}

fn skip_blanks(text: &[u8], from: usize, end: usize) -> usize {
    let bytes = part(text, &(from..end));
    from + bytes.iter().take_while(|byte| is_blank(**byte)).count()
}

/// The text as Java reads it; `None` where it says "malformed".
fn decode(raw: &str) -> Option<Decoded> {
    let mut decoded = Decoded::new();
    let mut chars = raw.char_indices();
    while let Some((at, c)) = chars.next() {
        if c != '\\' {
            decoded.push(c, at + c.len_utf8());
            continue;
        }
        let Some((at, escaped)) = chars.next() else {
            break;
        };
        let (read, end) = match escaped {
            't' => ('\t', at + 1),
            'n' => ('\n', at + 1),
            'r' => ('\r', at + 1),
            'f' => ('\x0C', at + 1),
            'u' => {
                let digits = raw.get(at + 1..at + 5)?;
                if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return None;
                }
                // Halves of surrogate pairs are left out: no key and no host has them.
                let read = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                chars.nth(3);
                (read, at + 5)
            }
            other => (other, at + other.len_utf8()),
        };
        decoded.push(read, end);
    }
    Some(decoded)
}

fn find<'a>(entries: &'a [Entry], key: &str) -> Result<&'a Entry, EditError> {
    let found = entries.iter().filter(|entry| entry.name == key);
    only_one(key, found.map(|entry| (entry.line, entry))).map(|(_, only)| only)
}

fn new_value(
    text: &[u8],
    entry: &Entry,
    key: &str,
    change: &Change<'_>,
) -> Result<(Range<usize>, Vec<u8>), EditError> {
    let line = entry.line;
    let doubtful = |why| EditError::ValueDoubtful {
        key: key.to_owned(),
        line,
        why,
    };
    if let Some(why) = entry.doubt {
        return Err(doubtful(why));
    }
    let raw = part(text, &entry.value);
    let raw = str::from_utf8(raw).map_err(|_| doubtful("it is not UTF-8"))?;
    let old = decode(raw).ok_or_else(|| doubtful("it has an escape that is none"))?;
    if change.keeps_the_rest() && old.text.ends_with([' ', '\t']) {
        return Err(doubtful("blanks at its end count for Java only"));
    }
    let new = change.of(&old.text, key, line)?;
    let (range, written) = match change.keeps_the_rest() {
        _ if new == old.text => (0..raw.len(), raw),
        true => old.difference(&new),
        false => (0..raw.len(), new.as_str()),
    };
    if new != old.text && !is_plain(written, range.start == 0) {
        return Err(EditError::ValueUnwritable {
            key: key.to_owned(),
            line,
            style: "without escapes",
        });
    }
    let start = entry.value.start;
    let range = start + range.start..start + range.end;
    let mut written = written.as_bytes().to_vec();
    let separated = text
        .get(..start)
        .is_some_and(|before| matches!(before.last(), Some(b'=' | b':' | b' ' | b'\t' | b'\x0C')));
    if !separated && !written.is_empty() {
        // "key" alone: it has an empty value and no separator yet.
        written.insert(0, b'=');
    }
    Ok((range, written))
}

/// True when every reader takes these characters for themselves, in Latin-1 and in UTF-8.
fn is_plain(written: &str, at_start: bool) -> bool {
    let plain = |c: char| c.is_ascii() && !c.is_ascii_control() && c != '\\';
    written.chars().all(plain)
        && !(at_start && written.starts_with(['=', ':', ' ']))
        && !written.ends_with(' ')
}
