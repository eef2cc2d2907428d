//! Edits values of an ini file in place: `key = value` below `[section]`.
//!
//! There is no standard. This reads what PHP, PgBouncer, MySQL and Python's configparser agree
//! about. A key is named `section.key`, or plainly `key` above the first section.
//!
//! Source: PHP manual, `parse_ini_file`; PgBouncer manual, "Generic settings"; Python manual,
//! `configparser`, "Supported INI File Structure"; MySQL manual 6.2.2.2, "Using Option Files".

use std::ops::Range;

use super::change::{Change, edit_all, only_one};
use super::comment::{self, EpochMark, mark_on};
use super::lines::{Line, lines, part, trimmed};
use crate::effects::app_config::format::{ConfigFormat, EditError, Edited};
use crate::model::Epoch;
use crate::model::plan::ConfigEdit;

/// `key = value` lines below `[section]` lines.
#[derive(Debug, Clone, Copy)]
pub struct Ini;

impl ConfigFormat for Ini {
    fn name(&self) -> &'static str {
        "ini"
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
        // ";" is a comment everywhere; PHP no longer takes "#" for one.
        Ok(comment::with_epoch(text, &scan(text)?.marks, ";", epoch))
    }
}

#[derive(Debug)]
struct Scanned {
    entries: Vec<Entry>,
    marks: Vec<EpochMark>,
}

#[derive(Debug)]
struct Entry {
    /// `section.key`.
    name: String,
    line: usize,
    /// Without its quotes.
    value: Range<usize>,
    quote: Option<u8>,
    doubt: Option<&'static str>,
    /// Columns before the key.
    indent: usize,
}

fn scan(text: &[u8]) -> Result<Scanned, EditError> {
    let mut scanned = Scanned {
        entries: Vec::new(),
        marks: Vec::new(),
    };
    let mut section = String::new();
    let mut first_of_section = true;
    let mut continued = false;
    for line in lines(text) {
        let content = trimmed(text, &line.range);
        let indent = content.start - line.range.start;
        let last_indent = scanned.entries.last().map(|last| last.indent);
        // Python takes a deeper line for a part of the value above, blank lines between or not.
        let deeper = !first_of_section && last_indent.is_some_and(|last| indent > last);
        let continues_above = std::mem::take(&mut continued);
        match part(text, &content).first() {
            None => {}
            Some(b'#' | b';') => scanned.marks.extend(mark_on(text, &line, b"#;")),
            Some(b'[') if deeper => {
                return Err(EditError::Unreadable {
                    line: line.number,
                    why: "a section's name is indented, which continues the line above for Python",
                });
            }
            Some(b'[') => {
                section = section_name(text, &content, line.number)?;
                first_of_section = true;
            }
            Some(_) => {
                let mut read = entries(text, &section, &line, &content);
                if let (true, Some(last)) = (deeper, scanned.entries.last_mut()) {
                    last.doubt = Some("a line below is indented, which continues it for Python");
                    for entry in &mut read {
                        entry.doubt = Some("it is indented, which continues a line above");
                        entry.indent = last.indent;
                    }
                }
                if continues_above {
                    for entry in &mut read {
                        entry.doubt = Some("the line above ends with a backslash");
                    }
                }
                scanned.entries.extend(read);
                first_of_section = false;
                continued = part(text, &line.range).ends_with(b"\\");
            }
        }
    }
    Ok(scanned)
}

fn section_name(text: &[u8], content: &Range<usize>, number: usize) -> Result<String, EditError> {
    let unreadable = |why| EditError::Unreadable { line: number, why };
    let header = part(text, content);
    let close = header.iter().position(|byte| *byte == b']');
    let close = close.ok_or_else(|| unreadable("a section's name has no closing bracket"))?;
    let after = part(text, &(content.start + close + 1..content.end)).trim_ascii_start();
    if !after.is_empty() && !after.starts_with(b"#") && !after.starts_with(b";") {
        return Err(unreadable("text follows a section's name"));
    }
    let name = trimmed(text, &(content.start + 1..content.start + close));
    str::from_utf8(part(text, &name))
        .map(str::to_owned)
        .map_err(|_| unreadable("a section's name is not UTF-8"))
}

/// The entry of a line; two when programs disagree about which sign separates key and value.
fn entries(text: &[u8], section: &str, line: &Line, content: &Range<usize>) -> Vec<Entry> {
    let bytes = part(text, content);
    let entry = |separator: Option<usize>, doubt: Option<&'static str>| {
        let key_end = content.start + separator.unwrap_or(bytes.len());
        let key = trimmed(text, &(content.start..key_end));
        let key = str::from_utf8(part(text, &key)).ok()?;
        let name = match section {
            "" => key.to_owned(),
            section => format!("{section}.{key}"),
        };
        let start = (key_end + 1).min(line.range.end);
        let mut entry = value(text, start..line.range.end);
        entry.doubt = doubt.or(entry.doubt);
        entry.name = name;
        entry.line = line.number;
        entry.indent = content.start - line.range.start;
        Some(entry)
    };
    let equals = bytes.iter().position(|byte| *byte == b'=');
    let colon = bytes.iter().position(|byte| *byte == b':');
    let colon = colon.filter(|colon| equals.is_none_or(|equals| *colon < equals));
    match (equals, colon) {
        (None, None) => entry(None, Some("it has no value")).into_iter().collect(),
        (Some(_), None) => entry(equals, None).into_iter().collect(),
        (equals, Some(_)) => {
            let doubt = Some("it has a colon before the =, which separates for some programs");
            let at_equals = equals.and_then(|equals| entry(Some(equals), doubt));
            entry(colon, doubt).into_iter().chain(at_equals).collect()
        }
    }
}

