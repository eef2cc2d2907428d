//! One line of a YAML file: its indentation, its key, and how its value is written.
//!
//! Source: YAML 1.2.2, chapters 6 (structure), 7 (flow styles) and 8 (block styles).

use std::ops::Range;

use super::lines::part;

/// What stands behind a key or a dash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing: a block may follow on the next lines.
    Nothing,
    /// `|` or `>`: the deeper lines below are its text.
    Block,
    /// In quotes, closed on the line; the range is between them.
    Quoted { mark: u8, inner: Range<usize> },
    /// Without quotes.
    Plain(Range<usize>),
    /// On this line, but not to be edited.
    Opaque(&'static str),
}

/// A value as written, and why what is in it must not be edited, if so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) written: Written,
    pub(super) doubt: Option<&'static str>,
}

/// The key of a line, and where its value may begin; `None` when the line has no key.
pub(super) fn key(
    text: &[u8],
    content: &Range<usize>,
) -> Result<Option<(String, usize)>, &'static str> {
    let bytes = part(text, content);
    match bytes.first() {
        Some(mark @ (b'"' | b'\'')) => {
            let close = closing(bytes, *mark).ok_or("a quote is not closed on its line")?;
            let after = bytes.get(close + 1..).unwrap_or(&[]);
            let blanks = after.iter().take_while(|byte| **byte == b' ').count();
            let colon = close + 1 + blanks;
            if bytes.get(colon) != Some(&b':') {
                return Ok(None);
            }
            if !matches!(bytes.get(colon + 1), None | Some(b' ' | b'\t')) {
                return Err("a colon right before text");
            }
            let inner = bytes.get(1..close).unwrap_or(&[]);
            if inner.contains(&b'\\') || inner.contains(&b'\'') {
                return Err("a key with escapes");
            }
            let name = str::from_utf8(inner).map_err(|_| "a key that is not UTF-8")?;
            Ok(Some((name.to_owned(), content.start + colon + 1)))
        }
        Some(b'{' | b'[' | b'}' | b']' | b',' | b'|' | b'>' | b'%' | b'@' | b'`') => Ok(None),
        Some(b'&' | b'!' | b'*') => match separator(bytes) {
            Some(_) => Err("a key with an anchor, an alias or a tag"),
            None => Ok(None),
        },
        Some(b'?') if matches!(bytes.get(1), None | Some(b' ' | b'\t')) => {
            Err("a key of its own line")
        }
        Some(_) => {
            let Some(colon) = separator(bytes) else {
                return Ok(None);
            };
            let name = bytes.get(..colon).unwrap_or(&[]).trim_ascii_end();
            let name = str::from_utf8(name).map_err(|_| "a key that is not UTF-8")?;
            match name.is_empty() {
                true => Err("a key that is empty"),
                false => Ok(Some((name.to_owned(), content.start + colon + 1))),
            }
        }
        None => Ok(None),
    }
}

/// The first colon that separates: before a blank or at the end, and before any comment.
fn separator(bytes: &[u8]) -> Option<usize> {
    let end = comment(bytes).unwrap_or(bytes.len());
    let before_comment = bytes.get(..end).unwrap_or(bytes);
    (0..end).find(|at| {
        before_comment.get(*at) == Some(&b':')
            && matches!(before_comment.get(at + 1), None | Some(b' ' | b'\t'))
    })
}

/// Where a comment begins in a line that is not quoted.
fn comment(bytes: &[u8]) -> Option<usize> {
    let behind_blank = |pair: &[u8]| matches!(pair, [b' ' | b'\t', b'#']);
    match bytes.first() {
        Some(b'#') => Some(0),
        _ => Some(bytes.windows(2).position(behind_blank)? + 1),
    }
}

/// Where the quote that opens `bytes` is closed.
fn closing(bytes: &[u8], mark: u8) -> Option<usize> {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        if mark == b'"' && *byte == b'\\' {
            at += 2;
        } else if *byte != mark {
            at += 1;
        } else if mark == b'\'' && bytes.get(at + 1) == Some(&mark) {
            at += 2;
        } else {
            return Some(at);
        }
    }
    None
}

/// The value in this range, which ends with its line.
pub(super) fn value(text: &[u8], range: &Range<usize>) -> Result<Value, &'static str> {
    let mut rest = skip_blanks(text, range);
    let mut doubt = None;
    while let Some(b'&' | b'!') = part(text, &rest).first() {
        doubt = Some("it has an anchor or a tag");
        let word = part(text, &rest);
        let length = word.iter().take_while(|byte| !is_blank(**byte)).count();
        rest = skip_blanks(text, &(rest.start + length..rest.end));
    }
    if part(text, &(range.start..rest.start)).contains(&b'\t') {
        doubt = Some("a tab stands before it");
    }
    let written = written(text, &rest)?;
    Ok(Value { written, doubt })
}

fn written(text: &[u8], rest: &Range<usize>) -> Result<Written, &'static str> {
    let bytes = part(text, rest);
    Ok(match bytes.first() {
        None | Some(b'#') => Written::Nothing,
        Some(b'|' | b'>') => {
            let header = bytes.get(..comment(bytes).unwrap_or(bytes.len()));
            let header = header.unwrap_or(bytes).trim_ascii_end();
            let indicators = header.get(1..).unwrap_or(&[]);
            match indicators.len() <= 2 && indicators.iter().all(|c| b"+-123456789".contains(c)) {
                true => Written::Block,
                false => return Err("text behind a block's sign"),
            }
        }
        Some(mark @ (b'"' | b'\'')) => {
            let close = closing(bytes, *mark).ok_or("a quote is not closed on its line")?;
            ends_line(bytes, close)?;
            Written::Quoted {
                mark: *mark,
                inner: rest.start + 1..rest.start + close,
            }
        }
        Some(b'{' | b'[') => {
            let close = flow_end(bytes).ok_or("a flow value does not end on its line")?;
            ends_line(bytes, close)?;
            Written::Opaque("it is written in flow style")
        }
        Some(b'*') => Written::Opaque("it is an alias"),
        Some(b',' | b'}' | b']' | b'%' | b'@' | b'`') => {
            return Err("a value that begins with a reserved sign");
        }
        Some(b'-' | b'?' | b':') if matches!(bytes.get(1), None | Some(b' ' | b'\t')) => {
            return Err("a value that begins with a sign of structure");
        }
        Some(_) => {
            let end = comment(bytes).unwrap_or(bytes.len());
            let plain = bytes.get(..end).unwrap_or(bytes);
            if separator(plain).is_some() {
                return Err("a second key on the line");
            }
            let length = plain.trim_ascii_end().len();
            Written::Plain(rest.start..rest.start + length)
        }
    })
}

/// Only blanks and a comment may follow the byte at `close`.
fn ends_line(bytes: &[u8], close: usize) -> Result<(), &'static str> {
    let after = bytes.get(close + 1..).unwrap_or(&[]);
    let blanks = after.iter().take_while(|byte| is_blank(**byte)).count();
    match after.get(blanks) {
        None => Ok(()),
        Some(b'#') if blanks > 0 => Ok(()),
        Some(_) => Err("text behind the end of a value"),
    }
}

/// Where the flow collection that opens `bytes` ends.
fn flow_end(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' | b'\'' => at += closing(bytes.get(at..)?, *byte)?,
            b'#' => return None,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
        at += 1;
    }
    None
}

fn skip_blanks(text: &[u8], range: &Range<usize>) -> Range<usize> {
    let bytes = part(text, range);
    let blanks = bytes.iter().take_while(|byte| is_blank(**byte)).count();
    range.start + blanks..range.end
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}
