//! App config: files of other programs that name the primary, kept in line with it.
//!
//! Owns: editing a file's values in place ([`dotenv`], [`url`]: pure), replacing the file whole,
//! remembering the epoch, and the reload command. Must not decide which values are right: they
//! come in the plan. Start reading at [`apply`].
//!
//! Upholds S8: a file remembers the epoch that wrote it, in a comment and in `state_dir`, and a
//! lower one is refused.

pub mod dotenv;
mod dotenv_scan;
pub mod format;
mod memory;
mod reload;
pub mod url;
mod write;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::format::{ConfigFormat, EditError, format_of};
use self::memory::{Memory, MemoryDir, hash_of};
use super::error::EffectError;
use crate::config::settings::AppConfig;
use crate::model::Epoch;
use crate::model::plan::ConfigEdit;

/// Bound on reading and replacing one small file: only a hanging file system takes longer.
const FILE_TIMEOUT: Duration = Duration::from_secs(30);

/// What [`apply`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// True when a value of the file is different now.
    pub changed: bool,
    /// One line for people.
    pub note: String,
}

/// What [`observe`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// The file has the wanted values under this epoch, and the app was told.
    AlreadyDone,
    /// Something is left to do.
    Needed {
        /// What, in words.
        what: String,
    },
}

/// Looks whether the file has the wanted values and whether the app was told, changing nothing.
///
/// # Errors
/// When the file cannot be read or edited, or when a newer epoch wrote it.
pub async fn observe(
    target: &AppConfig,
    edits: &[ConfigEdit],
    epoch: Epoch,
    state_dir: &Path,
) -> Result<Observed, EffectError> {
    let job = Job::new(target, edits, epoch, state_dir)?;
    off_thread(target, move || {
        let file = write::read(&job.path)?;
        let memory = job.dir.load(&job.path)?;
        let wanted = job.wanted(&file.text, &memory)?;
        let what = if !wanted.changed.is_empty() {
            format!("{} to be changed", wanted.changed.join(", "))
        } else if memory.reload_is_due() {
            "the app to be told".to_owned()
        } else if wanted.text != file.text || memory.epoch < job.epoch {
            format!("epoch {} to be noted", job.epoch)
        } else {
            return Ok(Observed::AlreadyDone);
        };
        Ok(Observed::Needed { what })
    })
    .await
}

/// Makes the file have the wanted values and the app know. Doing it again changes nothing; an
/// attempt that failed or was killed anywhere is taken up where it stopped.
///
/// # Errors
/// When a value cannot be edited safely, the file cannot be replaced, a newer epoch wrote it, or
/// the reload failed (then the next call runs it again).
pub async fn apply(
    target: &AppConfig,
    edits: &[ConfigEdit],
    epoch: Epoch,
    state_dir: &Path,
) -> Result<Applied, EffectError> {
    let job = Job::new(target, edits, epoch, state_dir)?;
    let lock = job.dir.lock().await?;
    // The lock goes along: if this future is dropped, it must outlast the write that goes on.
    let (job, lock, rewritten) = off_thread(target, move || {
        let rewritten = job.rewrite()?;
        Ok((job, lock, rewritten))
    })
    .await?;
    let Rewritten { changed, memory } = rewritten;
    let mut note = if changed.is_empty() {
        "values were right already".to_owned()
    } else {
        format!("changed {}", changed.join(", "))
    };
    if memory.reload_is_due() {
        if let Some(command) = &target.reload {
            let took = reload::run(&target.name, command, target.reload_timeout).await?;
            note = format!("{note}; reloaded in {} ms", took.as_millis());
        }
        off_thread(target, move || job.note_applied(memory, lock)).await?;
    }
    Ok(Applied {
        changed: !changed.is_empty(),
        note,
    })
}

/// One file, what is wanted of it, and where it is remembered.
#[derive(Debug)]
struct Job {
    target: String,
    path: PathBuf,
    format: &'static dyn ConfigFormat,
    edits: Vec<ConfigEdit>,
    epoch: Epoch,
    dir: MemoryDir,
    keep: u32,
}

/// The text as it should be.
struct Wanted {
    text: Vec<u8>,
    changed: Vec<String>,
}

struct Rewritten {
    changed: Vec<String>,
    memory: Memory,
}

