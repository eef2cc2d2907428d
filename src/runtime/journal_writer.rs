//! Writes the journal for the decision loop, and keeps what a broken disk did not take.
//!
//! The loop asks before it acts: what cannot be written does not happen (S11). What happens all
//! the same while the disk is broken (a step that was under way ends, a fence) is kept here and
//! written late, in its order. Start reading at [`JournalWriter::write`].

use std::time::Duration;

use crate::effects::clock::boottime;
use crate::model::Moment;
use crate::model::journal::JournalEntry;
use crate::model::time::measured_words;
use crate::runtime::journal::{Journal, JournalError};
use crate::runtime::journal_log;

/// Between two attempts to write to a journal that refused.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// More is not kept: with a broken journal nothing begins, so little happens.
const LATE_MAX: usize = 256;

/// The journal and what it still lacks.
#[derive(Debug)]
pub struct JournalWriter {
    journal: Journal,
    broken: Option<Broken>,
}

#[derive(Debug)]
struct Broken {
    since: Moment,
    tried: Moment,
    late: Vec<JournalEntry>,
    dropped: usize,
}

impl JournalWriter {
    /// Writes to this journal.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        Self {
            journal,
            broken: None,
        }
    }

    /// Whether the last attempt to write failed.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Makes these entries durable, all or none.
    ///
    /// # Errors
    /// Why they are not, in words; from then on the journal is broken until [`Self::mend`].
    pub fn write(&mut self, entries: &[JournalEntry]) -> Result<(), String> {
        if entries.is_empty() {
            return Ok(());
        }
        let written = append(&mut self.journal, entries);
        if let Err(why) = &written
            && self.broken.is_none()
        {
            tracing::error!(error = %why, "cannot write the journal: nothing is begun until it can");
            let now = boottime();
            self.broken = Some(Broken {
                since: now,
                tried: now,
                late: Vec::new(),
                dropped: 0,
            });
        }
        if written.is_ok() {
            entries.iter().for_each(journal_log::log);
        }
        written
    }

    /// Takes entries of what happened although the journal is broken; they are written first when
    /// it is mended.
    pub fn write_late(&mut self, entries: Vec<JournalEntry>) {
        entries.iter().for_each(journal_log::log);
        let Some(broken) = &mut self.broken else {
            return;
        };
        let room = LATE_MAX.saturating_sub(broken.late.len());
        broken.dropped += entries.len().saturating_sub(room);
        broken.late.extend(entries.into_iter().take(room));
    }

    /// Tries a broken journal again, now and then; true if it has just become whole.
    pub fn mend(&mut self) -> bool {
        let now = boottime();
        let Some(broken) = &mut self.broken else {
            return false;
        };
        if now.since(broken.tried) < RETRY_EVERY {
            return false;
        }
        broken.tried = now;
        // The rest of the last block may take this remark, but not the plan that would follow.
        if self.journal.ensure_room().is_err() {
            return false;
        }
        let mut entries = vec![JournalEntry::Remark {
            text: format!(
                "the journal can be written again after {}; {} entries of that time follow, {} \
                 are lost",
                measured_words(now.since(broken.since)),
                broken.late.len(),
                broken.dropped
            ),
        }];
        entries.extend(broken.late.iter().cloned());
        let mended = append(&mut self.journal, &entries).is_ok();
        if mended {
            tracing::info!("the journal can be written again");
            self.broken = None;
        }
        mended
    }
}

/// The flush may take long on a bad disk; other tasks must go on meanwhile.
fn append(journal: &mut Journal, entries: &[JournalEntry]) -> Result<(), String> {
    let appended = tokio::task::block_in_place(|| journal.append(entries));
    appended.map(drop).map_err(|error| words(&error))
}

/// The error with its causes: "no space left" is the part that matters.
fn words(error: &JournalError) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        words = format!("{words}: {source}");
        cause = source.source();
    }
    words
}
