//! Files that are replaced as a whole: after a kill at any moment, the old one or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes a private file (0600) of the agent's own, durably.
///
/// # Errors
/// When it cannot be written; then the old file is untouched.
pub(crate) fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut temp = TempFile::beside(path)?;
    temp.file.write_all(text)?;
    temp.file.sync_all()?;
    temp.rename_to(path)
}

/// A private file beside its future place. Its name is fixed, so that one left behind by a crash
/// is found again, and begins with a dot, so that no include pattern such as `conf.d/*` matches it.
#[derive(Debug)]
pub(crate) struct TempFile {
    path: PathBuf,
    /// Open for writing.
    pub(crate) file: File,
    renamed: bool,
}

impl TempFile {
    /// An empty file beside `path`, in the place of one that a crash left there.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let path = sweep(path)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self {
            path,
            file,
            renamed: false,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces `path`, durably. The file's own bytes must have been synced before.
    pub(crate) fn rename_to(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.renamed = true;
        File::open(directory_of(path))?.sync_all()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.renamed {
            // Best effort: the next attempt removes it too.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Removes what a crash may have left beside `path`; where it would be.
pub(crate) fn sweep(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temp = directory_of(path).join(format!(".{name}.agent-tmp"));
    match fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(temp),
    }
}

/// Where a path's file lies.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
