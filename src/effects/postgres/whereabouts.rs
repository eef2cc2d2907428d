//! Where an instance's server worked, kept in the state directory for the next life of agent and
//! guard: should an old copy lie at the path by then, the server is not looked for in that.
//!
//! Device and inode mean the same directory within one boot only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::directory::DirId;
use crate::effects::clock::boot_id;
use crate::effects::whole_file::write_private;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    boot: String,
    directory: DirId,
}

/// The directory that was kept, if it was in this boot. What cannot be read is as good as nothing:
/// then the path says where the instance lives.
pub(super) fn recall(state_dir: &Path) -> Option<DirId> {
    let bytes = fs::read(path(state_dir)).ok()?;
    let kept: Kept = serde_json::from_slice(&bytes).ok()?;
    let boot = boot_id().ok()?;
    (kept.boot == boot).then_some(kept.directory)
}

/// Keeps it.
pub(super) fn keep(state_dir: &Path, directory: DirId) -> io::Result<()> {
    let boot = boot_id()?;
    let kept = serde_json::to_vec(&Kept { boot, directory })?;
    write_private(&path(state_dir), &kept)
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("data-directory.json")
}
