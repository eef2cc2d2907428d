//! Where an instance's server worked, kept in the state directory for the next life of agent and
//! guard: should an old copy lie at the path by then, the server is not looked for in that.
//!
//! Device and inode mean the same directory within one boot only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::directory::DirId;
use super::process::{Instance, scan};
use crate::effects::clock::boot_id;
use crate::effects::error::EffectError;
use crate::effects::whole_file::write_private;
use crate::model::outcome::FailureKind;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    boot: String,
    /// As configured then. Settings that name another one mean another server.
    data_dir: PathBuf,
    directory: DirId,
}

/// The directory that was kept for `data_dir`, if it was in this boot. What cannot be read is as
/// good as nothing: then the path says where the instance lives.
pub(super) fn recall(state_dir: &Path, data_dir: &Path) -> Option<DirId> {
    let bytes = fs::read(path(state_dir)).ok()?;
    let kept: Kept = serde_json::from_slice(&bytes).ok()?;
    let boot = boot_id().ok()?;
    (kept.boot == boot && kept.data_dir == data_dir).then_some(kept.directory)
}

/// Keeps it.
pub(super) fn keep(state_dir: &Path, data_dir: &Path, directory: DirId) -> io::Result<()> {
    let kept = Kept {
        boot: boot_id()?,
        data_dir: data_dir.to_path_buf(),
        directory,
    };
    write_private(&path(state_dir), &serde_json::to_vec(&kept)?)
}

/// Whether a server of the instance works in another directory than the fenced one. One that this
/// process may not look after is not the instance's.
pub(super) fn moved(instance: &Instance, id: &DirId) -> Result<bool, EffectError> {
    match instance.identify() {
        Ok(now) if now.is_same(id) => Ok(false),
        Ok(now) => Ok(!scan(&now)?.is_empty()),
        Err(error) if error.kind == FailureKind::Permanent => Ok(false),
        Err(error) => Err(error),
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("data-directory.json")
}

#[cfg(test)]
mod tests {
    use super::super::directory::dir_id;
    use super::*;

    #[test]
    fn directory_of_other_settings_another_boot_or_a_torn_file_is_not_recalled() {
        let dir = tempfile::tempdir().unwrap();
        let (state_dir, data_dir) = (dir.path(), Path::new("/srv/a"));
        assert_eq!(recall(state_dir, data_dir), None);
        let id = dir_id(state_dir).unwrap();
        keep(state_dir, data_dir, id).unwrap();
        assert_eq!(recall(state_dir, data_dir), Some(id));
        assert_eq!(recall(state_dir, Path::new("/srv/b")), None);

        let text = fs::read_to_string(path(state_dir)).unwrap();
        let elsewhen = text.replace(&boot_id().unwrap(), "00000000-0000-0000-0000-000000000000");
        fs::write(path(state_dir), elsewhen).unwrap();
        assert_eq!(recall(state_dir, data_dir), None);
        fs::write(path(state_dir), &text[..text.len() / 2]).unwrap();
        assert_eq!(recall(state_dir, data_dir), None);
    }
}
