//! What the agent remembers about one target: the epoch and hashes of its last write, the previous
//! versions, and the lock that keeps two writers apart. All under `state_dir/app_config/<target>/`.
//!
//! `written` and `applied` are apart because a file can be right while the app still runs with the
//! old one: a failed reload must never look like "in sync".

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::write;
use crate::effects::error::EffectError;
use crate::model::Epoch;

/// How long another writer of the same target is waited for: longer than a usual reload.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often the lock is tried.
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// Bound on the memory's own file.
const MEMORY_BYTES_MAX: u64 = 64 << 10;
const MEMORY_FILE: &str = "state.json";
const LOCK_FILE: &str = "lock";
const PREVIOUS_PREFIX: &str = "previous-";

/// What is remembered about a target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// The file this is about: another path in `agent.toml` is another file.
    pub(super) path: PathBuf,
    /// The highest epoch that was at work here (S8).
    pub(super) epoch: Epoch,
    /// Hash of the last text that the agent put into the file; noted before the file is replaced.
    pub(super) written_hash: Option<String>,
    /// Hash of the last text that the app was told to read; noted after the reload succeeded.
    pub(super) applied_hash: Option<String>,
}

impl Memory {
    /// True when the agent changed values and the app has not been told, as far as is known.
    pub(super) fn reload_is_due(&self) -> bool {
        self.written_hash.is_some() && self.written_hash != self.applied_hash
    }
}

/// The directory of one target's memory.
#[derive(Debug, Clone)]
pub(super) struct MemoryDir(PathBuf);

impl MemoryDir {
    pub(super) fn of(state_dir: &Path, target: &str) -> Result<Self, EffectError> {
        if target.is_empty() || target.starts_with('.') || target.contains(['/', '\0']) {
            return Err(EffectError::permanent(format!(
                "app config target {target:?} cannot be used as a directory name"
            ))
            .hint("use letters, digits, - and _ in its name"));
        }
        Ok(Self(state_dir.join("app_config").join(target)))
    }

    /// Waits until nobody else works on this target. The lock ends with the returned file.
    pub(super) async fn lock(&self) -> Result<File, EffectError> {
        let path = self.0.join(LOCK_FILE);
        let file = self.open_lock(&path)?;
        let tries = LOCK_WAIT.as_millis() / LOCK_RETRY.as_millis();
        for _ in 0..tries {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_RETRY).await,
                Err(TryLockError::Error(error)) => {
                    return Err(write::failure("lock", &path, error));
                }
            }
        }
        Err(EffectError::retryable(format!(
            "{} is still locked after {LOCK_WAIT:?}: another agent process is at work on it",
            path.display()
        )))
    }

    fn open_lock(&self, path: &Path) -> Result<File, EffectError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|error| write::failure("create", &self.0, error))?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| write::failure("open", path, error))
    }

    /// What is remembered about `path`. A damaged memory means that nobody knows whether the last
    /// write was applied: it is then applied again.
    pub(super) fn load(&self, path: &Path) -> Result<Memory, EffectError> {
        let file = self.0.join(MEMORY_FILE);
        let mut text = Vec::new();
        match File::open(&file) {
            Ok(open) => {
                open.take(MEMORY_BYTES_MAX)
                    .read_to_end(&mut text)
                    .map_err(|error| write::failure("read", &file, error))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Memory {
                    path: path.to_owned(),
                    ..Memory::default()
                });
            }
            Err(error) => return Err(write::failure("read", &file, error)),
        }
        let memory = serde_json::from_slice(&text).unwrap_or(Memory {
            path: path.to_owned(),
            epoch: Epoch::NONE,
            written_hash: Some("unknown".to_owned()),
            applied_hash: None,
        });
        if memory.path == path {
            return Ok(memory);
        }
        // The epoch is the cluster's, the hashes are the other file's.
        Ok(Memory {
            path: path.to_owned(),
            epoch: memory.epoch,
            ..Memory::default()
        })
    }

    pub(super) fn store(&self, memory: &Memory) -> Result<(), EffectError> {
        let file = self.0.join(MEMORY_FILE);
        let text = serde_json::to_vec_pretty(memory).map_err(|error| {
            EffectError::permanent(format!("cannot write {}", file.display())).caused_by(error)
        })?;
        write::write_own(&file, &text)
    }

    /// Keeps `text` as the newest of at most `keep` previous versions. Doing it twice keeps one.
    pub(super) fn keep_previous(&self, text: &[u8], keep: u32) -> Result<(), EffectError> {
        let hash = hash_of(text);
        let short = hash.get(..12).unwrap_or(&hash);
        let mut kept = self.previous()?;
        if keep > 0 && !kept.last().is_some_and(|(_, name)| name.ends_with(short)) {
            let number = kept
                .last()
                .map_or(1, |(number, _)| number.saturating_add(1));
            let name = format!("{PREVIOUS_PREFIX}{number:08}-{short}");
            write::write_own(&self.0.join(&name), text)?;
            kept.push((number, name));
        }
        let surplus = kept.len().saturating_sub(keep as usize);
        for (_, name) in kept.iter().take(surplus) {
            let path = self.0.join(name);
            fs::remove_file(&path).map_err(|error| write::failure("remove", &path, error))?;
        }
        Ok(())
    }

    /// The kept versions with their numbers, oldest first.
    fn previous(&self) -> Result<Vec<(u64, String)>, EffectError> {
        let entries =
            fs::read_dir(&self.0).map_err(|error| write::failure("list", &self.0, error))?;
        let mut kept: Vec<(u64, String)> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let number = name.strip_prefix(PREVIOUS_PREFIX)?.split('-').next()?;
                Some((number.parse().ok()?, name))
            })
            .collect();
        kept.sort();
        Ok(kept)
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn hash_of(text: &[u8]) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
