//! Which file formats can be edited: a trait and a list. To add one: a file and a line in
//! [`CONFIG_FORMATS`].

use std::fmt;
use std::path::Path;

use super::dotenv::Dotenv;
use super::formats::conninfo::ConninfoError;
use super::formats::ini::Ini;
use super::formats::json::Json;
use super::formats::properties::Properties;
use super::formats::toml::Toml;
use super::formats::yaml::Yaml;
use super::url::UrlError;
use crate::config::app_formats;
use crate::model::Epoch;
use crate::model::key_path::KeyPathError;
use crate::model::plan::ConfigEdit;

/// A file format whose values can be changed without touching anything else.
///
/// All of it is pure: text in, text out.
pub trait ConfigFormat: fmt::Debug + Sync {
    /// The format's name, as in [`app_formats::NAMES`].
    fn name(&self) -> &'static str;

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

/// Every format.
pub const CONFIG_FORMATS: &[&dyn ConfigFormat] = &[&Dotenv, &Ini, &Json, &Properties, &Toml, &Yaml];

/// The format that was named, or else the one that the file's name promises.
#[must_use]
pub fn format_of(named: Option<&str>, path: &Path) -> Option<&'static dyn ConfigFormat> {
    let name = named.or_else(|| app_formats::by_file_name(path))?;
    CONFIG_FORMATS
        .iter()
        .copied()
        .find(|format| format.name() == name)
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
    /// A field inside the connection string cannot be replaced.
    #[error("cannot replace fields in key {key} on line {line}: {why}")]
    Conninfo {
        /// Which.
        key: String,
        /// Where.
        line: usize,
        /// Why.
        why: ConninfoError,
    },
    /// The key cannot name a value in this format.
    #[error("key {key} is no path to a value: {why}")]
    BadKey {
        /// Which.
        key: String,
        /// Why.
        why: KeyPathError,
    },
    /// The file is not of its format, or uses more of it than can be read for certain.
    #[error("line {line} cannot be read: {why}")]
    Unreadable {
        /// Where.
        line: usize,
        /// Why.
        why: &'static str,
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

impl EditError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::KeyMissing { .. } => "add the key to the file, or remove it from the edits",
            Self::KeyRepeated { .. } => "keep one line: programs disagree about which counts",
            Self::EditedTwice { .. } => "name each key once in the edits",
            Self::ValueUnwritable { .. } => "put quotes around the value in the file",
            Self::EpochUnreadable { .. } => "delete that comment line",
            Self::BadKey { .. } => "write it like servers[0].host; quote a part that has a dot",
            Self::Conninfo { .. } => "write host=… port=… without escapes, each field once",
            Self::Unreadable { .. } => "correct that line, or name another format",
            Self::ValueDoubtful { .. } | Self::Url { .. } | Self::UnclosedQuote { .. } => {
                "write that value plainly, on one line"
            }
        }
    }
}
