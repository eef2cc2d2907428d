//! What the edits of one key make of its value, the same in every format.

use std::ops::Range;

use super::conninfo;
use crate::effects::app_config::format::{EditError, Edited};
use crate::effects::app_config::url;
use crate::model::plan::{ConfigEdit, EditValue};

/// What one key's value is to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// This text.
    Text(&'a str),
    /// The URL it is, at another host and port.
    UrlAuthority { host: &'a str, port: u16 },
    /// The connection string it is, with other values of these fields.
    Fields(Vec<(&'a str, &'a str)>),
}

impl Change<'_> {
    /// The value after the change; `old` is the value as programs read it.
    pub(crate) fn of(&self, old: &str, key: &str, line: usize) -> Result<String, EditError> {
        match self {
            Self::Text(new) => Ok((*new).to_owned()),
            Self::UrlAuthority { host, port } => {
                url::replace_authority(old, host, *port).map_err(|why| EditError::Url {
                    key: key.to_owned(),
                    line,
                    why,
                })
            }
            Self::Fields(fields) => conninfo::set(old, fields).map_err(|why| EditError::Conninfo {
                key: key.to_owned(),
                line,
                why,
            }),
        }
    }

    /// True when the rest of the old value stays.
    pub(crate) fn keeps_the_rest(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::UrlAuthority { .. } | Self::Fields(_) => true,
        }
    }
}

/// Makes every edit: `edit_one` says which bytes of a key's value are replaced by what.
pub(crate) fn edit_all(
    text: &[u8],
    edits: &[ConfigEdit],
    mut edit_one: impl FnMut(&str, &Change<'_>) -> Result<(Range<usize>, Vec<u8>), EditError>,
) -> Result<Edited, EditError> {
    let mut replacements = Vec::new();
    let mut changed = Vec::new();
    for (key, change) in by_key(edits)? {
        let (range, new) = edit_one(key, &change)?;
        if text.get(range.clone()) != Some(new.as_slice()) {
            changed.push(key.to_owned());
            replacements.push((range, new));
        }
    }
    Ok(Edited {
        text: replace(text, replacements),
        changed,
    })
}

/// The one place of a key among all that were found, each with its line: programs disagree about
/// which one of several counts.
pub(crate) fn only_one<T>(
    key: &str,
    found: impl IntoIterator<Item = (usize, T)>,
) -> Result<(usize, T), EditError> {
    let mut found = found.into_iter();
    let (first, place) = found.next().ok_or_else(|| EditError::KeyMissing {
        key: key.to_owned(),
    })?;
    match found.next() {
        None => Ok((first, place)),
        Some((second, _)) => Err(EditError::KeyRepeated {
            key: key.to_owned(),
            first,
            second,
        }),
    }
}

/// The edits of each key as one change, in their order.
fn by_key(edits: &[ConfigEdit]) -> Result<Vec<(&str, Change<'_>)>, EditError> {
    let mut changes: Vec<(&str, Change<'_>)> = Vec::new();
    for edit in edits {
        let change = match &edit.to {
            EditValue::Text(text) => Change::Text(text),
            EditValue::UrlAuthority { host, port } => Change::UrlAuthority { host, port: *port },
            EditValue::Field { name, text } => Change::Fields(vec![(name, text)]),
        };
        let earlier = changes.iter_mut().find(|(key, _)| *key == edit.key);
        match (earlier, change) {
            (None, change) => changes.push((&edit.key, change)),
            (Some((_, Change::Fields(fields))), Change::Fields(more))
                if fields
                    .iter()
                    .all(|(name, _)| more.iter().all(|(new, _)| new != name)) =>
            {
                fields.extend(more);
            }
            (Some(_), _) => {
                return Err(EditError::EditedTwice {
                    key: edit.key.clone(),
                });
            }
        }
    }
    Ok(changes)
}

/// A value as programs read it, and where in the raw text each byte of it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    /// As programs read it.
    pub(super) text: String,
    /// Offset in the raw value of each byte of `text`, and one more for its end.
    origin: Vec<usize>,
}

impl Decoded {
    pub(super) fn new() -> Self {
        Self {
            text: String::new(),
            origin: vec![0],
        }
    }

    /// A value that is written as it is read.
    pub(super) fn plain(raw: &str) -> Self {
        Self {
            text: raw.to_owned(),
            origin: (0..=raw.len()).collect(),
        }
    }

    /// Appends a character whose raw form ends at `raw_end`.
    pub(super) fn push(&mut self, read: char, raw_end: usize) {
        let start = self.origin.pop().unwrap_or(0);
        self.text.push(read);
        self.origin
            .extend(std::iter::repeat_n(start, read.len_utf8()));
        self.origin.push(raw_end);
    }

    /// Where the raw text has to be changed to become `new`, and the text that goes there: as
    /// little as possible, so that escapes elsewhere in the value stay as they were written.
    pub(super) fn difference<'a>(&self, new: &'a str) -> (Range<usize>, &'a str) {
        let same = |(old, new): &(char, char)| old == new;
        let head: usize = self
            .text
            .chars()
            .zip(new.chars())
            .take_while(same)
            .map(|(c, _)| c.len_utf8())
            .sum();
        let old_rest = self.text.get(head..).unwrap_or("");
        let new_rest = new.get(head..).unwrap_or("");
        let tail: usize = old_rest
            .chars()
            .rev()
            .zip(new_rest.chars().rev())
            .take_while(same)
            .map(|(c, _)| c.len_utf8())
            .sum();
        let at = |index: usize| self.origin.get(index).copied().unwrap_or(0);
        let middle = new_rest.get(..new_rest.len() - tail).unwrap_or("");
        (at(head)..at(self.text.len() - tail), middle)
    }
}

/// The text with these ranges replaced; they must not overlap.
pub(crate) fn replace(text: &[u8], mut replacements: Vec<(Range<usize>, Vec<u8>)>) -> Vec<u8> {
    replacements.sort_by_key(|(range, _)| range.start);
    let mut result = Vec::with_capacity(text.len() + 64);
    let mut copied = 0;
    for (range, new) in replacements {
        result.extend_from_slice(text.get(copied..range.start).unwrap_or(&[]));
        result.extend_from_slice(&new);
        copied = range.end;
    }
    result.extend_from_slice(text.get(copied..).unwrap_or(&[]));
    result
}
