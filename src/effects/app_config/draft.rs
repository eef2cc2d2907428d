//! The files of one target as they are and as they should be. Looks and computes; changes nothing.
//!
//! Upholds S8: a file whose comment, or a memory which, names a newer epoch is refused.

use std::path::{Path, PathBuf};

use super::block::Block;
use super::format::{ConfigFormat, EditError, format_of};
use super::memory::{ChangedFile, Memory, MemoryDir, hash_of, hash_of_all};
use super::write::{self, FileRead};
use crate::config::settings::AppConfig;
use crate::effects::error::EffectError;
use crate::model::Epoch;
use crate::model::plan::ConfigEdit;

/// One target's files, what is wanted of them, and where they are remembered.
#[derive(Debug)]
pub(super) struct Job {
    /// The target's name.
    pub(super) target: String,
    pub(super) epoch: Epoch,
    pub(super) dir: MemoryDir,
    /// A person wants it now, whatever failed before.
    pub(super) by_hand: bool,
    files: Vec<JobFile>,
}

#[derive(Debug)]
struct JobFile {
    path: PathBuf,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    /// In a file of this format.
    Wish(&'static dyn ConfigFormat, Wish),
    /// A block between its two lines, whatever the file's format is.
    Block(Block),
}

/// What is wanted of a file.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// These values, and all else as it is.
    Edits(Vec<ConfigEdit>),
    /// This text.
    Text(Vec<u8>),
}

/// All files of a target.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) files: Vec<DraftFile>,
}

/// One file as it is, and as it should be.
#[derive(Debug)]
pub(super) struct DraftFile {
    pub(super) path: PathBuf,
    pub(super) old: FileRead,
    pub(super) text: Vec<u8>,
    /// The keys whose values are different in it.
    pub(super) changed: Vec<String>,
}

impl DraftFile {
    /// True when the file is to be written, if only for its epoch.
    pub(super) fn differs(&self) -> bool {
        self.text != self.old.text
    }

    pub(super) fn as_changed(&self) -> ChangedFile {
        ChangedFile {
            path: self.path.clone(),
            old_hash: hash_of(&self.old.text),
            new_hash: hash_of(&self.text),
        }
    }
}

impl Draft {
    /// True when a value is to be changed, so that the app must be told.
    pub(super) fn changes_values(&self) -> bool {
        self.files.iter().any(|file| !file.changed.is_empty())
    }

    /// Hash of all files as they are.
    pub(super) fn old_hash(&self) -> String {
        let files = self.files.iter();
        hash_of_all(files.map(|file| (file.path.as_path(), hash_of(&file.old.text))))
    }

    /// Hash of all files as they should be.
    pub(super) fn new_hash(&self) -> String {
        let files = self.files.iter();
        hash_of_all(files.map(|file| (file.path.as_path(), hash_of(&file.text))))
    }

    /// The keys that change, and in which file if there are several.
    pub(super) fn changed(&self) -> String {
        let changed = self.files.iter().filter(|file| !file.changed.is_empty());
        let words = changed.map(|file| match self.files.len() {
            1 => file.changed.join(", "),
            _ => format!("{} in {}", file.changed.join(", "), file.path.display()),
        });
        words.collect::<Vec<_>>().join("; ")
    }
}

impl Job {
    pub(super) fn new(
        target: &AppConfig,
        wishes: Vec<(PathBuf, Wish)>,
        epoch: Epoch,
        state_dir: &Path,
    ) -> Result<Self, EffectError> {
        let files = wishes.into_iter().map(|(path, wish)| {
            let settings = target.files.iter().find(|file| file.path == path);
            let named = settings.and_then(|file| file.format.as_deref());
            let format = format_of(named, &path).ok_or_else(|| {
                EffectError::permanent(format!(
                    "app config {}: no format is known for {}",
                    target.name,
                    path.display()
                ))
                .hint("name it: format = \"dotenv\", \"ini\", \"json\", …")
            })?;
            let wanted = Wanted::Wish(format, wish);
            Ok(JobFile { path, wanted })
        });
        Ok(Self {
            target: target.name.clone(),
            epoch,
            dir: MemoryDir::of(state_dir, &target.name)?,
            by_hand: false,
            files: files.collect::<Result<_, EffectError>>()?,
        })
    }

