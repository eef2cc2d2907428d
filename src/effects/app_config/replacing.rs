//! The work on files of a change, in pieces between which others may be asked: write beside, put
//! into place, put back. Each notes on disk what it is about to do. Everything here blocks.

use std::path::{Path, PathBuf};

use super::draft::{Draft, DraftFile, Job};
use super::generations;
use super::memory::{ChangePhase, Memory, OpenChange, hash_of};
use super::write::{self, NewText};
use crate::effects::clock::wall;
use crate::effects::error::EffectError;

/// Says that a point of a change was passed. Those who follow the log at level debug see how far it
/// has come; the tests kill the process at each of them.
pub(super) fn passed(target: &str, point: &'static str) {
    tracing::debug!(target: "agent::app_config", app_config = target, point);
}

/// New texts that wait beside their files, and what is noted before they take their places.
pub(super) struct Prepared {
    pub(super) memory: Memory,
    /// Every file as it is.
    pub(super) kept: Vec<(PathBuf, Vec<u8>)>,
    pub(super) change: OpenChange,
    pub(super) waiting: Vec<NewText>,
}

/// Writes every new text beside its file.
pub(super) fn prepare(job: &Job, memory: Memory, draft: Draft) -> Result<Prepared, EffectError> {
    let change = OpenChange {
        phase: ChangePhase::Renaming,
        previous: 0,
        old_hash: draft.old_hash(),
        new_hash: draft.new_hash(),
        files: draft
            .files
            .iter()
            .filter(|file| file.differs())
            .map(DraftFile::as_changed)
            .collect(),
        written_before: memory.written_hash.clone(),
        applied_before: memory.applied_hash.clone(),
        chosen_before: memory.chosen,
    };
    let (mut kept, mut waiting) = (Vec::new(), Vec::new());
    for file in draft.files {
        kept.push((file.path.clone(), file.old.text.clone()));
        if file.differs() {
            waiting.push(write::stage(file.old, &file.text)?);
            passed(&job.target, "one staged");
        }
    }
    Ok(Prepared {
        memory,
        kept,
        change,
        waiting,
    })
}

/// Keeps the old texts, notes what is about to happen, and puts every new text into its place. What
/// went wrong in between comes with the memory, in which the change is still open.
pub(super) fn put_all(
    job: &Job,
    prepared: Prepared,
    keep: u32,
    proves: bool,
) -> Result<(Memory, Result<(), EffectError>), EffectError> {
    let Prepared {
        mut memory,
        kept,
        mut change,
        waiting,
    } = prepared;
    let kept: Vec<(&Path, &[u8])> = kept
        .iter()
        .map(|(path, text)| (path.as_path(), text.as_slice()))
        .collect();
    change.previous = generations::keep(&job.dir, &kept, memory.epoch, wall(), keep)?;
    passed(&job.target, "previous kept");
    memory.epoch = job.epoch;
    memory.written_hash = Some(change.new_hash.clone());
    memory.applied_hash = None;
    memory.chosen = job.chosen();
    memory.change = Some(change.clone());
    job.dir.store(&memory)?;
    passed(&job.target, "noted as begun");
    for text in waiting {
        if let Err(error) = text.put() {
            return Ok((memory, Err(error)));
        }
        passed(&job.target, "one renamed");
    }
    // An app that cannot be asked is never rolled back: for it, the change of the files is over.
    let phase = ChangePhase::Telling;
    memory.change = proves.then_some(OpenChange { phase, ..change });
    job.dir.store(&memory)?;
    passed(&job.target, "noted as written");
    Ok((memory, Ok(())))
}

/// Puts the old texts back wherever the new ones are; the files that are neither, which stay.
pub(super) fn put_back(
    job: &Job,
    mut memory: Memory,
    mut change: OpenChange,
) -> Result<(Memory, Vec<String>), EffectError> {
    let mut new = Vec::new();
    let mut left = Vec::new();
    for file in &change.files {
        if file.absent && write::is_absent(&file.path) {
            continue;
        }
        let now = write::read(&file.path)?;
        let hash = hash_of(&now.text);
        if hash == file.new_hash {
            new.push(now);
        } else if hash != file.old_hash {
            left.push(file.path.display().to_string());
        }
    }
    memory.chosen = change.chosen_before;
    if change.phase == ChangePhase::Renaming && new.is_empty() && left.is_empty() {
        memory.written_hash = change.written_before;
        memory.applied_hash = change.applied_before;
        memory.change = None;
        memory.must_run &= memory.reload_is_due();
        job.dir.store(&memory)?;
        return Ok((memory, left));
    }
    change.phase = ChangePhase::Undoing;
    memory.change = Some(change.clone());
    job.dir.store(&memory)?;
    passed(&job.target, "noted as undoing");
    let texts = generations::texts(&job.dir, change.previous)?;
    let made = change.files.iter().filter(|file| file.absent);
    let made: Vec<_> = made.map(|file| file.path.as_path()).collect();
    for now in new {
        if made.contains(&now.path()) {
            write::remove(&now)?;
            passed(&job.target, "one put back");
            continue;
        }
        let old = texts.iter().find(|(path, _)| path == now.path());
        let Some((_, text)) = old else {
            continue;
        };
        write::stage(now, text)?.put()?;
        passed(&job.target, "one put back");
    }
    memory.written_hash = Some(change.old_hash.clone());
    memory.applied_hash = None;
    change.phase = ChangePhase::TellingOld;
    memory.change = Some(change);
    job.dir.store(&memory)?;
    Ok((memory, left))
}

/// Writes the epoch into files whose values are right already.
pub(super) fn note_epoch(job: &Job, before: &Memory, draft: Draft) -> Result<Memory, EffectError> {
    let mut memory = before.clone();
    let hash = draft.new_hash();
    if memory.written_hash.as_ref() != Some(&hash) {
        // Where only our comment changes, the app need not be told. What somebody else wrote may be
        // the very values, of which nobody has told the app.
        let only_ours = before
            .written_hash
            .as_ref()
            .is_none_or(|it| *it == draft.old_hash());
        let due = memory.reload_is_due() || !only_ours;
        memory.applied_hash = (!due).then(|| hash.clone());
        memory.written_hash = Some(hash);
    }
    memory.epoch = job.epoch;
    memory.chosen = job.chosen();
    if memory != *before {
        job.dir.store(&memory)?;
    }
    for file in draft.files {
        if file.differs() {
            write::stage(file.old, &file.text)?.put()?;
        }
    }
    Ok(memory)
}
