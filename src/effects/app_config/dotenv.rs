//! Edits values of a dotenv file in place: comments, order, line ends, quoting, everything else
//! stays byte for byte as it is.
//!
//! Pure. What a file means is decided in `dotenv_scan`; this file decides what may be written.

use std::path::Path;

use super::dotenv_scan::{Assignment, EPOCH_MARK, LineKind, Quote, part, scan};
use super::format::{ConfigFormat, EditError, Edited};
use super::url;
use crate::model::Epoch;
use crate::model::plan::{ConfigEdit, EditValue};

/// `KEY=value` lines, as read by docker compose, systemd, shells and dotenv libraries.
#[derive(Debug, Clone, Copy)]
pub struct Dotenv;

/// Names that promise another format: editing them line by line could break them.
const OTHER_FORMATS: &[&str] = &["json", "yaml", "yml", "toml", "xml", "ini", "properties"];

impl ConfigFormat for Dotenv {
    fn name(&self) -> &'static str {
        "dotenv"
    }

    fn reads(&self, path: &Path) -> bool {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_none_or(|extension| {
            !OTHER_FORMATS.contains(&extension.to_ascii_lowercase().as_str())
        })
    }

    fn edit(&self, text: &[u8], edits: &[ConfigEdit]) -> Result<Edited, EditError> {
        edit(text, edits)
    }

    fn epoch(&self, text: &[u8]) -> Result<Option<Epoch>, EditError> {
        epoch(text)
    }

    fn with_epoch(&self, text: &[u8], epoch: Epoch) -> Result<Vec<u8>, EditError> {
        with_epoch(text, epoch)
    }
}

/// The text with every edit made; nothing but the values of those keys differs.
///
/// # Errors
/// When a key is missing or repeated, or when its old or new value would be read differently by
/// different programs.
pub fn edit(text: &[u8], edits: &[ConfigEdit]) -> Result<Edited, EditError> {
    let lines = scan(text)?;
    let mut replacements = Vec::new();
    let mut changed = Vec::new();
    for (index, wanted) in edits.iter().enumerate() {
        let earlier = edits.get(..index).unwrap_or(&[]);
        if earlier.iter().any(|other| other.key == wanted.key) {
            return Err(EditError::EditedTwice {
                key: wanted.key.clone(),
            });
        }
        let mut found = lines.iter().filter_map(|line| match &line.kind {
            LineKind::Assignment(assignment)
                if part(text, &assignment.key) == wanted.key.as_bytes() =>
            {
                Some((line.number, assignment))
            }
            LineKind::Assignment(_) | LineKind::Epoch { .. } => None,
        });
        let Some((number, assignment)) = found.next() else {
            return Err(EditError::KeyMissing {
                key: wanted.key.clone(),
            });
        };
        if let Some((second, _)) = found.next() {
            return Err(EditError::KeyRepeated {
                key: wanted.key.clone(),
                first: number,
                second,
            });
        }
        let old = part(text, &assignment.value);
        let new = new_value(wanted, old, assignment, number)?;
        if new.as_bytes() != old {
            changed.push(wanted.key.clone());
            replacements.push((assignment.value.clone(), new.into_bytes()));
        }
    }
    Ok(Edited {
        text: replace(text, replacements),
        changed,
    })
}

/// The epoch in the text's comment; the highest if there are several.
///
/// # Errors
/// When the text or the number cannot be read.
pub fn epoch(text: &[u8]) -> Result<Option<Epoch>, EditError> {
    let mut highest = None;
    for line in scan(text)? {
        let LineKind::Epoch { number } = line.kind else {
            continue;
        };
        let digits = str::from_utf8(part(text, &number)).unwrap_or("");
        let epoch = digits
            .trim()
            .parse()
            .map_err(|_| EditError::EpochUnreadable { line: line.number })?;
        highest = highest.max(Some(Epoch(epoch)));
    }
    Ok(highest)
}

/// The text with its epoch comment updated, or with one put on top.
///
/// # Errors
/// When the text cannot be read.
pub fn with_epoch(text: &[u8], epoch: Epoch) -> Result<Vec<u8>, EditError> {
    let number = epoch.to_string().into_bytes();
    let mut replacements: Vec<_> = scan(text)?
        .into_iter()
        .filter_map(|line| match line.kind {
            LineKind::Epoch { number: range } => Some((range, number.clone())),
            LineKind::Assignment(_) => None,
        })
        .collect();
    if replacements.is_empty() {
        let top = if text.starts_with(b"\xEF\xBB\xBF") {
            3
        } else {
            0
        };
        let first_end = text.iter().position(|byte| *byte == b'\n');
        let before_end = first_end.and_then(|end| end.checked_sub(1));
        let crlf = before_end.and_then(|end| text.get(end)) == Some(&b'\r');
        let line_end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        let comment = [b"# ", EPOCH_MARK, &number, line_end].concat();
        replacements.push((top..top, comment));
    }
    Ok(replace(text, replacements))
}

fn new_value(
    wanted: &ConfigEdit,
    old: &[u8],
    assignment: &Assignment,
    line: usize,
) -> Result<String, EditError> {
    let key = || wanted.key.clone();
    if let Some(why) = assignment.doubt {
        return Err(EditError::ValueDoubtful {
            key: key(),
            line,
            why,
        });
    }
    let unwritable = || EditError::ValueUnwritable {
        key: key(),
        line,
        style: match assignment.quote {
            Quote::None => "without quotes",
            Quote::Single => "in single quotes",
            Quote::Double => "in double quotes",
        },
    };
    match &wanted.to {
        EditValue::Text(new) if new.as_bytes() == old => Ok(new.clone()),
        EditValue::Text(new) if is_writable(new, assignment.quote) => Ok(new.clone()),
        EditValue::Text(_) => Err(unwritable()),
        EditValue::UrlAuthority { host, port } => {
            let doubtful = |why| EditError::ValueDoubtful {
                key: key(),
                line,
                why,
            };
            let old = str::from_utf8(old).map_err(|_| doubtful("it is not UTF-8"))?;
            if assignment.quote == Quote::None && old.contains('#') {
                return Err(doubtful("some dialects read # as the start of a comment"));
            }
            url::replace_authority(old, host, *port).map_err(|why| EditError::Url {
                key: key(),
                line,
                why,
            })
        }
    }
}

/// True when every dialect reads these characters as themselves in this quoting style.
fn is_writable(value: &str, quote: Quote) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/@%+=?[]".contains(c);
    match quote {
        // "~" and "=" at the start, "&", ";" and the like mean something to shells.
        Quote::None => value.chars().all(plain) && !value.starts_with('='),
        Quote::Single => !value.chars().any(|c| c.is_control() || "'\\".contains(c)),
        Quote::Double => !value
            .chars()
            .any(|c| c.is_control() || "\"\\$`".contains(c)),
    }
}

fn replace(text: &[u8], mut replacements: Vec<(std::ops::Range<usize>, Vec<u8>)>) -> Vec<u8> {
    replacements.sort_by_key(|(range, _)| range.start);
    let mut result = Vec::with_capacity(text.len() + 64);
    let mut copied = 0;
    for (range, new) in replacements {
        result.extend_from_slice(part(text, &(copied..range.start)));
        result.extend_from_slice(&new);
        copied = range.end;
    }
    result.extend_from_slice(part(text, &(copied..text.len())));
    result
}