    /// As a person's.
    pub(super) fn by_hand(mut self) -> Self {
        self.by_hand = true;
        self
    }

    /// A block of one file. It does not follow the primary, so it knows no epoch.
    pub(super) fn of_block(
        target: &str,
        path: PathBuf,
        block: Block,
        state_dir: &Path,
    ) -> Result<Self, EffectError> {
        let wanted = Wanted::Block(block);
        Ok(Self {
            target: target.to_owned(),
            epoch: Epoch::NONE,
            dir: MemoryDir::of(state_dir, target)?,
            by_hand: false,
            files: vec![JobFile { path, wanted }],
        })
    }

    /// What is remembered, unless a newer epoch was here.
    pub(super) fn memory(&self) -> Result<Memory, EffectError> {
        let paths: Vec<_> = self.files.iter().map(|file| file.path.clone()).collect();
        let memory = self.dir.load(&paths)?;
        match memory.epoch > self.epoch {
            true => Err(self.too_late(memory.epoch, "its memory")),
            false => Ok(memory),
        }
    }

    /// Removes what a crash may have left beside the files.
    pub(super) fn sweep(&self, memory: &Memory) -> Result<(), EffectError> {
        super::staging::sweep(self.dir.path())?;
        let open = memory.change.iter().flat_map(|change| &change.files);
        let paths = self.files.iter().map(|file| &file.path);
        for path in paths.chain(open.map(|file| &file.path)) {
            write::sweep(path)?;
        }
        Ok(())
    }

    /// Reads all files and computes what they should become.
    pub(super) fn draft(&self) -> Result<Draft, EffectError> {
        let files = self.files.iter().map(|file| self.draft_of(file));
        Ok(Draft {
            files: files.collect::<Result<_, _>>()?,
        })
    }

    fn draft_of(&self, file: &JobFile) -> Result<DraftFile, EffectError> {
        let old = write::read(&file.path)?;
        let (text, changed) = match &file.wanted {
            Wanted::Wish(format, wish) => self.wished(&file.path, *format, wish, &old.text)?,
            Wanted::Block(block) => {
                let text = block
                    .put_into(&old.text)
                    .map_err(|error| error.in_file(&self.target, &file.path))?;
                let changed = (text != old.text).then(|| "its block".to_owned());
                (text, changed.into_iter().collect())
            }
        };
        Ok(DraftFile {
            path: file.path.clone(),
            old,
            text,
            changed,
        })
    }

    /// The text of a file that follows the primary, and which keys of it change.
    fn wished(
        &self,
        path: &Path,
        format: &dyn ConfigFormat,
        wish: &Wish,
        old: &[u8],
    ) -> Result<(Vec<u8>, Vec<String>), EffectError> {
        let fail = |error: EditError| self.cannot_edit(path, &error);
        let newest = format.epoch(old).map_err(fail)?.unwrap_or_default();
        if newest > self.epoch {
            return Err(self.too_late(newest, &path.display().to_string()));
        }
        let with_epoch = |text: &[u8]| format.with_epoch(text, self.epoch).map_err(fail);
        match wish {
            Wish::Edits(edits) => {
                let edited = format.edit(old, edits).map_err(fail)?;
                Ok((with_epoch(&edited.text)?, edited.changed))
            }
            Wish::Text(kept) => {
                let text = with_epoch(kept)?;
                let differs = text != with_epoch(old)?;
                let changed = differs.then(|| "the kept text".to_owned());
                Ok((text, changed.into_iter().collect()))
            }
        }
    }

    fn too_late(&self, newest: Epoch, place: &str) -> EffectError {
        EffectError::permanent(format!(
            "app config {}: {place} was written under epoch {newest}, newer than {}",
            self.target, self.epoch
        ))
        .hint("another site is active now; this one must not change the file any more")
    }

    fn cannot_edit(&self, path: &Path, error: &EditError) -> EffectError {
        let what = format!(
            "app config {}: cannot edit {}: {error}",
            self.target,
            path.display()
        );
        EffectError::permanent(what).hint(error.hint())
    }
}
