//! What the agent remembers about one target: the epoch and hashes of its last write, the change
//! that is under way, the one that failed, and the lock that keeps two writers apart. All under
//! `state_dir/app_config/<target>/`.
//!
//! `written` and `applied` are apart because a file can be right while the app still runs with the
//! old one: a failed reload must never look like "in sync".

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{off_thread, write};
use crate::effects::error::EffectError;
use crate::model::plan::PrimaryAt;
use crate::model::{Epoch, Timestamp};

/// How long another writer of the same target is waited for: longer than a usual reload.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How often the lock is tried.
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// Bound on the memory's own file.
const MEMORY_BYTES_MAX: u64 = 1 << 20;
const MEMORY_FILE: &str = "state.json";
const LOCK_FILE: &str = "lock";

/// How long a change that was rolled back is left alone; doubles with each time.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// Never longer than this.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// What is remembered about a target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// The file this is about, or the first of them: another path in `agent.toml` is another file.
    pub(super) path: PathBuf,
    /// The others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) also: Vec<PathBuf>,
    /// The highest epoch that was at work here (S8).
    pub(super) epoch: Epoch,
    /// Hash of the last text that the agent put into the file; noted before the file is replaced.
    pub(super) written_hash: Option<String>,
    /// Hash of the last text that the app was told to read; noted after the reload succeeded.
    pub(super) applied_hash: Option<String>,
    /// The primary that the app was last told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) applied_for: Option<PrimaryAt>,
    /// A person chose the files' texts: they follow nothing until they are told to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) chosen: bool,
    /// The change that is under way, or was when the agent died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<OpenChange>,
    /// The app ran before a change of which it has not been told successfully yet: if it does not
    /// run now, that change has ended it, and not a person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) must_run: bool,
    /// The change that was rolled back last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<FailedChange>,
}

/// A change of all files of a target that has begun: enough to finish it, or to put all back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenChange {
    /// How far it has come.
    pub(super) phase: ChangePhase,
    /// The kept version that holds the old texts.
    pub(super) previous: u64,
    /// The files whose texts change.
    pub(super) files: Vec<ChangedFile>,
    /// Hash of all files together before, and after.
    pub(super) old_hash: String,
    pub(super) new_hash: String,
    /// What was remembered before, in case that nothing changes after all.
    pub(super) written_before: Option<String>,
    pub(super) applied_before: Option<String>,
    #[serde(default)]
    pub(super) chosen_before: bool,
}

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChangePhase {
    /// Some of the files may be new: an interrupted change is put back.
    Renaming,
    /// All files are new; the app is being told, and has yet to prove that it uses them.
    Telling,
    /// The files are being put back, because the app did not take them.
    Undoing,
    /// They are back; the app is being told.
    TellingOld,
}

/// One file of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChangedFile {
    pub(super) path: PathBuf,
    pub(super) old_hash: String,
    pub(super) new_hash: String,
    /// It was not there before.
    #[serde(default)]
    pub(super) absent: bool,
}

/// A change that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FailedChange {
    /// Hash of all files together as they should have become.
    pub(super) hash: String,
    /// How often.
    pub(super) times: u32,
    /// When it may be tried again.
    pub(super) retry_at: Timestamp,
    /// Why it failed.
    pub(super) why: String,
}

impl FailedChange {
    /// The next failure of a change to `hash`.
    pub(super) fn after(
        last: Option<&Self>,
        hash: &str,
        why: &EffectError,
        now: Timestamp,
    ) -> Self {
        let before = last.filter(|last| last.hash == hash);
        let times = before.map_or(0, |last| last.times).saturating_add(1);
        let pause = pause(times);
        let millis = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        Self {
            hash: hash.to_owned(),
            times,
            retry_at: Timestamp(now.0.saturating_add(millis)),
            why: why.to_string(),
        }
    }

    /// How long a change to `hash` must wait yet. A clock that was put back makes nobody wait for
    /// longer than the pause.
    pub(super) fn wait(&self, hash: &str, now: Timestamp) -> Option<Duration> {
        let left = u64::try_from(self.retry_at.0.saturating_sub(now.0)).ok()?;
        let left = Duration::from_millis(left);
        (self.hash == hash && !left.is_zero() && left <= pause(self.times)).then_some(left)
    }
}

fn pause(times: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(times.saturating_sub(1));
    PAUSE_FIRST.saturating_mul(doubled).min(PAUSE_MAX)
}

