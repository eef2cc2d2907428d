//! Which file formats can be edited: a trait and a list. To add one: a file and a line in
//! [`CONFIG_FORMATS`].

use std::fmt;
use std::path::Path;

use super::dotenv::Dotenv;
use super::url::UrlError;
use crate::model::Epoch;
use crate::model::plan::ConfigEdit;

/// A file format whose values can be changed without touching anything else.
///
/// All of it is pure: text in, text out.
pub trait ConfigFormat: fmt::Debug + Sync {
    /// The format's name, for people.
    fn name(&self) -> &'static str;

    /// True when a file of this name has the format.
    fn reads(&self, path: &Path) -> bool;

    /// The text with every edit made.
    ///
    /// # Errors
    /// When an edit cannot be made so that every program reads the same new value.
    fn edit(&self, text: &[u8], edits: &[ConfigEdit]) -> Result<Edited, EditError>;

    /// The epoch that the text says it was written under (S8); `None` if it says nothing.
    ///
    /// # Errors
    /// When it says something that cannot be read.
    fn epoch(&self, text: &[u8]) -> Result<Option<Epoch>, EditError>;

    /// The text with the epoch noted in it; unchanged for formats without comments.
    ///
    /// # Errors
    /// When the text cannot be read.
    fn with_epoch(&self, text: &[u8], epoch: Epoch) -> Result<Vec<u8>, EditError>;
}

/// Every format, in the order in which they are asked.
pub const CONFIG_FORMATS: &[&dyn ConfigFormat] = &[&Dotenv];

/// The format of a file, by its name.
#[must_use]
pub fn format_of(path: &Path) -> Option<&'static dyn ConfigFormat> {
    CONFIG_FORMATS
        .iter()
        .copied()
        .find(|format| format.reads(path))
}

/// A text after its edits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The whole new text.
    pub text: Vec<u8>,
    /// The keys whose values are different now.
    pub changed: Vec<String>,
}

/// Why a file cannot be edited. Never contains a value: values may be secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// No such key.
    #[error("key {key} is not in the file")]
    KeyMissing {
        /// Which.
        key: String,
    },
    /// Programs disagree about whether the first or the last one counts.
    #[error("key {key} is set more than once, on lines {first} and {second}")]
    KeyRepeated {
        /// Which.
        key: String,
        /// Line number of one.
        first: usize,
        /// Line number of the other.
        second: usize,
    },
    /// Two edits of one key.
    #[error("key {key} is to be changed twice")]
    EditedTwice {
        /// Which.
        key: String,
    },
    /// The value that is there cannot be replaced safely.
    #[error("the value of key {key} on line {line} cannot be edited: {why}")]
    ValueDoubtful {
        /// Which.
        key: String,
        /// Where.
        line: usize,
        /// Why.
        why: &'static str,
    },
    /// The new value would be read differently by different programs.
    #[error("the new value of key {key} cannot be written {style} on line {line}")]
    ValueUnwritable {
        /// Which.
        key: String,
        /// Where.
        line: usize,
        /// The quoting style of that line.
        style: &'static str,
    },
    /// Host and port inside the value cannot be replaced.
    #[error("cannot replace host and port in key {key} on line {line}: {why}")]
    Url {
        /// Which.
        key: String,
        /// Where.
        line: usize,
        /// Why.
        why: UrlError,
    },
    /// A quoted value has no end.
    #[error("the quote that opens on line {line} is not closed")]
    UnclosedQuote {
        /// Where.
        line: usize,
    },
    /// The epoch comment was damaged.
    #[error("the epoch in the comment on line {line} is not a number")]
    EpochUnreadable {
        /// Where.
        line: usize,
    },
}
