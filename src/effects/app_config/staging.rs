//! A private copy of a directory tree with new files in it, for programs that can only check all of
//! their configuration at once.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use super::write::failure;
use crate::effects::error::EffectError;

/// The copy, below the directory of the target's memory.
const COPY: &str = "staged";

/// More is no program's configuration.
const ENTRIES_MAX: usize = 10_000;
const BYTES_MAX: u64 = 64 << 20;
const DEPTH_MAX: usize = 32;

/// A copied tree; gone when it is dropped.
#[derive(Debug)]
pub(super) struct StagedTree {
    root: PathBuf,
}

impl StagedTree {
    /// Copies the tree of `source` into `memory_dir`, and puts each new text, which waits in a file
    /// of its own, into its place in the copy.
    pub(super) fn copy<'a>(
        source: &Path,
        memory_dir: &Path,
        new: impl Iterator<Item = (&'a Path, &'a Path)>,
    ) -> Result<Self, EffectError> {
        sweep(memory_dir)?;
        let root = memory_dir.join(COPY);
        let tree = Self { root };
        let mut copying = Copying {
            source,
            root: &tree.root,
            entries: 0,
            bytes: 0,
        };
        copying.directory(source, &tree.root, 0)?;
        for (path, text) in new {
            tree.place(source, path, text)?;
        }
        Ok(tree)
    }

    /// The copy's root.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a file of the tree is in the copy.
    pub(super) fn of(&self, source: &Path, path: &Path) -> Option<PathBuf> {
        Some(self.root.join(path.strip_prefix(source).ok()?))
    }

    fn place(&self, source: &Path, path: &Path, text: &Path) -> Result<(), EffectError> {
        let outside = || {
            EffectError::permanent(format!(
                "{} is not in the tree {}, or a link leads there from outside of it",
                path.display(),
                source.display()
            ))
            .hint("name a directory in stage that really contains the file")
        };
        let place = self.of(source, path).ok_or_else(outside)?;
        let fail = |error| failure("stage", path, error);
        // Nothing outside of the copy may be written to, wherever its links lead.
        let parent = place.parent().ok_or_else(outside)?;
        let parent = fs::canonicalize(parent).map_err(fail)?;
        let root = fs::canonicalize(&self.root).map_err(fail)?;
        if !parent.starts_with(&root) {
            return Err(outside());
        }
        remove_file(&place).map_err(fail)?;
        fs::copy(text, &place).map(|_| ()).map_err(fail)
    }
}

impl Drop for StagedTree {
    fn drop(&mut self) {
        // Best effort: the next attempt removes it too.
        drop(fs::remove_dir_all(&self.root));
    }
}

/// Removes the copy that a crash may have left.
pub(super) fn sweep(memory_dir: &Path) -> Result<(), EffectError> {
    let root = memory_dir.join(COPY);
    match fs::remove_dir_all(&root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failure("remove", &root, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

struct Copying<'a> {
    source: &'a Path,
    root: &'a Path,
    entries: usize,
    bytes: u64,
}

impl Copying<'_> {
    fn directory(&mut self, from: &Path, to: &Path, depth: usize) -> Result<(), EffectError> {
        let fail = |error| failure("stage a copy of", from, error);
        DirBuilder::new().mode(0o700).create(to).map_err(fail)?;
        for entry in fs::read_dir(from).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let kind = entry.file_type().map_err(fail)?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            self.entries += 1;
            if kind.is_file() {
                self.bytes += entry.metadata().map_err(fail)?.len();
            }
            if self.entries > ENTRIES_MAX || self.bytes > BYTES_MAX || depth > DEPTH_MAX {
                return Err(self.too_large());
            }
            if kind.is_dir() {
                self.directory(&from, &to, depth + 1)?;
            } else if kind.is_symlink() {
                let link = fs::read_link(&from).map_err(fail)?;
                symlink(self.inside(&link), &to).map_err(fail)?;
            } else if kind.is_file() {
                fs::copy(&from, &to).map_err(|error| failure("stage a copy of", &from, error))?;
            }
            // Sockets and pipes are no configuration.
        }
        Ok(())
    }

    /// A link to a place of the tree by its full name leads to that place of the copy.
    fn inside(&self, link: &Path) -> PathBuf {
        match link.strip_prefix(self.source) {
            Ok(rest) => self.root.join(rest),
            Err(_) => link.to_owned(),
        }
    }

    fn too_large(&self) -> EffectError {
        EffectError::permanent(format!(
            "{} is too large to be copied: more than {ENTRIES_MAX} entries, {BYTES_MAX} bytes or \
             {DEPTH_MAX} levels",
            self.source.display()
        ))
        .hint("name a smaller directory in stage")
    }
}