impl Memory {
    /// Nothing is known of these files.
    fn of(paths: &[PathBuf]) -> Self {
        Self {
            path: paths.first().cloned().unwrap_or_default(),
            also: paths.get(1..).unwrap_or_default().to_vec(),
            ..Self::default()
        }
    }

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

    /// The directory of a target that is known by its place.
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The lock, unless somebody else has it: who comes only to tidy up does not make them wait.
    pub(super) async fn try_lock(&self) -> Result<Option<File>, EffectError> {
        let (path, file) = self.open().await?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(write::failure("lock", &path, error)),
        }
    }

    async fn open(&self) -> Result<(PathBuf, File), EffectError> {
        let dir = self.clone();
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        off_thread(&name, move || {
            let path = dir.0.join(LOCK_FILE);
            dir.open_lock(&path).map(|file| (path, file))
        })
        .await
    }

    /// Waits until nobody else works on this target. The lock ends with the returned file.
    pub(super) async fn lock(&self) -> Result<File, EffectError> {
        let (path, file) = self.open().await?;
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

    /// What is remembered about these files. A damaged memory means that nobody knows whether the
    /// last write was applied: it is then applied again.
    pub(super) fn load(&self, paths: &[PathBuf]) -> Result<Memory, EffectError> {
        let fresh = Memory::of(paths);
        let file = self.0.join(MEMORY_FILE);
        let mut text = Vec::new();
        match File::open(&file) {
            Ok(open) => {
                open.take(MEMORY_BYTES_MAX)
                    .read_to_end(&mut text)
                    .map_err(|error| write::failure("read", &file, error))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(fresh),
            Err(error) => return Err(write::failure("read", &file, error)),
        }
        let Ok(memory) = serde_json::from_slice::<Memory>(&text) else {
            return Ok(Memory {
                written_hash: Some("unknown".to_owned()),
                ..fresh
            });
        };
        if memory.path == fresh.path && memory.also == fresh.also {
            return Ok(memory);
        }
        // The epoch is the cluster's, the hashes are the other files'; what was begun with those
        // must still be ended.
        Ok(Memory {
            epoch: memory.epoch,
            change: memory.change,
            must_run: memory.must_run,
            ..fresh
        })
    }

    pub(super) fn store(&self, memory: &Memory) -> Result<(), EffectError> {
        let file = self.0.join(MEMORY_FILE);
        let text = serde_json::to_vec_pretty(memory).map_err(|error| {
            EffectError::permanent(format!("cannot write {}", file.display())).caused_by(error)
        })?;
        write::write_own(&file, &text)
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn hash_of(text: &[u8]) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The hash of several files together; that of one is its own.
pub(super) fn hash_of_all<'a>(files: impl IntoIterator<Item = (&'a Path, String)>) -> String {
    let files: Vec<_> = files.into_iter().collect();
    if let [(_, hash)] = files.as_slice() {
        return hash.clone();
    }
    let mut digest = Sha256::new();
    for (path, hash) in files {
        digest.update(path.as_os_str().as_encoded_bytes());
        digest.update(b"\0");
        digest.update(hash.as_bytes());
        digest.update(b"\n");
    }
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_another_text_does_not_wait() {
        let why = EffectError::retryable("no");
        let mut failed = FailedChange::after(None, "a", &why, Timestamp(0));
        assert_eq!(
            failed.wait("a", Timestamp(1)),
            Some(Duration::from_millis(4_999))
        );
        assert_eq!(failed.wait("b", Timestamp(1)), None);
        assert_eq!(failed.wait("a", Timestamp(5_000)), None);
        // The clock was put back by a day.
        assert_eq!(failed.wait("a", Timestamp(-86_400_000)), None);
        for _ in 0..40 {
            failed = FailedChange::after(Some(&failed), "a", &why, Timestamp(0));
        }
        assert_eq!(failed.retry_at, Timestamp(600_000));
        let other = FailedChange::after(Some(&failed), "b", &why, Timestamp(0));
        assert_eq!(other.times, 1);
    }

    #[test]
    fn memory_of_one_file_is_read_as_it_was_written_before_there_were_several() {
        let old = r#"{"path":"/a","epoch":3,"written_hash":"x","applied_hash":null}"#;
        let memory: Memory = serde_json::from_str(old).unwrap();
        assert!(memory.reload_is_due() && memory.epoch == Epoch(3));
        assert!(memory.change.is_none() && memory.also.is_empty());
    }
}
