//! Nested values and the paths to them: what JSON, TOML and YAML have in common.

use std::ops::Range;

use super::change::{Change, Decoded, edit_all, only_one};
use super::lines::part;
use crate::effects::app_config::format::{EditError, Edited};
use crate::model::key_path::{KeyPath, Segment};
use crate::model::plan::ConfigEdit;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Counts from 1, for people.
    pub(super) line: usize,
    pub(super) kind: Kind,
    /// Why nothing in it can be edited, if so.
    pub(super) doubt: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Keys as programs read them, in order, repeated ones too.
    Table(Vec<(String, Node)>),
    List(Vec<Node>),
    /// Where its text stands, without quotes.
    Scalar(Range<usize>, Style),
    /// What is no text and no whole number, with the reason why it is not edited.
    Opaque(&'static str),
}

/// How a value is written, which it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Integer,
    /// In double quotes, with escapes.
    Double,
    Single,
    /// Text without quotes (YAML).
    Plain,
}

impl Style {
    fn name(self) -> &'static str {
        match self {
            Self::Integer => "as a whole number",
            Self::Double => "in double quotes",
            Self::Single => "in single quotes",
            Self::Plain => "without quotes",
        }
    }
}

/// How a format writes values.
pub(super) struct Writing {
    /// The value as programs read it, or why that is not certain.
    pub(super) decode: fn(&str, Style) -> Result<Decoded, &'static str>,
    /// True when a value can be written so that every program reads it the same way.
    pub(super) fits: fn(&str, Style) -> bool,
    /// A part of a value as it is written.
    pub(super) escape: fn(&str, Style) -> String,
}

/// The text with every edit made at its path.
pub(super) fn edit(
    text: &[u8],
    root: &Node,
    edits: &[ConfigEdit],
    writing: &Writing,
) -> Result<Edited, EditError> {
    edit_all(text, edits, |key, change| {
        let path = KeyPath::parse(key).map_err(|why| EditError::BadKey {
            key: key.to_owned(),
            why,
        })?;
        let node = find(root, key, &path)?;
        new_value(text, node, key, change, writing)
    })
}

fn find<'a>(root: &'a Node, key: &str, path: &KeyPath) -> Result<&'a Node, EditError> {
    let missing = || EditError::KeyMissing {
        key: key.to_owned(),
    };
    let mut node = root;
    for segment in path.segments() {
        check(node, key)?;
        node = match (segment, &node.kind) {
            (Segment::Key(name), Kind::Table(entries)) => {
                let found = entries.iter().filter(|(key, _)| key == name);
                only_one(key, found.map(|(_, node)| (node.line, node)))?.1
            }
            (Segment::Index(index), Kind::List(items)) => items.get(*index).ok_or_else(missing)?,
            (
                Segment::Key(_) | Segment::Index(_),
                Kind::Table(_) | Kind::List(_) | Kind::Scalar(..) | Kind::Opaque(_),
            ) => return Err(missing()),
        };
    }
    check(node, key)?;
    Ok(node)
}

fn check(node: &Node, key: &str) -> Result<(), EditError> {
    let why = match &node.kind {
        Kind::Opaque(why) => Some(*why),
        Kind::Table(_) | Kind::List(_) | Kind::Scalar(..) => node.doubt,
    };
    why.map_or(Ok(()), |why| {
        Err(EditError::ValueDoubtful {
            key: key.to_owned(),
            line: node.line,
            why,
        })
    })
}

fn new_value(
    text: &[u8],
    node: &Node,
    key: &str,
    change: &Change<'_>,
    writing: &Writing,
) -> Result<(Range<usize>, Vec<u8>), EditError> {
    let line = node.line;
    let doubtful = |why| EditError::ValueDoubtful {
        key: key.to_owned(),
        line,
        why,
    };
    let (range, style) = match &node.kind {
        Kind::Scalar(range, style) => (range, *style),
        Kind::Table(_) | Kind::List(_) => return Err(doubtful("it holds values of its own")),
        Kind::Opaque(why) => return Err(doubtful(why)),
    };
    let raw = str::from_utf8(part(text, range)).map_err(|_| doubtful("it is not UTF-8"))?;
    let old = (writing.decode)(raw, style).map_err(doubtful)?;
    let new = change.of(&old.text, key, line)?;
    if new == old.text {
        return Ok((range.clone(), raw.as_bytes().to_vec()));
    }
    let fits = match style {
        Style::Integer => is_integer(&new),
        Style::Double | Style::Single | Style::Plain => (writing.fits)(&new, style),
    };
    if !fits {
        return Err(EditError::ValueUnwritable {
            key: key.to_owned(),
            line,
            style: style.name(),
        });
    }
    let (within, written) = match change.keeps_the_rest() {
        true => old.difference(&new),
        false => (0..raw.len(), new.as_str()),
    };
    let written = match style {
        Style::Integer => written.to_owned(),
        Style::Double | Style::Single | Style::Plain => (writing.escape)(written, style),
    };
    let range = range.start + within.start..range.start + within.end;
    Ok((range, written.into_bytes()))
}

/// A whole number that every program reads: in decimal, without zeros in front.
pub(super) fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let few = (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    few && (text == "0" || !digits.starts_with('0'))
}
