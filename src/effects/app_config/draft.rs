//! The files of one target as they are and as they should be. Looks and computes; changes nothing.
//!
//! Upholds S8: a file whose comment, or a memory which, names a newer epoch is refused.

use std::path::{Path, PathBuf};

use super::block::Block;
use super::format::{ConfigFormat, EditError, format_of};
use super::memory::{ChangedFile, Memory, MemoryDir, hash_of, hash_of_all};
use super::rendering::Rendering;
use super::write::{self, FILE_BYTES_MAX, FileRead};
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
    pub(super) hand: Hand,
    files: Vec<JobFile>,
}

/// Whose work a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    /// A plan's.
    Plan,
    /// That of whoever follows the upstreams between plans: only while no other hand is in it.
    Follower,
    /// A person's, who wants it now, whatever failed before.
    Person,
}

#[derive(Debug)]
struct JobFile {
    path: PathBuf,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    /// These values in a file of this format.
    Edits(&'static dyn ConfigFormat, Vec<ConfigEdit>),
    /// This text as a whole. Without a format the file does not say its epoch; the memory does.
    Whole(Option<&'static dyn ConfigFormat>, Whole),
    /// A block between its two lines, whatever the file's format is.
    Block(Block),
}

#[derive(Debug)]
enum Whole {
    Kept(Vec<u8>),
    Rendered(Rendering),
}

/// What is wanted of a file.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// These values, and all else as it is.
    Edits(Vec<ConfigEdit>),
    /// This text.
    Text(Vec<u8>),
    /// What its template says.
    Render(Rendering),
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
            absent: self.old.absent(),
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
            // A rendered file may be of a format that cannot be edited: it need not be read.
            let rendered = settings.is_some_and(|file| file.template.is_some());
            let format = match (named, rendered) {
                (None, true) => None,
                (Some(_), true) | (_, false) => format_of(named, &path),
            };
            let known = || {
                format.ok_or_else(|| {
                    EffectError::permanent(format!(
                        "app config {}: no format is known for {}",
                        target.name,
                        path.display()
                    ))
                    .hint("name it: format = \"dotenv\", \"ini\", \"json\", …")
                })
            };
            let wanted = match wish {
                Wish::Edits(edits) => Wanted::Edits(known()?, edits),
                Wish::Text(text) if rendered && text.is_empty() => {
                    let what = format!(
                        "app config {}: {} was not there",
                        target.name,
                        path.display()
                    );
                    return Err(EffectError::permanent(what)
                        .hint("choose a newer version, or remove the file by hand"));
                }
                Wish::Text(text) if rendered => Wanted::Whole(format, Whole::Kept(text)),
                Wish::Text(text) => Wanted::Whole(Some(known()?), Whole::Kept(text)),
                Wish::Render(rendering) => Wanted::Whole(format, Whole::Rendered(rendering)),
            };
            Ok(JobFile { path, wanted })
        });
        Ok(Self {
            target: target.name.clone(),
            epoch,
            dir: MemoryDir::of(state_dir, &target.name)?,
            hand: Hand::Plan,
            files: files.collect::<Result<_, EffectError>>()?,
        })
    }

    /// The same as somebody else's work.
    pub(super) fn of_hand(self, hand: Hand) -> Self {
        Self { hand, ..self }
    }

    /// The texts are a person's choice, not what the settings call for.
    pub(super) fn chosen(&self) -> bool {
        let mut files = self.files.iter();
        files.any(|file| matches!(file.wanted, Wanted::Whole(_, Whole::Kept(_))))
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
            hand: Hand::Plan,
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

    fn render(&self, rendering: &Rendering) -> Result<String, EffectError> {
        rendering.text(self.epoch).map_err(|mut error| {
            error.what = format!("app config {}: {}", self.target, error.what);
            error
        })
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

    /// Under this epoch, and not because a person chose a text, the agent wrote the files as they
    /// are, or has begun to.
    pub(super) fn is_ours(&self, memory: &Memory, draft: &Draft) -> bool {
        let as_left = memory.written_hash.as_ref() == Some(&draft.old_hash());
        self.is_current(memory) && (as_left || memory.change.is_some())
    }

    /// Who wrote last did so under this epoch, and not because a person chose a text.
    pub(super) fn is_current(&self, memory: &Memory) -> bool {
        memory.epoch == self.epoch && !memory.chosen
    }

    /// Reads all files and computes what they should become.
    pub(super) fn draft(&self) -> Result<Draft, EffectError> {
        let files = self.files.iter().map(|file| self.draft_of(file));
        Ok(Draft {
            files: files.collect::<Result<_, _>>()?,
        })
    }

    fn draft_of(&self, file: &JobFile) -> Result<DraftFile, EffectError> {
        let old = match &file.wanted {
            Wanted::Whole(_, Whole::Rendered(rendering)) => rendering.read(&file.path)?,
            Wanted::Whole(_, Whole::Kept(_)) | Wanted::Edits(..) | Wanted::Block(_) => {
                write::read(&file.path)?
            }
        };
        write::refuse_irreplaceable(&old)?;
        let (text, changed) = match &file.wanted {
            Wanted::Edits(format, edits) => {
                self.refuse_newer(&file.path, *format, &old.text)?;
                let fail = |error: EditError| self.cannot_edit(&file.path, &error);
                let edited = format.edit(&old.text, edits).map_err(fail)?;
                (
                    self.noted(&file.path, *format, &edited.text)?,
                    edited.changed,
                )
            }
            Wanted::Whole(format, whole) => self.whole(&file.path, *format, whole, &old)?,
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

    /// The text of a file that is replaced as a whole, and what of it changes.
    fn whole(
        &self,
        path: &Path,
        format: Option<&dyn ConfigFormat>,
        whole: &Whole,
        old: &FileRead,
    ) -> Result<(Vec<u8>, Vec<String>), EffectError> {
        if let Some(format) = format.filter(|_| !old.absent()) {
            self.refuse_newer(path, format, &old.text)?;
        }
        let noted = |text: Vec<u8>| match format {
            Some(format) => self.noted(path, format, &text),
            None => Ok(text),
        };
        let (text, changed) = match whole {
            Whole::Kept(text) => {
                let text = noted(text.clone())?;
                let differs = text != noted(old.text.clone())?;
                (text, differs.then(|| "the kept text".to_owned()))
            }
            Whole::Rendered(rendering) => {
                let text = noted(self.render(rendering)?.into_bytes())?;
                let changed = match old.absent() {
                    true => Some("the whole file".to_owned()),
                    false => changed_lines(&noted(old.text.clone())?, &text),
                };
                (text, changed)
            }
        };
        if text.len() as u64 > FILE_BYTES_MAX {
            let what = format!(
                "app config {}: {} would be larger than {FILE_BYTES_MAX} bytes",
                self.target,
                path.display()
            );
            return Err(EffectError::permanent(what));
        }
        Ok((text, changed.into_iter().collect()))
    }

    /// The text with the epoch in it.
    fn noted(
        &self,
        path: &Path,
        format: &dyn ConfigFormat,
        text: &[u8],
    ) -> Result<Vec<u8>, EffectError> {
        let noted = format.with_epoch(text, self.epoch);
        noted.map_err(|error| self.cannot_edit(path, &error))
    }

    fn refuse_newer(
        &self,
        path: &Path,
        format: &dyn ConfigFormat,
        old: &[u8],
    ) -> Result<(), EffectError> {
        let newest = format.epoch(old);
        let newest = newest.map_err(|error| self.cannot_edit(path, &error))?;
        match newest.unwrap_or_default() > self.epoch {
            true => Err(self.too_late(newest.unwrap_or_default(), &path.display().to_string())),
            false => Ok(()),
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

/// Which lines of a text are not as before; `None`: all are.
fn changed_lines(old: &[u8], new: &[u8]) -> Option<String> {
    if old == new {
        return None;
    }
    let lines = |text: &[u8]| text.split_inclusive(|sign| *sign == b'\n').count();
    let same = |pairs: &mut dyn Iterator<Item = (&[u8], &[u8])>| {
        pairs.take_while(|(old, new)| old == new).count()
    };
    let split = |text| <[u8]>::split_inclusive(text, |sign: &u8| *sign == b'\n');
    let first = same(&mut split(old).zip(split(new)));
    let most = lines(old).min(lines(new)) - first;
    let last = same(&mut split(old).rev().zip(split(new).rev()).take(most));
    let (from, to) = (first + 1, lines(new) - last);
    Some(match from < to {
        true => format!("lines {from} to {to}"),
        false => format!("line {from}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_are_named_as_the_new_text_counts_them() {
        let changed = |old: &str, new: &str| changed_lines(old.as_bytes(), new.as_bytes());
        let old = "a\nb\nc\nd\n";
        assert_eq!(changed(old, old), None);
        for (new, words) in [
            ("a\nx\nc\nd\n", "line 2"),
            ("a\nx\ny\nd\n", "lines 2 to 3"),
            ("a\nd\n", "line 2"),
            ("a\nb\nc\nd", "line 4"),
            ("a\nb\nb\nc\nd\n", "line 3"),
            ("", "line 1"),
            ("x\na\nb\nc\nd\n", "line 1"),
        ] {
            assert_eq!(changed(old, new).as_deref(), Some(words), "{new:?}");
        }
        assert_eq!(changed("", "a\nb\n").as_deref(), Some("lines 1 to 2"));
    }
}
