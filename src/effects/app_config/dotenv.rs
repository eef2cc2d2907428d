//! Edits values of a dotenv file in place: comments, order, line ends, quoting, everything else
//! stays byte for byte as it is.
//!
//! Pure. What a file means is decided in `dotenv_scan`; this file decides what may be written.

use super::dotenv_scan::{Assignment, LineKind, Quote, part, scan};
use super::format::{ConfigFormat, EditError, Edited};
use super::formats::change::{Change, edit_all, only_one};
use super::formats::comment::{self, EpochMark};
use crate::model::Epoch;
use crate::model::plan::ConfigEdit;

/// `KEY=value` lines, as read by docker compose, systemd, shells and dotenv libraries.
#[derive(Debug, Clone, Copy)]
pub struct Dotenv;

impl ConfigFormat for Dotenv {
    fn name(&self) -> &'static str {
        "dotenv"
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
    edit_all(text, edits, |key, change| {
        let found = lines.iter().filter_map(|line| match &line.kind {
            LineKind::Assignment(assignment) if part(text, &assignment.key) == key.as_bytes() => {
                Some((line.number, assignment))
            }
            LineKind::Assignment(_) | LineKind::Epoch { .. } => None,
        });
        let (number, assignment) = only_one(key, found)?;
        let old = part(text, &assignment.value);
        let new = new_value(key, change, old, assignment, number)?;
        Ok((assignment.value.clone(), new))
    })
}

/// The epoch in the text's comment; the highest if there are several.
///
/// # Errors
/// When the text or the number cannot be read.
pub fn epoch(text: &[u8]) -> Result<Option<Epoch>, EditError> {
    comment::epoch(text, &marks(text)?)
}

/// The text with its epoch comment updated, or with one put on top.
///
/// # Errors
/// When the text cannot be read.
pub fn with_epoch(text: &[u8], epoch: Epoch) -> Result<Vec<u8>, EditError> {
    Ok(comment::with_epoch(text, &marks(text)?, "#", epoch))
}

fn marks(text: &[u8]) -> Result<Vec<EpochMark>, EditError> {
    let lines = scan(text)?.into_iter();
    let marks = lines.filter_map(|line| match line.kind {
        LineKind::Epoch { number } => Some(EpochMark {
            line: line.number,
            number,
        }),
        LineKind::Assignment(_) => None,
    });
    Ok(marks.collect())
}

fn new_value(
    key: &str,
    change: &Change<'_>,
    old: &[u8],
    assignment: &Assignment,
    line: usize,
) -> Result<Vec<u8>, EditError> {
    let doubtful = |why| EditError::ValueDoubtful {
        key: key.to_owned(),
        line,
        why,
    };
    if let Some(why) = assignment.doubt {
        return Err(doubtful(why));
    }
    let old = match str::from_utf8(old) {
        Ok(old) => old,
        // What is replaced whole need not be understood.
        Err(_) if !change.keeps_the_rest() => "",
        Err(_) => return Err(doubtful("it is not UTF-8")),
    };
    if change.keeps_the_rest() && assignment.quote == Quote::None {
        if old.contains('#') {
            return Err(doubtful("some dialects read # as the start of a comment"));
        }
        if old.contains([' ', '\t']) {
            return Err(doubtful("it has blanks and no quotes, which shells refuse"));
        }
    }
    let new = change.of(old, key, line)?;
    let writable = match change {
        Change::Text(_) => is_writable(&new, assignment.quote),
        // Host and port are writable everywhere, and the rest stays.
        Change::UrlAuthority { .. } => true,
        Change::Fields(fields) => {
            let writable = |(_, text): &(&str, &str)| is_writable(text, assignment.quote);
            fields.iter().all(writable)
        }
    };
    match writable || new == old {
        true => Ok(new.into_bytes()),
        false => Err(EditError::ValueUnwritable {
            key: key.to_owned(),
            line,
            style: match assignment.quote {
                Quote::None => "without quotes",
                Quote::Single => "in single quotes",
                Quote::Double => "in double quotes",
            },
        }),
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
