//! Why the journal cannot be used.

use std::io;
use std::path::PathBuf;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk or the file system said no.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another agent of this site runs.
    #[error(
        "another agent already uses {} ({holder}): stop it first, two agents of one site \
         must never run",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Its process, as far as is known.
        holder: String,
    },
    /// The file is damaged before its end.
    #[error(
        "journal {} is damaged in line {line} at byte {offset}: {why}; nothing was changed: check \
         the disk, restore the file from a backup, or, once you know that no plan in it is \
         unfinished, move it out of the state directory and start the agent again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// From the file's beginning.
        offset: usize,
        /// What is wrong.
        why: String,
    },
    /// A whole line says something this version does not know.
    #[error(
        "line {line} of journal {} is whole but not understood: it was written by a newer version; \
         run that version, or let it finish its plan first",
        path.display()
    )]
    NotUnderstood {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// What the reader stumbled on.
        #[source]
        source: serde_json::Error,
    },
    /// The file on disk is not the one that was written.
    #[error(
        "journal {} on disk is not what was written to it: check the disk, then restart the agent",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The file is too long to be read.
    #[error("journal {} has {bytes} bytes, more than can be read", path.display())]
    TooBig {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// One entry is too long.
    #[error("a journal entry has {bytes} bytes, more than one line may have")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// An entry has no JSON form.
    #[error("cannot write a journal entry as JSON")]
    NotJson(#[source] serde_json::Error),
}

impl JournalError {
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            what,
            path: path.into(),
            source,
        }
    }
}