impl Job {
    fn new(
        target: &AppConfig,
        edits: &[ConfigEdit],
        epoch: Epoch,
        state_dir: &Path,
    ) -> Result<Self, EffectError> {
        let format = format_of(&target.path).ok_or_else(|| {
            EffectError::permanent(format!(
                "app config {}: no format is known for {}",
                target.name,
                target.path.display()
            ))
            .hint("dotenv files (KEY=value) can be edited")
        })?;
        Ok(Self {
            target: target.name.clone(),
            path: target.path.clone(),
            format,
            edits: edits.to_vec(),
            epoch,
            dir: MemoryDir::of(state_dir, &target.name)?,
            keep: target.keep,
        })
    }

    /// The text as it should be, unless a newer epoch was here.
    fn wanted(&self, text: &[u8], memory: &Memory) -> Result<Wanted, EffectError> {
        let in_file = self
            .format
            .epoch(text)
            .map_err(|error| self.cannot_edit(&error))?;
        let newest = in_file.unwrap_or_default().max(memory.epoch);
        if newest > self.epoch {
            return Err(EffectError::permanent(format!(
                "app config {}: {} was written under epoch {newest}, newer than {}",
                self.target,
                self.path.display(),
                self.epoch
            ))
            .hint("another site is active now; this one must not change the file any more"));
        }
        let edited = self
            .format
            .edit(text, &self.edits)
            .map_err(|error| self.cannot_edit(&error))?;
        let text = self
            .format
            .with_epoch(&edited.text, self.epoch)
            .map_err(|error| self.cannot_edit(&error))?;
        Ok(Wanted {
            text,
            changed: edited.changed,
        })
    }

    /// Replaces the file if it is not as wanted. The intent is noted first, so that a kill between
    /// the two leaves "not applied" behind, never "in sync".
    fn rewrite(&self) -> Result<Rewritten, EffectError> {
        let file = write::read(&self.path)?;
        let mut memory = self.dir.load(&self.path)?;
        let wanted = self.wanted(&file.text, &memory)?;
        let hash = hash_of(&wanted.text);
        if !wanted.changed.is_empty() {
            self.dir.keep_previous(&file.text, self.keep)?;
            memory.written_hash = Some(hash);
            memory.applied_hash = None;
        } else if wanted.text != file.text && !memory.reload_is_due() {
            // Only the epoch comment changes: nothing that the app would have to read again.
            memory.written_hash = Some(hash.clone());
            memory.applied_hash = Some(hash);
        }
        memory.epoch = self.epoch;
        if memory != self.dir.load(&self.path)? {
            self.dir.store(&memory)?;
        }
        if wanted.text != file.text {
            write::replace(&file, &wanted.text)?;
        }
        Ok(Rewritten {
            changed: wanted.changed,
            memory,
        })
    }

    /// Notes that the app was told, while the lock is still held.
    fn note_applied(&self, mut memory: Memory, lock: File) -> Result<(), EffectError> {
        memory.applied_hash.clone_from(&memory.written_hash);
        self.dir.store(&memory)?;
        drop(lock);
        Ok(())
    }

    fn cannot_edit(&self, error: &EditError) -> EffectError {
        let what = format!(
            "app config {}: cannot edit {}: {error}",
            self.target,
            self.path.display()
        );
        let hint = match error {
            EditError::KeyMissing { .. } => "add the key to the file, or remove it from the edits",
            EditError::KeyRepeated { .. } => "keep one line: programs disagree about which counts",
            EditError::EditedTwice { .. } => "name each key once in the edits",
            EditError::ValueUnwritable { .. } => "put quotes around the value in the file",
            EditError::EpochUnreadable { .. } => "delete that comment line",
            EditError::ValueDoubtful { .. }
            | EditError::Url { .. }
            | EditError::UnclosedQuote { .. } => "write that line in plain KEY=value form",
        };
        EffectError::permanent(what).hint(hint)
    }
}

/// Runs file work where it may block.
async fn off_thread<T: Send + 'static>(
    target: &AppConfig,
    work: impl FnOnce() -> Result<T, EffectError> + Send + 'static,
) -> Result<T, EffectError> {
    let task = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(FILE_TIMEOUT, task).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(EffectError::unknown(format!(
            "app config {}: the work on its file was cut off",
            target.name
        ))
        .caused_by(panic)),
        Err(_) => Err(EffectError::unknown(format!(
            "app config {}: the file system of {} did not answer within {FILE_TIMEOUT:?}",
            target.name,
            target.path.display()
        ))),
    }
}