fn value(text: &[u8], after_separator: Range<usize>) -> Entry {
    let mut range = trimmed(text, &after_separator);
    let bytes = part(text, &range);
    if bytes.is_empty() {
        // "key =  ": written right behind the first blank, or behind the separator.
        let one_blank = part(text, &after_separator).first() == Some(&b' ');
        range = after_separator.start..after_separator.start;
        if one_blank {
            range = range.start + 1..range.end + 1;
        }
    }
    let quote = bytes.first().copied().filter(|byte| b"\"'".contains(byte));
    let mut entry = Entry {
        name: String::new(),
        line: 0,
        value: range.clone(),
        quote,
        doubt: None,
        indent: 0,
    };
    if let Some(quote) = quote {
        let close = bytes.iter().skip(1).position(|byte| *byte == quote);
        let Some(close) = close else {
            entry.quote = None;
            entry.doubt = Some("its quote is not closed on the line");
            return entry;
        };
        entry.value = range.start + 1..range.start + 1 + close;
        let after = part(text, &(entry.value.end + 1..range.end)).trim_ascii_start();
        if !after.is_empty() && !after.starts_with(b";") && !after.starts_with(b"#") {
            entry.doubt = Some("it mixes plain and quoted text");
        } else if part(text, &entry.value).contains(&b'\\') {
            entry.doubt = Some("it contains a backslash, which programs read differently");
        }
    } else if bytes.ends_with(b"\\") {
        entry.doubt = Some("it ends with a backslash, which continues the line for some programs");
    } else if bytes.contains(&b'"') {
        entry.doubt = Some("it mixes plain and quoted text");
    } else if has_comment(bytes) {
        entry.doubt = Some("what follows # or ; is a comment for some programs");
    }
    let odd = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    if part(text, &entry.value).iter().any(odd) {
        entry.doubt = Some("it contains a control character");
    }
    entry
}

fn has_comment(value: &[u8]) -> bool {
    let starts = matches!(value.first(), Some(b'#' | b';'));
    let later = |pair: &[u8]| matches!(pair, [b' ' | b'\t', b'#' | b';']);
    starts || value.windows(2).any(later)
}

/// The one entry of this name. Names that differ in case only are one name to some programs.
fn find<'a>(entries: &'a [Entry], key: &str) -> Result<&'a Entry, EditError> {
    let entries = entries.iter();
    let found = entries.filter(|entry| entry.name.eq_ignore_ascii_case(key));
    let (_, only) = only_one(key, found.map(|entry| (entry.line, entry)))?;
    if only.name != key {
        return Err(EditError::KeyMissing {
            key: key.to_owned(),
        });
    }
    Ok(only)
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
    let old = str::from_utf8(part(text, &entry.value)).map_err(|_| doubtful("it is not UTF-8"))?;
    let is_url = matches!(change, Change::UrlAuthority { .. });
    if is_url && entry.quote.is_none() && old.contains(['#', ';', '\'']) {
        return Err(doubtful(
            "what follows # or ; is a comment for some programs",
        ));
    }
    let new = change.of(old, key, line)?;
    let writable = match (change, entry.quote) {
        _ if new == old => true,
        (Change::Text(_), None) => is_plain(&new),
        (Change::UrlAuthority { .. }, None) => true,
        // Connection strings stand without quotes in PgBouncer's files; conninfo has checked it.
        (Change::Fields(_), None) => !has_comment(new.as_bytes()) && !new.contains('"'),
        // "$" and "%" name variables for PHP and Python; those that are there stay.
        (Change::Text(_), Some(quote)) => is_quotable(&new, quote) && !new.contains(['$', '%']),
        (_, Some(quote)) => is_quotable(&new, quote),
    };
    match writable {
        true => Ok((entry.value.clone(), new.into_bytes())),
        false => Err(EditError::ValueUnwritable {
            key: key.to_owned(),
            line,
            style: match entry.quote {
                None => "without quotes",
                Some(b'"') => "in double quotes",
                Some(_) => "in single quotes",
            },
        }),
    }
}

/// True when every program reads these characters as themselves: "%" is a variable for Python,
/// "!^|&~(){}?" are operators for PHP, and a first "=" or "[" is doubtful.
fn is_plain(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/@+=[]* ".contains(c);
    value.chars().all(plain) && !value.starts_with(['=', '[', ' ']) && !value.ends_with(' ')
}

/// A tab in quotes is one for every program, and may stand in what does not change.
fn is_quotable(value: &str, quote: u8) -> bool {
    let odd = |c: char| c.is_control() && c != '\t';
    let never = |c: char| odd(c) || c == char::from(quote) || c == '\\';
    !value.chars().any(never)
}
